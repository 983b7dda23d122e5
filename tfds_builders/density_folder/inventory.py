"""What a folder holds: rows of labels.csv, density files, labels; reads no density."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tfds_builders.density_folder.folds import folds_of_words, from_one
from tfds_builders.density_folder.labels import (
    NOT_TARGETS,
    LabelColumn,
    read_labels,
)
from tfds_builders.density_folder.matching import match_files, relative_name
from tfds_builders.density_folder.names import plain
from tfds_builders.density_folder.problems import Problem, reasons
from tfds_builders.density_folder.reading import note, read_table
from tfds_builders.density_folder.rows import Row
from tfds_builders.density_folder.settings import read_settings
from tfds_builders.density_folder.unlabelled import unlisted_rows
from tfds_builders.errors import DatasetSourceError

SPLITS = ("auto", "fold", "system", "id")
LABELS = ("required", "optional", "none")
# Of the digest: a change of how a folder is read builds it again.
_FORMAT = "4"
_MOST_REASONS = 3  # in a message
# What a density file is called, without .gz and the like; others need a row of labels.csv.
_DENSITY_NAME = re.compile(
    r".*(chg|aeccar|parchg).*|.*\.(vasp|cube|cub|xsf|json|parquet)", re.IGNORECASE
)
# Folders of the system that have no end, or files that are none.
_SYSTEM = tuple(Path(name) for name in ("/proc", "/sys", "/dev"))


@dataclasses.dataclass(frozen=True)
class Inventory:
    """A folder before any density is read.

    Attributes:
        rows: those with a density, in the order of labels.csv.
        columns: the targets; none where densities alone are wanted.
        labelled: whether they are not.
        split: 'fold', 'system' or 'id'.
        digest: changes with labels.csv, targets.toml, the density files (names, sizes, times of
          change) and the split.
    """

    source: Path
    rows: tuple[Row, ...]
    columns: tuple[LabelColumn, ...]
    problems: tuple[Problem, ...]
    split: str
    digest: str
    labelled: bool = True

    def unusable(self) -> str:
        """Why no dataset can be made of the folder, '' if one can."""
        if not self.labelled:
            return "" if self.rows else f"{self.source}: no file in it is called like a density"
        if not self.columns:
            found = reasons([p for p in self.problems if p.column and p.kind != "read as"])
            return (
                f"{self.source}: labels.csv has no column that is a target: add one beside 'file' "
                f"or 'material_id' ({_some(found) or 'none'})"
            )
        if not self.rows:
            found = _some(reasons([p for p in self.problems if p.row]))
            files = [p.file for p in self.problems if p.kind == "density without labels"]
            beside = f"; {len(files)} files in the folder, such as {files[0]}" if files else ""
            return (
                f"{self.source}: no row of labels.csv has a density file ({found}{beside}); "
                "the column 'file' holds paths relative to the folder, 'material_id' what file "
                "names start with"
            )
        return ""


def _some(found: Sequence[str]) -> str:
    """The first reasons, for a message; problems.csv has all."""
    return "; ".join(found[:_MOST_REASONS]) + "; ..." * (len(found) > _MOST_REASONS)


def take_inventory(
    source: str | Path, split: str = "auto", labels: str = "required"
) -> Inventory:
    """Reads the table of a folder and finds its files.

    Args:
        source: folder that holds labels.csv and, in it or in folders in it, densities.
        split: one of `SPLITS`.
        labels: one of `LABELS`. 'none' takes every density: those of labels.csv, if there is one,
          by its ids, and the others by their files' names; 'optional' does so without a table.

    Raises:
        DatasetSourceError: there is no such folder or table, or it cannot be read.
    """
    if not str(source):
        raise DatasetSourceError(
            "config.data.source is empty: name the folder that holds labels.csv and the densities, "
            "--config.data.source=/my/folder"
        )
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise DatasetSourceError(f"{source} is not a folder: config.data.source must name one")
    if split not in SPLITS:
        raise DatasetSourceError(f"config.data.split='{split}' is not one of {', '.join(SPLITS)}")
    if labels not in LABELS:
        raise DatasetSourceError(f"labels='{labels}' is not one of {', '.join(LABELS)}")
    if labels == "none" or (labels == "optional" and not (folder / "labels.csv").exists()):
        return _of_densities_alone(folder, split)
    read = read_table(folder / "labels.csv")
    header, table, notes = _with_fold_numbers(read.header, read.rows)
    split = _resolve_split(split, header, folder)
    files, odd = files_below(folder)
    rows, unmatched = match_files(folder, header, table, files, split)
    if text := from_one([row.fold for row in rows if row.fold is not None]):
        notes.append(note(text, "fold"))
    ids = [_identity(header, cells) for cells in table]
    cells = {
        name: [row[place] for row in table]
        for place, name in enumerate(header)
        if name not in NOT_TARGETS
    }
    settings = read_settings(folder, list(cells))
    columns, wrong = read_labels(cells, settings, ids, read.separator)
    return Inventory(
        folder, tuple(rows), tuple(columns), (*read.notes, *notes, *odd, *unmatched, *wrong), split,
        _digest(folder, split, sorted({*files, *(Path(row.path) for row in rows)}), odd),
    )


def _of_densities_alone(folder: Path, split: str) -> Inventory:
    """Every density of a folder; of labels.csv, where there is one, ids and files are taken."""
    if split == "fold":
        raise DatasetSourceError(
            "config.data.split='fold' needs a table: densities without labels are split by "
            "'system' or 'id'"
        )
    split = "system" if split == "auto" else split
    files, problems = files_below(folder)
    problems = list(problems)
    named: list[Row] = []
    num_lines = 0
    if (folder / "labels.csv").exists():
        read = read_table(folder / "labels.csv")
        num_lines = len(read.rows)
        named, wrong = match_files(folder, read.header, read.rows, files, split)
        unimportant = ("density without labels", "labels missing")
        problems += [problem for problem in wrong if problem.kind not in unimportant]
    rows = [*named, *unlisted_rows(folder, files, named, num_lines)]
    paths = sorted({*files, *(Path(row.path) for row in rows)})
    digest = _digest(folder, f"{split} without labels", paths, problems)
    return Inventory(folder, tuple(rows), (), tuple(problems), split, digest, labelled=False)


def files_below(folder: Path) -> tuple[list[Path], list[Problem]]:
    """Files that are called like densities, in the folder and all folders in it, sorted.

    Links to folders are followed, but not out of the folder upwards, which would be without end.

    Returns:
        (files; what could not be looked at: links to nothing, folders that cannot be read).
    """
    files: list[Path] = []
    problems: list[Problem] = []

    def odd(kind: str, path: str | Path, message: str) -> None:
        name = relative_name(folder, Path(path))
        problems.append(Problem(kind, "file left out", message, file=name))

    def unreadable(error: OSError) -> None:
        odd("unreadable folder", error.filename, f"{error.strerror}: mend its permissions")

    root = Path(os.path.realpath(folder))
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(parent)
        if real in visited:  # a link in a circle
            folders.clear()
            continue
        visited.add(real)
        kept = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            path = Path(parent, name)
            target = Path(os.path.realpath(path))
            if path.is_symlink() and (
                target in root.parents or any(target.is_relative_to(place) for place in _SYSTEM)
            ):
                odd("link not followed", path, f"it leads to {target}: link to the densities alone")
            else:
                kept.append(name)
        folders[:] = kept
        for name in sorted(names):
            if name.startswith(".") or not _DENSITY_NAME.fullmatch(plain(name)):
                continue
            path = Path(parent, name)
            if path.is_symlink() and not path.exists():
                message = "a link to nothing: fetch its content (git annex get, datalad get)"
                odd("missing file", path, message)
            else:
                files.append(path)
    return files, problems


def _with_fold_numbers(
    header: list[str], rows: list[list[str]]
) -> tuple[list[str], list[list[str]], list[Problem]]:
    """The table with numbers in a column 'fold' that says train, validation and test.

    Without one a column 'split' or the like that says so is taken for it.
    """
    lowered = [name.lower() for name in header]
    for name in ("fold", "split", "set", "subset", "partition"):
        if name not in lowered or (name != "fold" and "fold" in lowered):
            continue
        place = lowered.index(name)
        numbers = folds_of_words([row[place] for row in rows])
        if numbers is None:
            continue
        named = [*header[:place], "fold", *header[place + 1 :]]
        table = [
            [*row[:place], number, *row[place + 1 :]] for row, number in zip(rows, numbers)
        ]
        text = (
            f"column '{header[place]}': test is fold 0, validation fold 1, training the others in "
            "turn"
        )
        return named, table, [note(text, header[place])]
    return header, rows, []


def _resolve_split(split: str, header: Sequence[str], folder: Path) -> str:
    if split == "auto":
        return "fold" if "fold" in header else "system"
    if split == "fold" and "fold" not in header:
        raise DatasetSourceError(
            f"config.data.split='fold', and {folder}/labels.csv has no column 'fold': add one with "
            "numbers from 0, or take another split"
        )
    return split


def _identity(header: Sequence[str], cells: Sequence[str]) -> str:
    name = "material_id" if "material_id" in header else "file"
    return cells[header.index(name)]


def _digest(
    folder: Path, split: str, files: Sequence[Path], odd: Sequence[Problem]
) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {split}\n".encode())
    for name in ("labels.csv", "targets.toml"):
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"none")
        digest.update(b"\0")
    for path in files:
        status = path.stat()
        line = f"{relative_name(folder, path)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    for problem in odd:
        digest.update(f"{problem.file}\0{problem.kind}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]
