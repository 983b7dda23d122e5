"""Principal components of a block of features.

Hundreds of correlated features beside a pooled trunk would have most of a head's parameters. The
first principal components of the training rows hold nearly all of their variance in fewer numbers.
"""

import dataclasses

import numpy as np

from densityjax.features.standardiser import Standardiser


@dataclasses.dataclass(frozen=True)
class Reduction:
    """Components of one block.

    Attributes:
        scaler: of the features.
        components: float32 [kept, D], orthonormal columns but for their rounding to float16, in
          which they are kept; the largest variance first.
    """

    scaler: Standardiser
    components: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Components [n, D] of features [n, F]; a feature that is NaN counts as the mean."""
        return self.scaler(features) @ self.components


def fit_reduction(features: np.ndarray, size: int) -> Reduction:
    """The first `size` components of training rows [n, F].

    Where n rows have fewer, n - 1 or those of the features that vary, the rest are 0: the network
    of a config has the same shape for every dataset.
    """
    scaler = Standardiser.fit(features)
    values = scaler(features).astype(np.float64)  # [n, kept]
    count = min(size, values.shape[0] - 1, values.shape[1])
    _, vectors = np.linalg.eigh(np.atleast_2d(np.cov(values, rowvar=False)))  # ascending
    components = vectors[:, ::-1][:, :count]  # [kept, count]
    # The sign of a component is arbitrary: its largest entry is positive on every machine.
    largest = components[np.abs(components).argmax(axis=0), np.arange(count)]
    found = np.zeros((values.shape[1], size), np.float32)  # [kept, D]
    found[:, :count] = components * np.sign(largest)
    return Reduction(scaler, rounded(found))


def rounded(values: np.ndarray) -> np.ndarray:
    """Values as float16 holds them, float32: rounded before they are used, files lose nothing."""
    return values.astype(np.float16).astype(np.float32)
