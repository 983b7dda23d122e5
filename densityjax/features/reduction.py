"""Principal components of blocks of features: the descriptors that enter a network.

Hundreds of correlated features beside a pooled trunk would have most of a head's parameters. The
first principal components of the training rows hold nearly all of their variance in fewer numbers.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from densityjax.features.standardiser import Standardiser
from densityjax.runtime.errors import ConfigError
from densityjax.runtime.files import replaced


@dataclasses.dataclass(frozen=True)
class Reduction:
    """Components of one block.

    Attributes:
        scaler: of the features.
        components: float32 [kept, D], orthonormal columns; the largest variance first.
    """

    scaler: Standardiser
    components: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Components [n, D] of features [n, F]; a feature that is NaN counts as the mean."""
        return self.scaler(features) @ self.components


@dataclasses.dataclass(frozen=True)
class Descriptors:
    """What enters a network beside the density: components of each block, in their order.

    Attributes:
        reductions: {block: its reduction}; empty for a network that sees the density alone.
    """

    reductions: Mapping[str, Reduction]

    @property
    def size(self) -> int:
        """Numbers per material."""
        return sum(reduction.components.shape[1] for reduction in self.reductions.values())

    def __call__(self, features: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """[rows, size] float32 of features {block: [rows, F]}."""
        found = [np.zeros((rows, 0), np.float32)]
        found += [reduction(features[block]) for block, reduction in self.reductions.items()]
        return np.concatenate(found, axis=1)

    def save(self, path: Path) -> None:
        """Replaces a NumPy archive in one step."""
        arrays = {}
        for block, reduction in self.reductions.items():
            arrays |= {f"{block}/{k}": v for k, v in vars(reduction.scaler).items()}
            arrays[f"{block}/components"] = reduction.components
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, blocks=np.array(list(self.reductions), np.str_), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Descriptors":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as content:
            return cls({
                str(block): Reduction(
                    Standardiser(*(content[f"{block}/{k}"] for k in ("kept", "mean", "std"))),
                    content[f"{block}/components"],
                )
                for block in content["blocks"]
            })


def fit_descriptors(
    features: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> Descriptors:
    """Principal components of training rows.

    Args:
        features: {block: [n, F]} of the training rows.
        sizes: {block: components}; a block of 0 is left out.

    Raises:
        ConfigError: more components than there are rows or features that vary.
    """
    return Descriptors({
        block: _fit(block, features[block], size) for block, size in sizes.items() if size
    })


def _fit(block: str, features: np.ndarray, size: int) -> Reduction:
    scaler = Standardiser.fit(features)
    values = scaler(features).astype(np.float64)  # [n, kept]
    most = min(values.shape[0] - 1, values.shape[1])
    if size > most:
        raise ConfigError(
            f"config.input.{block}={size}: the {len(values)} training materials have {most} "
            "components at most; ask for fewer"
        )
    _, vectors = np.linalg.eigh(np.atleast_2d(np.cov(values, rowvar=False)))  # ascending
    components = vectors[:, ::-1][:, :size]  # [kept, D]
    # The sign of a component is arbitrary: its largest entry is positive on every machine.
    largest = components[np.abs(components).argmax(axis=0), np.arange(size)]
    return Reduction(scaler, (components * np.sign(largest)).astype(np.float32))

