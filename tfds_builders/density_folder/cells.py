"""A cell of labels.csv as people and spreadsheets write it: missing, a number, or a text."""

import re
from collections.abc import Iterable, Sequence

# In lower case: what pandas, R and spreadsheets leave where there is no value.
MISSING = frozenset((
    "", "nan", "-nan", "na", "n/a", "none", "null", "-", "#n/a", "#na", "#n/a n/a", "<na>", "nat",
    "1.#qnan", "-1.#ind", "1.#ind", "-1.#qnan",
))
# What old programs write for a missing number. One is taken for it only far beyond all others.
SENTINELS = frozenset((
    -999.0, -9999.0, -99999.0, -999999.0, -999.25, -999.9, -9999.9, 9999.0, 99999.0, 999999.0,
    9999.9, 9999999.0, -9999999.0, 1e20, -1e20, 1e30, -1e30, 1e36, -1e36, -32768.0, -2147483648.0,
))
# The same of numbers that are labels more often: these must come twice.
REPEATED_SENTINELS = frozenset((999.0, -99.0, 99.0, 999.9, -99.9, 99.9, -99.99, 99.99))
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
# Or a decimal comma: the cell alone does not tell.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
# Points that may separate thousands, in a table whose decimal sign is the comma.
_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
_WITH_BOTH = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+,\d+")  # 1.234,5
_FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")  # 1.5D+01
_PLAIN = r"[+\-−]?[\d.,'\s]*\d[\d.,'\s]*(?:[eE][+-]?\d+|\s*[x×·]\s*10\^?[\s\d⁰¹²³⁴-⁹⁻−+-]+)?"
_UNCERTAIN = r"(?:\s*(?:±|\+/-|\+-)\s*[\d.,]+|\s*\(\d+\))?"
_LONGEST = 100  # characters; beyond it no number was meant
_LIKE_A_NUMBER = re.compile(rf"[<>≤≥~≈=]*\s*{_PLAIN}{_UNCERTAIN}")
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( .*)?"
    r"|\d{1,2}[- ](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[- ]\d{2,4}",
    re.IGNORECASE,
)
_WITH_UNIT = re.compile(r"([+\-−]?\d[\d.,]*(?:[eE][+-]?\d+)?)(\s*)([^\W\d_].*|%|°.*)")
# Of what stands behind a number at once, what is a unit and no name such as 2H or 3R.
_UNITS = frozenset((
    "ev", "mev", "kev", "gpa", "mpa", "kbar", "pa", "k", "°c", "å", "å3", "å³", "å^3", "nm", "pm",
    "ps", "fs", "hz", "thz", "ghz", "cm-1", "cm^-1", "g/cm3", "g/cm³", "g/cm^3", "mub", "μb", "µb",
    "w/mk", "w/m/k", "j/mol", "kj/mol", "ev/atom", "mev/atom", "%", "ha", "ry",
))


def is_missing(text: str) -> bool:
    """Whether a cell stands for a label that there is not."""
    return text.strip().lower() in MISSING


def number(text: str) -> float | None:
    """The number that a cell is, None for any other text.

    Fortran's 1.5D+01 is one, Python's 1_000 is none.
    """
    try:
        return None if "_" in text else float(text)
    except ValueError:
        found = _FORTRAN.fullmatch(text.strip())
        return float(f"{found[1]}e{found[2]}") if found else None


def looks_like_number(text: str) -> bool:
    """Whether a cell was meant as a number, if perhaps not in a way that can be read."""
    text = text.strip()
    if len(text) > _LONGEST:
        return False
    return number(text) is not None or has_unit(text) or bool(_LIKE_A_NUMBER.fullmatch(text))


def looks_like_date(text: str) -> bool:
    """Whether a cell is a day, with or without a time."""
    return _DATE.fullmatch(text.strip()) is not None


def has_unit(text: str) -> bool:
    """Whether a cell is a number with a unit behind it; 2H is a name."""
    found = _WITH_UNIT.fullmatch(text.strip())
    return found is not None and bool(
        found[3].lower() in _UNITS or ((found[2] or "." in found[1]) and len(found[3]) < 12)
    )


def decimal_comma(columns: Iterable[Sequence[str]]) -> bool | None:
    """Whether a table has decimal commas, so that 1,234 is a little more than one.

    It does if a cell such as 0,5 shows it. None where no cell shows decimal commas or points.

    Args:
        columns: of cells.
    """
    shown = None
    for texts in columns:
        for text in map(str.strip, texts):
            if "." in text and number(text) is not None and not _POINTS.fullmatch(text):
                return False
            shown = shown or _is_certain(text) or None
    return shown


def _is_certain(text: str) -> bool:
    """Whether the comma in a cell is a decimal one whatever the others are."""
    return "," in text and (
        (bool(_DECIMAL_COMMA.fullmatch(text)) and not _THOUSANDS.fullmatch(text))
        or bool(_WITH_BOTH.fullmatch(text))
    )


def with_points(texts: Sequence[str], decimal: bool) -> list[str]:
    """The cells of a column with decimal points, where it has decimal commas.

    A column has them if every comma in it can be one, and the table has them or a cell such as 0,5
    or 12,25 shows it. In a column with a cell such as 1.234,5 the points separate thousands.

    Args:
        decimal: of the table, see `decimal_comma`.
    """
    present = [text.strip() for text in texts if "," in text]
    both = any(map(_WITH_BOTH.fullmatch, present))
    points = [text.strip() for text in texts if "." in text and "," not in text]
    points = [text for text in points if number(text) is not None]
    is_decimal = (
        bool(present)
        and all(_DECIMAL_COMMA.fullmatch(text) or _WITH_BOTH.fullmatch(text) for text in present)
        and (decimal or any(map(_is_certain, present)))
        and (all(map(_POINTS.fullmatch, points)) if both else not points)
    )
    if not is_decimal:
        return list(texts)
    mended = []
    for text in map(str.strip, texts):
        if both and (_WITH_BOTH.fullmatch(text) or _POINTS.fullmatch(text)):
            text = text.replace(".", "")
        mended.append(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)
    return mended


def may_be_thousands(texts: Sequence[str]) -> bool:
    """Whether every point of a column may separate thousands, as in 1.234 and 12.500."""
    points = [text.strip() for text in texts if "." in text]
    return len(points) > 1 and all(map(_POINTS.fullmatch, points))
