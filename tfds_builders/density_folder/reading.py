"""labels.csv -> header and rows, in the encodings and with the quirks that spreadsheets leave."""

import codecs
import collections
import csv
import dataclasses
import difflib
import io
import re
from pathlib import Path

from tfds_builders.density_folder.cells import number
from tfds_builders.density_folder.problems import Problem
from tfds_builders.errors import DatasetSourceError

# Other names of the columns that say whose row it is and where it belongs, in lower case.
_ALIASES = {
    "material_id": ("material_id", "materialid", "material", "mpid", "mp_id", "id", "identifier"),
    "file": ("file", "filename", "file_name", "path", "filepath", "file_path"),
    "fold": ("fold", "folds", "fold_id", "fold_number", "kfold", "k_fold", "cv_fold"),
    "formula": ("formula",),
    "chemical_system": ("chemical_system",),
}
_IDENTIFYING = frozenset((*_ALIASES["material_id"], *_ALIASES["file"]))
_MOST_ABOVE, _TITLE = 20, 100_000  # lines and characters in which the header is looked for
_SEPARATORS = ",;\t|"
_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods")
# Letters of UTF-8 whose bytes are Å³ and Å² in Windows-1252.
_CUBES = {"ų": "Å³", "Ų": "Å²"}


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
    """Reads labels.csv, separated by commas, semicolons, tabs or bars.

    A row of another length than the header is left out and listed, unless most are.

    Raises:
        DatasetSourceError: it is not there, not such a table, or lacks 'file' and 'material_id'.
    """
    text, notes = _decode(path)
    text, above = _from_header(text)
    if above:
        notes.append(note(f"{above} lines above the header are skipped; rows are counted from it"))
    separator, lines = _split(path, text)
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    while rows and not any(rows[-1]):
        rows.pop()
    rows, odd = _of_equal_length(path, header, rows)
    header, rows = _without_empty_columns(header, rows)
    header, mended = _with_cubes(header)
    header, renamed = _identified(header)
    _check_header(path, header)
    if not any(map(any, rows)):
        raise DatasetSourceError(f"{path} has no rows below its header")
    return Table(header, rows, separator, (*notes, *mended, *renamed, *odd))


def note(message: str, column: str = "") -> Problem:
    """Something that was read in another way than it stands there."""
    return Problem("read as", "kept", message, column=column)


def _decode(path: Path) -> tuple[str, list[Problem]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetSourceError(
            f"{path}: {error.strerror}; put a table there with a column 'file' or 'material_id' "
            f"and a column for each target{_other_tables(path)}; densities without labels are for "
            "densityjax.pretrain alone (config.pretraining.sources)"
        ) from error
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16"), [note("labels.csv is UTF-16 text")]
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise DatasetSourceError(f"{path} is not text ({error}): save it as CSV") from error
    if (chinese := _as_chinese(data)) is not None:
        name, text = "GB18030", chinese
    else:
        # Every byte but five is a letter of Windows' Western code page, which Excel saves in.
        name, text = "Windows-1252", data.decode("cp1252", errors="replace")
    return text, [note(f"labels.csv is not UTF-8 text, and read as {name}: save it as UTF-8")]


def _other_tables(path: Path) -> str:
    """A hint at tables that lie where labels.csv is wanted."""
    try:
        beside = sorted(p.name for p in path.parent.iterdir() if p.suffix.lower() in _TABLES)
    except OSError:
        return ""
    return f" (there is {', '.join(beside[:3])}: save it as labels.csv)" if beside else ""


def _as_chinese(data: bytes) -> str | None:
    """Text of Excel in China, None where it is of the West: letters with marks stand alone there.

    Bytes above 127 must come in pairs that are common Chinese characters.
    """
    words = re.findall(rb"[\x80-\xff]+", data)
    pairs = re.compile(rb"(?:[\xa1-\xa9\xb0-\xf7][\xa1-\xfe])+")
    common = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]")
    if not words or not all(map(pairs.fullmatch, words)):
        return None
    known = {pair for word in words for pair in common.findall(word)} - {b"\xc5\xb3", b"\xc5\xb2"}
    try:  # C5 B3 are Å³ in the West
        return data.decode("gb18030") if len(known) > 1 else None
    except UnicodeDecodeError:
        return None


def _from_header(text: str) -> tuple[str, int]:
    """The text from the header on, and how many lines stand above it: a title, comments, blanks.

    Excel's 'sep=;' goes, too.
    """
    text = re.sub(r'\A"?sep=[^\r\n]"?\r?\n', "", text, flags=re.IGNORECASE)
    start = 0
    for above, line in enumerate(re.findall(r"[^\r\n]*(?:\r\n?|\n)", text[:_TITLE])[:_MOST_ABOVE]):
        cells = re.split(r"[,;\t|]", line)
        if _IDENTIFYING.intersection(_simple(cell.strip(' "\r\n')) for cell in cells):
            return text[start:], above
        start += len(line)
    return text, 0


def _split(path: Path, text: str) -> tuple[str, list[list[str]]]:
    """Separator and cells: that which gives the header a column of names and the rows its length.

    Raises:
        DatasetSourceError: with no separator it is a table.
    """
    found, wrong = [], []
    for separator in _SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            lines = [[cell.strip() for cell in line] for line in reader]
        except csv.Error as error:
            wrong.append(f"line {reader.line_num}: {error}")
            continue
        header = lines[0] if lines else []
        known = any(_simple(name) in _IDENTIFYING for name in header)
        like = sum(len(line) == len(header) for line in lines)
        found.append(((known, len(header) > 1, like, len(header)), separator, lines))
    if not found:
        raise DatasetSourceError(
            f"{path} is not a table: {wrong[0]}; mend the quotation marks there"
        )
    best = max(found, key=lambda item: item[0])
    if wrong and not best[0][0]:  # the right separator may be the one that failed
        raise DatasetSourceError(
            f"{path} is not a table: {wrong[0]}; mend the quotation marks there"
        )
    return best[1], best[2]


def _of_equal_length(
    path: Path, header: list[str], rows: list[list[str]]
) -> tuple[list[list[str]], list[Problem]]:
    """Rows of the header's length; one of another length becomes a blank row and a problem.

    Raises:
        DatasetSourceError: most rows are of another length.
    """
    width, equal, odd = len(header), [], []
    for line, row in enumerate(rows, start=2):
        if len(row) > width and not any(row[width:]):
            row = row[:width]  # separators that a spreadsheet left at the end
        if row and len(row) != width:
            message = (
                f"row {line} has {len(row)} cells, the header {width}; mend it (a text that "
                "holds the separator stands in quotation marks)"
            )
            odd.append(
                Problem("row not read", "row left out", message, row=line, value=", ".join(row))
            )
            row = []
        equal.append(row or [""] * width)
    if 2 * len(odd) > len(rows) or (odd and len(rows) < 3):
        raise DatasetSourceError(f"{path}: {odd[0].message}")
    return equal, odd


def _without_empty_columns(
    header: list[str], rows: list[list[str]]
) -> tuple[list[str], list[list[str]]]:
    """Drops columns without a name and content; one with numbers of rows alone gets a name."""
    kept = [
        place for place, name in enumerate(header) if name or any(row[place] for row in rows)
    ]
    names = [header[place] or f"Unnamed: {place}" for place in kept]
    return names, [[row[place] for place in kept] for row in rows]


def _with_cubes(header: list[str]) -> tuple[list[str], list[Problem]]:
    """The header with Å³ where its bytes of Windows-1252 are a letter in UTF-8: 'volume (ų)'."""
    mended = [
        re.sub(r"[ųŲ](?=[^(\[]*[)\]]\s*$)", lambda found: _CUBES[found[0]], name) for name in header
    ]
    changed = [new for old, new in zip(header, mended) if old != new]
    return mended, [note(f"the unit of column '{name}' is mended", name) for name in changed]


def _simple(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _identified(header: list[str]) -> tuple[list[str], list[Problem]]:
    """The header with the columns that have a meaning of their own called as they should be."""
    notes, renamed = [], list(header)
    simple = list(map(_simple, header))
    for wanted, aliases in _ALIASES.items():
        if wanted in header:
            continue
        if wanted == "file" and "material_id" in renamed:
            aliases = ("file", "filename", "file_name")  # a path is of somewhere else, perhaps
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
        if any(number(name) is not None for name in header):
            hint = " (its first line looks like data: put a line with the columns' names above it)"
        raise DatasetSourceError(
            f"{path} has neither a column 'file' nor 'material_id'{hint}; it has "
            + ", ".join(header)
        )
