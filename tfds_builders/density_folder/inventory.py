"""What a folder holds: rows of labels.csv, their density files, their labels; reads no density."""

import collections
import csv
import dataclasses
import difflib
import hashlib
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tfds_builders.density_folder.labels import (
    NOT_TARGETS,
    LabelColumn,
    read_labels,
    read_settings,
)
from tfds_builders.density_folder.matching import match_files, plain, relative_name
from tfds_builders.density_folder.problems import Problem
from tfds_builders.density_folder.rows import Row
from tfds_builders.errors import DatasetSourceError

SPLITS = ("auto", "fold", "system", "id")
# Of the digest: a change of how a folder is read builds it again.
_FORMAT, _FORMAT_UNICODE = "1", "2"
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
        columns: the targets.
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

    def unusable(self) -> str:
        """Why no dataset can be made of the folder, '' if one can."""
        if not self.columns:
            reasons = "; ".join(f"{p.column}: {p.message}" for p in self.problems if p.column)
            return (
                f"{self.source}: labels.csv has no column that is a target: add one beside 'file' "
                f"or 'material_id' ({reasons or 'none'})"
            )
        if not self.rows:
            found = sorted({f"{p.kind}: {p.file or p.material_id}" for p in self.problems})
            return (
                f"{self.source}: no row of labels.csv has a density file ({', '.join(found[:3])}); "
                "the column 'file' holds paths relative to the folder, 'material_id' what file "
                "names start with"
            )
        return ""


def take_inventory(source: str | Path, split: str = "auto") -> Inventory:
    """Reads the table of a folder and finds its files.

    Args:
        source: folder that holds labels.csv and, in it or in folders in it, densities.
        split: one of `SPLITS`.

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
    header, table = read_table(folder / "labels.csv")
    split = _resolve_split(split, header, folder)
    files, odd = find_files(folder)
    rows, unmatched = match_files(folder, header, table, files, split)
    ids = [_identity(header, cells) for cells in table]
    cells = {
        name: [row[place] for row in table]
        for place, name in enumerate(header)
        if name not in NOT_TARGETS
    }
    settings = read_settings(folder, list(cells))
    columns, wrong = read_labels(cells, settings, ids)
    return Inventory(
        folder, tuple(rows), tuple(columns), (*odd, *unmatched, *wrong), split,
        _digest(folder, split, header, sorted({*files, *(Path(row.path) for row in rows)}), odd),
    )


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of labels.csv, separated by commas, semicolons or tabs.

    Raises:
        DatasetSourceError: it is not there, not such a table, or lacks 'file' and 'material_id'.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetSourceError(
            f"{path}: {error.strerror}; put a table there with a column 'file' or 'material_id' "
            "and a column for each target"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetSourceError(f"{path} is not UTF-8 text ({error}): save it as such") from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        table = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = list(table)
    except csv.Error as error:
        raise DatasetSourceError(f"{path} is not a table: {error}; mend it") from error
    lines = [[cell.strip() for cell in line] for line in lines]
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    while rows and not any(rows[-1]):
        rows.pop()
    repeated = [name for name, number in collections.Counter(header).items() if number > 1]
    if repeated or "" in header:
        raise DatasetSourceError(
            f"{path}: columns need different names; found "
            + (f"'{repeated[0]}' twice" if repeated and repeated[0] else "one without a name")
        )
    if "file" not in header and "material_id" not in header:
        near = [n for n in header if difflib.get_close_matches(n.lower(), ("file", "material_id"))]
        hint = f" (rename '{near[0]}'?)" if near else ""
        raise DatasetSourceError(
            f"{path} has neither a column 'file' nor 'material_id'{hint}; it has "
            + ", ".join(header)
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DatasetSourceError(
                f"{path}: row {number} has {len(row)} cells, the header {len(header)}; mend it "
                "(a text that holds the separator stands in quotation marks)"
            )
    if not rows:
        raise DatasetSourceError(f"{path} has no rows below its header")
    return header, rows


def find_files(folder: Path) -> tuple[list[Path], list[Problem]]:
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
    folder: Path, split: str, header: Sequence[str], files: Sequence[Path], odd: Sequence[Problem]
) -> str:
    # Columns in other scripts once lost their letters: such a folder is built anew.
    kind = _FORMAT if all(name.isascii() for name in header) else _FORMAT_UNICODE
    digest = hashlib.sha256(f"{kind} {split}\n".encode())
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
