"""Which density file belongs to which row of labels.csv."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfds_builders.density_folder.cells import is_missing
from tfds_builders.density_folder.labels import NOT_TARGETS
from tfds_builders.density_folder.problems import Problem
from tfds_builders.density_folder.rows import Row

MAX_FOLD = int(np.iinfo(np.int32).max)  # records hold the fold as int32
MAX_ID = 10_000  # characters; arrays of ids take as much for each as for the longest
_KIND = r"(?:chgcar|chg|aeccar\d?|parchg|locpot|elfcar)"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_FORMAT = r"\.(?:cube|cub|xsf|vasp|json|h5|hdf5)"
# Endings that ids of a table carry along from the files that it was made of.
_ID_ENDING = re.compile(r"(?i)\.(?:cif|poscar|contcar|vasp|xyz|json|res|chgcar|cube|xsf)$")
# Backups, and the sums that scripts of VASP users leave for a Bader analysis.
_BACKUP = re.compile(
    r"(?i)~$|[._-](?:bak|backup|old|orig|save|copy|prev|sum)\d*$|^#|\(\d+\)$"
)


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
        self._by_key: dict[str, list[Path]] = {}
        # In other spellings: without regard to case, and numbers without zeros in front.
        self._by_loose_key: dict[str, list[Path]] = {}
        for path in files:
            keys = list(dict.fromkeys(_keys(folder, path)))
            for key in keys:
                self._by_key.setdefault(key, []).append(path)
            for key in dict.fromkeys(map(_loose, keys)):
                self._by_loose_key.setdefault(key, []).append(path)
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
        folders = {path.parent for path in self._named if _is_vasp_name(path)}
        return (
            path for path in files
            if os.path.realpath(path) not in named
            and not (path.parent in folders and _is_vasp_name(path) and _rank(path) > 0)
        )

    def _named_file(self, file: str) -> Path:
        """The file of a column 'file': as it stands, or with the other slash, case or ending."""
        path = self._folder / file
        if os.path.isfile(path):  # False, too, of a name that no file can have
            return path
        wanted = file.replace("\\", "/").removeprefix("./")
        if os.path.isfile(self._folder / wanted):
            return self._folder / wanted
        for names in (
            self._by_key.get(plain(wanted), []), self._by_loose_key.get(_loose(plain(wanted)), [])
        ):
            fits = [
                path for path in names
                if _loose(plain(path.relative_to(self._folder).as_posix())) == _loose(plain(wanted))
            ]
            if len(fits) == 1:
                return fits[0]
        raise _LeftOutError("missing file", "no such file in the folder")

    def _best(self, material: str) -> list[Path]:
        """The files whose name fits a material most exactly; of those, its charge density."""
        for name in dict.fromkeys((material, _ID_ENDING.sub("", material))):
            exact, loose = self._by_key.get(name), self._by_loose_key.get(_loose(name))
            candidates = exact or loose or []
            spell = str if exact else _loose
            places = [
                [spell(key) for key in dict.fromkeys(_keys(self._folder, path))].index(spell(name))
                for path in candidates
            ]
            nearest = [path for path, at in zip(candidates, places) if at == min(places)]
            if nearest:
                ranks = [_rank(path) for path in nearest]
                return [path for path, rank in zip(nearest, ranks) if rank == min(ranks)]
        return []


def _fold(text: str) -> int:
    """The fold that a cell gives. Raises _LeftOutError."""
    digits = text.removesuffix(".0")
    if not digits.isdecimal() or len(digits) > 10 or int(digits) > MAX_FOLD:
        raise _LeftOutError(
            "no fold",
            f"fold is '{text[:40]}', expected a whole number from 0, or train, val and test in all "
            "rows",
        )
    return int(digits)


def _has_no_label(row: Mapping[str, str]) -> bool:
    return all(is_missing(text) for name, text in row.items() if name not in NOT_TARGETS)


def plain(name: str) -> str:
    """A file's name without the ending of its compression."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in _COMPRESSED else name


def _keys(folder: Path, path: Path) -> Iterator[str]:
    """What a material may be called whose density is this file, the most exact first."""
    relative = path.relative_to(folder)
    yield relative.as_posix()
    yield plain(relative.as_posix())
    name = plain(path.name)
    yield name
    bare = re.sub(f"(?i){_FORMAT}$", "", name)
    yield bare
    # mp-1.CHGCAR, CHGCAR_mp-1, CHGCAR.mp-1; ids may hold points
    yield re.sub(f"(?i)^{_KIND}[._-]|[._-]{_KIND}$", "", bare)
    stem = path.name.partition(".")[0]
    yield stem
    yield re.sub(f"(?i)^{_KIND}[_-]|[_-]{_KIND}$", "", stem)
    yield from reversed(relative.parts[:-1])  # mp-1/CHGCAR, mp-1/static/CHGCAR


def _loose(name: str) -> str:
    """A name without regard to case or, if it is a number, zeros in front."""
    return str(int(name)) if name.isdecimal() and len(name) < 20 else name.casefold()


def _is_vasp_name(path: Path) -> bool:
    return re.match(f"(?i){_KIND}", path.name) is not None


def _rank(path: Path) -> int:
    """0 for what should be the charge density, more for what is beside it: CHG, parts, backups."""
    name = plain(path.name)
    if _BACKUP.search(name):
        return 3
    if re.search(r"(?i)aeccar|parchg|locpot|elfcar", name):
        return 2
    return 1 if re.search(r"(?i)(^|[._-])chg([._-]|$)", name) else 0


def relative_name(folder: Path, path: Path) -> str:
    """A path as people know it: relative to the folder, where it lies there."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
