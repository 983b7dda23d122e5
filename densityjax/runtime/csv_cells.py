"""Cells of CSV tables that people open in a spreadsheet: a text there is never a formula.

A spreadsheet evaluates a cell that begins with =, +, -, @, a tab or a carriage return. An
apostrophe in front makes it a text. Numbers stay as they are: '-1.5' as a number is no formula.
"""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def protect(text: str) -> str:
    """The text as a cell that no spreadsheet evaluates; nearly always the text itself.

    A text that begins with apostrophes and then such a sign gets one more, so that `restore` gives
    every text back.
    """
    return "'" + text if _FORMULA.match(text) else text


def restore(cell: str) -> str:
    """Inverse of `protect`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def safe_cell(value: object) -> object:
    """`protect` for a cell that may be a number, or a text that is one: these stay as they are."""
    if not isinstance(value, str):
        return value
    try:
        float(value)
    except ValueError:
        return protect(value)
    return value
