"""Features in standard deviations of the training rows."""

import dataclasses

import numpy as np

_CLIP = 6.0  # standard deviations


@dataclasses.dataclass(frozen=True)
class Standardiser:
    """Features of a block in standard deviations of the training rows, without constant ones.

    Attributes:
        kept: [F] bool, those that vary among the training rows.
        mean, std: [kept] of the training rows.
    """

    kept: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> "Standardiser":
        """Of training rows [n, F]; NaN, which is what could not be determined, is left out."""
        values = np.ma.masked_invalid(np.asarray(features, np.float64))
        mean, std = values.mean(axis=0).filled(0.0), values.std(axis=0).filled(0.0)  # [F]
        kept = std > 1e-6 * np.maximum(1.0, abs(mean))
        return cls(kept, mean[kept], std[kept])

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """[n, kept] float32 within 6 standard deviations; NaN becomes the mean, 0."""
        scaled = (np.asarray(features, np.float64)[:, self.kept] - self.mean) / self.std
        return np.clip(np.nan_to_num(scaled, nan=0.0), -_CLIP, _CLIP).astype(np.float32)
