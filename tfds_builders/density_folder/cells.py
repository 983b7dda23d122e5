"""A cell of labels.csv as people and spreadsheets write it: missing, a number, or a text."""

import re
from collections.abc import Sequence

# In lower case: what pandas, R and spreadsheets leave where there is no value.
MISSING = frozenset((
    "", "nan", "-nan", "na", "n/a", "none", "null", "-", "#n/a", "#na", "#n/a n/a", "<na>", "nat",
    "1.#qnan", "-1.#ind", "1.#ind", "-1.#qnan",
))
# What old programs write for a missing number. One is taken for it only far beyond all others.
SENTINELS = frozenset((-999.0, -9999.0, -99999.0, -999.25, 9999.0, 99999.0, 999999.0, 1e20, 1e30))
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
# Or a decimal comma: the cell alone does not tell.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_LIKE_A_NUMBER = re.compile(r"[+\-−]?[\d.,'\s]*\d[\d.,'\s]*([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")
_WITH_UNIT = re.compile(r"[+\-−]?\d[\d.,]*([eE][+-]?\d+)?\s*([^\W\d_][^\d]*|%)")


def is_missing(text: str) -> bool:
    """Whether a cell stands for a label that there is not."""
    return text.strip().lower() in MISSING


def number(text: str) -> float | None:
    """The number that a cell is, None for any other text. Python's 1_000 is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def looks_like_number(text: str) -> bool:
    """Whether a cell was meant as a number, if perhaps not in a way that can be read."""
    return number(text) is not None or _LIKE_A_NUMBER.fullmatch(text.strip()) is not None


def looks_like_date(text: str) -> bool:
    """Whether a cell is a day, with or without a time."""
    return _DATE.fullmatch(text.strip()) is not None


def has_unit(text: str) -> bool:
    """Whether a cell is a number with a unit behind it."""
    return _WITH_UNIT.fullmatch(text.strip()) is not None


def with_points(texts: Sequence[str], separator: str) -> list[str]:
    """The cells of a column with decimal points, where it has decimal commas.

    A column has them if every comma in it can be one, no cell has a point, and it is told from
    thousands: by a table that commas do not separate, or by a cell such as 0,5 or 12,25.

    Args:
        separator: of the table.
    """
    present = [text.strip() for text in texts if "," in text]
    is_decimal = (
        bool(present)
        and all(map(_DECIMAL_COMMA.fullmatch, present))
        and not any("." in text and number(text) is not None for text in texts)
        and (separator != "," or not all(map(_THOUSANDS.fullmatch, present)))
    )
    if not is_decimal:
        return list(texts)
    return [text.replace(",", ".") if "," in text else text for text in texts]
