"""What a folder holds: rows of labels.csv, their density files, their labels; reads no density."""

import collections
import csv
import dataclasses
import difflib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfds_builders.density_builder import DatasetSourceError
from tfds_builders.density_folder.labels import (
    NOT_TARGETS,
    LabelColumn,
    is_missing,
    read_labels,
    read_settings,
)
from tfds_builders.density_folder.problems import Problem

SPLITS = ("auto", "fold", "system", "id")
_FORMAT = "1"  # of the digest: a change of how a folder is read builds it again
# What a density file is called, without .gz and the like; others need a row of labels.csv.
_DENSITY_NAME = re.compile(
    r".*(chg|aeccar|parchg).*|.*\.(vasp|cube|cub|xsf|json|parquet)", re.IGNORECASE
)
_KIND = r"(chgcar|chg|aeccar\d?|parchg)"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of labels.csv with a density file.

    Attributes:
        index: place in labels.csv, from 0.
        file: as people know it: relative to the folder, where it lies there.
        path: where it lies.
        fold: as the column says, None without one.
    """

    index: int
    material_id: str
    file: str
    path: str
    fold: int | None

    @property
    def line(self) -> int:
        """Line of labels.csv, as an editor counts rows without line breaks in cells."""
        return self.index + 2


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


def take_inventory(source: str | Path, split: str = "auto") -> Inventory:
    """Reads the table of a folder and finds its files.

    Args:
        source: folder that holds labels.csv and, in it or in folders in it, densities.
        split: one of `SPLITS`.

    Raises:
        DatasetSourceError: there is no such folder or table, it cannot be read, or no target or no
          density is left.
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
    files = list(find_files(folder))
    rows, problems = _match(folder, header, table, files, split)
    ids = [_identity(header, cells) for cells in table]
    cells = {
        name: [row[place] for row in table]
        for place, name in enumerate(header)
        if name not in NOT_TARGETS
    }
    settings = read_settings(folder, list(cells))
    columns, wrong = read_labels(cells, settings, ids)
    if not rows:
        counts = ", ".join(sorted({f"{p.kind}: {p.file or p.material_id}" for p in problems})[:3])
        raise DatasetSourceError(
            f"{folder}: no row of labels.csv has a density file ({counts}); the column 'file' "
            "holds paths relative to the folder, 'material_id' what file names start with"
        )
    return Inventory(
        folder, tuple(rows), tuple(columns), (*problems, *wrong), split,
        _digest(folder, split, sorted({*files, *(Path(row.path) for row in rows)})),
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
        lines = list(csv.reader(text.splitlines(), delimiter=separator, strict=True))
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


def find_files(folder: Path) -> Iterator[Path]:
    """Files that are called like densities, in the folder and all folders in it, sorted."""
    visited = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link in a circle
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and _DENSITY_NAME.fullmatch(_plain(name)):
                yield Path(parent) / name


def _plain(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in _COMPRESSED else name


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


def _keys(folder: Path, path: Path) -> Iterator[str]:
    """What a material may be called whose density is this file, the most exact first."""
    relative = path.relative_to(folder)
    yield relative.as_posix()
    yield _plain(path.name)
    stem = path.name.partition(".")[0]
    yield stem
    yield re.sub(rf"(?i)^{_KIND}[_-]|[_-]{_KIND}$", "", stem)
    if len(relative.parts) > 1:
        yield relative.parts[-2]


def _match(
    folder: Path, header: Sequence[str], table: Sequence[Sequence[str]], files: Sequence[Path],
    split: str,
) -> tuple[list[Row], list[Problem]]:
    """Rows with their files, and what is wrong with the others."""
    by_key: dict[str, list[Path]] = {}
    for path in files:
        for key in dict.fromkeys(_keys(folder, path)):
            by_key.setdefault(key, []).append(path)
    rows: list[Row] = []
    problems: list[Problem] = []
    ids: dict[str, int] = {}
    owners: dict[str, int] = {}
    named: set[Path] = set()
    for index, cells in enumerate(table):
        row = dict(zip(header, cells))
        material = row.get("material_id") or row.get("file", "")
        known = {"row": index + 2, "material_id": material, "file": row.get("file", "")}

        def out(kind: str, message: str, known: dict = known) -> None:
            problems.append(Problem(kind, "row left out", message, **known))

        if not material:
            out("no density named", "neither file nor material_id: fill in one of them")
            continue
        if row.get("file"):
            path, message = folder / row["file"], "no such file in the folder"
            path = path if path.is_file() else None
        else:
            found = _best(folder, material, by_key.get(material, []))
            path = found[0] if len(found) == 1 else None
            listed = ", ".join(p.relative_to(folder).as_posix() for p in found[:3])
            message = f"several files fit: {listed}; name one in a column 'file'" if found else (
                "no density is called so: expected a file ID.CHGCAR, CHGCAR_ID, ID/CHGCAR or the "
                "like, plain or compressed"
            )
            named.update(found)
        if path is None:
            out("missing file", message)
            continue
        named.add(path)
        known["file"] = file = _relative(folder, path)
        real = os.path.realpath(path)
        if material in ids:
            out("duplicate id", f"row {ids[material]} has this id already, and is kept")
            continue
        if real in owners:
            out("duplicate file", f"row {owners[real]} has this file already, and is kept")
            continue
        ids[material] = owners[real] = index + 2
        fold = None
        if split == "fold":
            text = row["fold"]
            if not text.removesuffix(".0").isdecimal():
                message = f"fold is '{text}', expected a whole number from 0"
                out("no fold", message)
                continue
            fold = int(text.removesuffix(".0"))
        if all(is_missing(row[name]) for name in header if name not in NOT_TARGETS):
            message = "the row has no label: the density serves no target"
            problems.append(Problem("labels missing", "kept", message, **known))
        rows.append(Row(index, material, file, str(path), fold))
    real_named = {os.path.realpath(path) for path in named}
    for path in files:
        if os.path.realpath(path) not in real_named:
            message = "no row of labels.csv names it: add one"
            problems.append(
                Problem(
                    "density without labels", "file left out", message, file=_relative(folder, path)
                )
            )
    return rows, problems


def _best(folder: Path, material: str, candidates: Sequence[Path]) -> list[Path]:
    """Those candidates whose name fits most exactly."""
    ranks = [list(dict.fromkeys(_keys(folder, path))).index(material) for path in candidates]
    return [path for path, rank in zip(candidates, ranks) if rank == min(ranks)]


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _digest(folder: Path, split: str, files: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {split}\n".encode())
    for name in ("labels.csv", "targets.toml"):
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"none")
        digest.update(b"\0")
    for path in files:
        status = path.stat()
        line = f"{_relative(folder, path)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]
