"""Density files that no table names: which of them are materials, and what those are called."""

import collections
from collections.abc import Sequence
from pathlib import Path

from tfds_builders.density_folder.matching import relative_name
from tfds_builders.density_folder.names import is_beside, is_of_run, keys, no_density, plain, rank
from tfds_builders.density_folder.rows import Row

_CHG = 3  # of `names.rank`: beyond are parts of a density and backups
_BARE = 3  # of `names.keys`: a file's name without its kind and format


def unlisted_rows(
    folder: Path, files: Sequence[Path], named: Sequence[Row], first: int
) -> list[Row]:
    """A row for each density that no row names, the first of a run's files alone.

    Args:
        files: that are called like densities, see `inventory.files_below`.
        named: rows of labels.csv with their files.
        first: index of the first new row.
    """
    taken = {Path(row.path) for row in named}
    ids = {row.material_id for row in named}
    by_place: dict[Path, list[Path]] = collections.defaultdict(list)
    for path in files:
        by_place[_place(path)].append(path)
    runs = {path.parent for path in files if is_of_run(path)}
    chosen = []
    for place, same in by_place.items():
        best = min(same, key=rank)
        beside = place.parent in runs and is_beside(best) and not is_of_run(best)
        if not (beside or taken.intersection(same) or _is_other(best)):
            chosen.append(best)
    names = [_called(folder, path) for path in chosen]
    times = collections.Counter(names)
    rows = []
    for path, name in zip(chosen, names):
        if times[name] > 1 or name in ids:
            name = plain(relative_name(folder, path))
        row = Row(first + len(rows), name, relative_name(folder, path), str(path), None, False)
        rows.append(row)
    return rows


def _place(path: Path) -> Path:
    """The same for files of which one is taken: CHGCAR and CHG of a run, plain and compressed."""
    return path.with_name("CHGCAR" if is_of_run(path) else plain(path.name))


def _is_other(path: Path) -> bool:
    """Whether a file is by its name a backup, or certainly no density."""
    return rank(path)[0] > _CHG or bool(no_density(path, material=""))


def _called(folder: Path, path: Path) -> str:
    """mp-1 for mp-1/CHGCAR, mp-1.CHGCAR.gz, CHGCAR_mp-1 and mp-1.json."""
    if is_of_run(path) and path.parent != folder:
        return relative_name(folder, path.parent)
    return next(name for place, name in keys(folder, path) if place == _BARE)
