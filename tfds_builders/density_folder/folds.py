"""Which fold a material belongs to: a function of the folder's content alone."""

import collections
import itertools
from collections.abc import Sequence

from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import NUM_FOLDS, hash_of

# What people call the parts of a split; the training part is cut into folds, since folds are what
# a run names: config.data.train_folds, validation_fold, test_fold.
_PARTS = {
    "test": "test", "testing": "test", "holdout": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "train": "train", "training": "train", "tr": "train",
}


def folds_of_words(cells: Sequence[str]) -> list[str] | None:
    """Numbers of folds for cells that name parts of a split, None where they do not.

    Test is fold 0 and validation fold 1, as the configs have it; training is dealt out to folds 2
    to 4 in the order of the table, and to folds 1 to 4 where no row is for validation.

    Args:
        cells: [n] 'train', 'val', 'test' and the like in any case; '' and, where most cells are
          such, other words stay.
    """
    parts = [_PARTS.get(cell.strip().lower()) for cell in cells]
    unknown = sum(bool(cell.strip()) and not part for cell, part in zip(cells, parts))
    if 2 * unknown > len(cells) or not {"train", "test"} <= set(parts):
        return None
    training = (2, 3, 4) if "validation" in parts else (1, 2, 3, 4)
    dealt = itertools.cycle(training)
    fold = {"test": lambda: 0, "validation": lambda: 1, "train": lambda: next(dealt)}
    return [str(fold[part]()) if part else cell for cell, part in zip(cells, parts)]


def from_one(folds: Sequence[int]) -> str:
    """What to say of folds that are counted from 1, '' for others: runs count from 0."""
    if not folds or min(folds) == 0:
        return ""
    first, last = min(folds), max(folds)
    return (
        f"no row has fold 0 (there are {first} to {last}), and a run tests on it unless told "
        f"otherwise: count folds from 0, or name those of a run, such as --config.data.test_fold="
        f"{first} --config.data.validation_fold={first + 1}"
        + (f' --config.data.train_folds="{first + 2},"' if last > first + 1 else "")
    )


def assign_folds(
    split: str, ids: Sequence[str], systems: Sequence[str], given: Sequence[int | None],
    may_be_empty: bool = False,
) -> list[int]:
    """Fold of each material.

    Args:
        split: 'fold' takes those given; 'id' hashes the material id, so that a material keeps its
          fold when others come and go; 'system' keeps every chemical system in one fold, largest
          first into the smallest fold, so that folds are of nearly equal size.
        ids, systems, given: [n] of each material.
        may_be_empty: whether a fold may have no material.

    Raises:
        DatasetSourceError: a fold would be empty.
    """
    if split == "fold":
        return list(given)
    if split == "id":
        folds = [hash_of(name) % NUM_FOLDS for name in ids]
    else:
        sizes = [0] * NUM_FOLDS
        fold_of: dict[str, int] = {}
        counts = collections.Counter(systems)
        for system in sorted(counts, key=lambda name: (-counts[name], hash_of(name))):
            fold_of[system] = sizes.index(min(sizes))
            sizes[fold_of[system]] += counts[system]
        folds = [fold_of[system] for system in systems]
    empty = sorted(set(range(NUM_FOLDS)) - set(folds))
    if empty and not may_be_empty:
        held = (
            f"{len(ids)} materials of {len(set(systems))} chemical systems, split by "
            f"{'hash of the id' if split == 'id' else 'chemical system'},"
        )
        other = "system" if split == "id" else "id"
        raise DatasetSourceError(
            f"{held} leave fold {', '.join(map(str, empty))} of {NUM_FOLDS} without one: add "
            f"materials, give a column 'fold' in labels.csv, or try --config.data.split={other}"
        )
    return folds
