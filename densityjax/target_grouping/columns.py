"""Labels of targets, the materials that targets share, and resamples of those materials."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec, labelled

MIN_SHARED = 20  # materials with both labels
LOW_OVERLAP = 0.30  # of the materials with either label


class GroupingError(UserError):
    """Targets that cannot be compared or grouped; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Column:
    """Labels of one target.

    Attributes:
        spec: the target.
        values: [n] intensive labels, NaN = missing; classes: int index, -1 = missing.
    """

    spec: TargetSpec
    values: np.ndarray

    @property
    def is_class(self) -> bool:
        """Whether the values are indices of classes."""
        return self.spec.kind == "classification"

    @property
    def labelled(self) -> np.ndarray:
        """[n] bool."""
        return labelled(self.spec, self.values)

    @property
    def varies(self) -> bool:
        """Whether two of the values differ."""
        return self.values.size > 0 and bool(np.any(self.values != self.values[0]))

    def take(self, rows: np.ndarray) -> "Column":
        """The same target at some materials."""
        return Column(self.spec, self.values[rows])


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Materials that targets share.

    Attributes:
        shared: [T, T] int, materials with both labels; on the diagonal with the one.
        fraction: [T, T], `shared` over the materials with either label.
        low: [T, T] bool, `fraction` under LOW_OVERLAP.
    """

    shared: np.ndarray
    fraction: np.ndarray
    low: np.ndarray


def target_pairs(size: int) -> Iterator[tuple[int, int]]:
    """Positions (i, j), i < j, of all pairs of `size` targets."""
    return itertools.combinations(range(size), 2)


def find_overlap(columns: Sequence[Column]) -> Overlap:
    """Counts the materials that targets share, and checks that there is enough to compare.

    Raises:
        GroupingError: a target has no two different labels, alone or among the materials that it
          shares with another; or two targets share fewer than MIN_SHARED.
    """
    names = [column.spec.name for column in columns]
    labelled = np.stack([column.labelled for column in columns])  # [T, n]
    for column, mask in zip(columns, labelled, strict=True):
        if not column.take(mask).varies:
            raise GroupingError(
                f"target '{column.spec.name}' has {mask.sum()} labels and no two different ones in "
                "the training folds: remove it from config.targets"
            )
    shared = labelled.astype(int) @ labelled.T.astype(int)  # [T, T]
    for i, j in target_pairs(len(columns)):
        if shared[i, j] < MIN_SHARED:
            raise GroupingError(
                f"targets '{names[i]}' and '{names[j]}' share {shared[i, j]} labelled materials in "
                f"the training folds, and a comparison needs {MIN_SHARED}: leave one of them out "
                "of config.targets, or use a dataset with more labels of both"
            )
        for one, other in ((i, j), (j, i)):
            if not columns[one].take(labelled[i] & labelled[j]).varies:
                raise GroupingError(
                    f"target '{names[one]}' has no two different labels among the {shared[i, j]} "
                    f"materials that it shares with '{names[other]}' in the training folds: leave "
                    "one of them out of config.targets"
                )
    own = np.diag(shared)
    fraction = shared / (own[:, None] + own[None, :] - shared)
    return Overlap(shared, fraction, fraction < LOW_OVERLAP)


def resample_systems(systems: np.ndarray, resamples: int, seed: int, half: bool) -> np.ndarray:
    """Resamples chemical systems, the independent units, with all their materials.

    Args:
        systems: [n] str.
        half: half of the systems without replacement, which to first order has the variance of
          the bootstrap and no copies; else the bootstrap, as many systems with replacement.

    Returns:
        [resamples, n] int, how often each material is in each.
    """
    names, inverse = np.unique(systems, return_inverse=True)
    rng = np.random.default_rng([seed, 2])
    counts = np.zeros((resamples, len(names)), int)
    for row in counts:
        if half:
            row[rng.choice(len(names), max(1, len(names) // 2), replace=False)] = 1
        else:
            row += np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
    return counts[:, inverse]
