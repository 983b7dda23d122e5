"""Which density file belongs to which row of labels.csv."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfds_builders.density_folder.cells import is_missing
from tfds_builders.density_folder.labels import NOT_TARGETS
from tfds_builders.density_folder.names import (
    is_beside,
    is_of_run,
    keys,
    loose,
    no_density,
    plain,
    rank,
    spellings,
)
from tfds_builders.density_folder.problems import Problem
from tfds_builders.density_folder.rows import Row

MAX_FOLD = int(np.iinfo(np.int32).max)  # records hold the fold as int32
_Names = dict[str, dict[Path, int]]  # {what a material may be called: {file: how exact}}
MAX_ID = 10_000  # characters; arrays of ids take as much for each as for the longest


class _LeftOutError(Exception):
    """A row gets no density; kind and message are those of its problem."""

    def __init__(self, kind: str, message: str):
        super().__init__(kind, message)
        self.kind, self.message = kind, message


def match_files(
    folder: Path, header: Sequence[str], table: Sequence[Sequence[str]], files: Sequence[Path],
    split: str,
) -> tuple[list[Row], list[Problem]]:
    """Rows with their files, and what is wrong with the others.

    Args:
        header, table: of labels.csv.
        files: density files in the folder.
        split: 'fold' if rows must have one.
    """
    owners = _Owners(folder, files)
    rows: list[Row] = []
    problems: list[Problem] = []
    for index, cells in enumerate(table):
        if not any(cells):
            continue  # a blank line
        row = dict(zip(header, cells))
        material = row.get("material_id") or row.get("file", "")
        known = {"row": index + 2, "material_id": material, "file": row.get("file", "")}
        try:
            path = owners.find(row.get("file", ""), material)
            known["file"] = file = relative_name(folder, path)
            owners.claim(path, material, line=index + 2)
            fold = _fold(row["fold"]) if split == "fold" else None
        except _LeftOutError as error:
            problems.append(Problem(error.kind, "row left out", error.message, **known))
            continue
        if _has_no_label(row):
            message = "the row has no label: the density serves no target"
            problems.append(Problem("labels missing", "kept", message, **known))
        rows.append(Row(index, material, file, str(path), fold))
    for path in owners.unnamed(files):
        message = "no row of labels.csv names it: add one"
        name = relative_name(folder, path)
        problems.append(Problem("density without labels", "file left out", message, file=name))
    return rows, problems


class _Owners:
    """The files of a folder by what a material may be called, and which row has which."""

    def __init__(self, folder: Path, files: Sequence[Path]):
        self._folder = folder
        self._by_key: _Names = {}
        # In other spellings: without regard to case, hyphens, and zeros in front of numbers.
        self._by_loose_key: _Names = {}
        for path in files:
            for place, key in keys(folder, path):
                for names, name in ((self._by_key, key), (self._by_loose_key, loose(key))):
                    names.setdefault(name, {}).setdefault(path, place)  # the most exact is first
        self._named: set[Path] = set()
        self._line_of_id: dict[str, int] = {}
        self._line_of_file: dict[str, int] = {}

    def find(self, file: str, material: str) -> Path:
        """The file of a row. Raises _LeftOutError if there is none, or not one."""
        if not material:
            raise _LeftOutError(
                "no density named", "neither file nor material_id: fill in one of them"
            )
        if len(material) > MAX_ID:
            raise _LeftOutError(
                "no density named", f"an id of {len(material)} characters: {MAX_ID} at most"
            )
        if file:
            path = self._named_file(file)
            self._named.add(path)
            return path
        found = self._best(material)
        self._named.update(found)
        if len(found) > 1:
            listed = ", ".join(path.relative_to(self._folder).as_posix() for path in found[:3])
            raise _LeftOutError(
                "missing file", f"several files fit: {listed}; name one in a column 'file'"
            )
        if found and (kind := no_density(found[0], material)):
            raise _LeftOutError(
                "missing file",
                f"only {relative_name(self._folder, found[0])} is called so, by its name {kind}: "
                "add the density or, if it is one, name it in a column 'file'",
            )
        if not found:
            raise _LeftOutError(
                "missing file",
                "no density is called so: expected a file ID.CHGCAR, CHGCAR_ID, ID/CHGCAR or the "
                "like, plain or compressed",
            )
        return found[0]

    def claim(self, path: Path, material: str, line: int) -> None:
        """Notes whose a file is. Raises _LeftOutError if an earlier row has the id or the file."""
        real = os.path.realpath(path)
        if material in self._line_of_id:
            raise _LeftOutError(
                "duplicate id", f"row {self._line_of_id[material]} has this id already, and is kept"
            )
        if real in self._line_of_file:
            raise _LeftOutError(
                "duplicate file",
                f"row {self._line_of_file[real]} has this file already, and is kept",
            )
        self._line_of_id[material] = self._line_of_file[real] = line

    def unnamed(self, files: Sequence[Path]) -> Iterator[Path]:
        """Files that no row names, nor lie as VASP's other files beside one that a row names."""
        named = {os.path.realpath(path) for path in self._named}
        folders = {path.parent for path in self._named if is_of_run(path)}
        charges = {path.with_name(plain(path.name)) for path in self._named}
        return (
            path for path in files
            if os.path.realpath(path) not in named
            and not (path.parent in folders and is_beside(path))
            and path.with_name(plain(path.name)) not in charges
        )

    def _named_file(self, file: str) -> Path:
        """The file of a column 'file': as it stands, or with the other slash, case or ending.

        A folder stands for the charge density in it.
        """
        path = self._folder / file
        if os.path.isfile(path):  # False, too, of a name that no file can have
            return path
        wanted = file.replace("\\", "/").removeprefix("./").rstrip("/")
        if os.path.isfile(self._folder / wanted):
            return self._folder / wanted
        for names, name in (
            (self._by_key, plain(wanted)), (self._by_loose_key, loose(plain(wanted)))
        ):
            fits = [path for path, place in names.get(name, {}).items() if place == 0]
            if len(fits) == 1:
                return fits[0]
        parent = self._folder / wanted
        inside = {
            path: 0 for path in self._by_key.get(parent.name, {}) if path.parent == parent
        }
        if len(found := _first(inside)) == 1:
            return found[0]
        raise _LeftOutError(
            "missing file", "no such file in the folder; its path starts at labels.csv"
        )

    def _best(self, material: str) -> list[Path]:
        """The files whose name fits a material most exactly; of those, its charge density."""
        for name in spellings(material):
            if found := _first(self._by_key.get(name) or self._by_loose_key.get(loose(name), {})):
                return found
        return []


def _first(places: Mapping[Path, int]) -> list[Path]:
    """Of files by how exactly they fit, the nearest; of those the first in rank."""
    least = min(places.values(), default=None)
    ranks = {path: rank(path) for path, place in places.items() if place == least}
    first = min(ranks.values(), default=None)
    return [path for path, own in ranks.items() if own == first]


def _fold(text: str) -> int:
    """The fold that a cell gives. Raises _LeftOutError."""
    digits = text.removesuffix(".0")
    if not digits.isdecimal() or len(digits) > 10 or int(digits) > MAX_FOLD:
        raise _LeftOutError(
            "no fold",
            f"fold is '{text[:40]}', expected a whole number from 0, or train, val or test where "
            "the others say so, too",
        )
    return int(digits)


def _has_no_label(row: Mapping[str, str]) -> bool:
    return all(is_missing(text) for name, text in row.items() if name not in NOT_TARGETS)


def relative_name(folder: Path, path: Path) -> str:
    """A path as people know it: relative to the folder, where it lies there."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
