"""labels.csv -> header and rows, in the encodings and with the quirks that spreadsheets leave."""

import codecs
import collections
import csv
import dataclasses
import difflib
import io
import re
from pathlib import Path

from tfds_builders.density_folder.problems import Problem
from tfds_builders.errors import DatasetSourceError

# Other names of the two columns that say whose row it is, in lower case.
_ALIASES = {
    "material_id": ("material_id", "materialid", "material", "mpid", "mp_id", "id", "identifier"),
    "file": ("file", "filename", "file_name", "path", "filepath", "file_path"),
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Text of labels.csv.

    Attributes:
        header: names of the columns, all different.
        rows: [n] cells, as many as the header has; a blank line is a row of empty cells.
        separator: between cells.
        notes: what was read in another way than it stands there.
    """

    header: list[str]
    rows: list[list[str]]
    separator: str
    notes: tuple[Problem, ...] = ()


def read_table(path: Path) -> Table:
    """Reads labels.csv, separated by commas, semicolons or tabs.

    Raises:
        DatasetSourceError: it is not there, not such a table, or lacks 'file' and 'material_id'.
    """
    text, notes = _decode(path)
    text = _without_comments(text)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DatasetSourceError(f"{path} is not a table: {error}; mend it") from error
    lines = [[cell.strip() for cell in line] for line in lines]
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    while rows and not any(rows[-1]):
        rows.pop()
    rows = [row or [""] * len(header) for row in rows]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DatasetSourceError(
                f"{path}: row {number} has {len(row)} cells, the header {len(header)}; mend it "
                "(a text that holds the separator stands in quotation marks)"
            )
    header, rows = _without_empty_columns(header, rows)
    header, renamed = _identified(header)
    _check_header(path, header)
    if not any(map(any, rows)):
        raise DatasetSourceError(f"{path} has no rows below its header")
    return Table(header, rows, separator, (*notes, *renamed))


def note(message: str, column: str = "") -> Problem:
    """Something that was read in another way than it stands there."""
    return Problem("read as", "kept", message, column=column)


def _decode(path: Path) -> tuple[str, list[Problem]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetSourceError(
            f"{path}: {error.strerror}; put a table there with a column 'file' or 'material_id' "
            "and a column for each target"
        ) from error
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16"), [note("labels.csv is UTF-16 text")]
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise DatasetSourceError(f"{path} is not text ({error}): save it as CSV") from error
    # Every byte but five is a letter of Windows' Western code page, which Excel saves in.
    return data.decode("cp1252", errors="replace"), [
        note("labels.csv is not UTF-8 text, and read as Windows-1252: save it as UTF-8")
    ]


def _without_comments(text: str) -> str:
    """The text from the header on, if lines above it begin with '#'."""
    lines = text.splitlines(keepends=True)
    above = 0
    while above < len(lines) and lines[above].startswith("#"):
        above += 1
    following = lines[above].lower() if above < len(lines) else ""
    is_header = any(name in re.split(r"[,;\t\s]+", following) for name in _ALIASES)
    return "".join(lines[above:]) if above and is_header else text


def _without_empty_columns(
    header: list[str], rows: list[list[str]]
) -> tuple[list[str], list[list[str]]]:
    """Drops columns without a name and content; one with numbers of rows alone gets a name."""
    kept = [
        place for place, name in enumerate(header) if name or any(row[place] for row in rows)
    ]
    names = [header[place] or f"Unnamed: {place}" for place in kept]
    return names, [[row[place] for place in kept] for row in rows]


def _identified(header: list[str]) -> tuple[list[str], list[Problem]]:
    """The header with its identifying columns called 'material_id' and 'file'."""
    notes, renamed = [], list(header)
    simple = [re.sub(r"[\s\-]+", "_", name.strip().lower()) for name in header]
    for wanted, aliases in _ALIASES.items():
        if wanted in header:
            continue
        found = [header[simple.index(alias)] for alias in aliases if alias in simple]
        if found:
            renamed[header.index(found[0])] = wanted
            notes.append(note(f"column '{found[0]}' is taken as '{wanted}'", found[0]))
    return renamed, notes


def _check_header(path: Path, header: list[str]) -> None:
    repeated = [name for name, times in collections.Counter(header).items() if times > 1]
    if repeated:
        raise DatasetSourceError(
            f"{path}: columns need different names; found '{repeated[0]}' twice"
        )
    if "file" not in header and "material_id" not in header:
        near = [n for n in header if difflib.get_close_matches(n.lower(), ("file", "material_id"))]
        hint = f" (rename '{near[0]}'?)" if near else ""
        raise DatasetSourceError(
            f"{path} has neither a column 'file' nor 'material_id'{hint}; it has "
            + ", ".join(header)
        )
