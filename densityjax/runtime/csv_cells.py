"""Cells of CSV tables that a spreadsheet shows and does not compute."""

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what Excel and others take for one


def safe_cell(value: Any) -> Any:
    """A text as it may stand in a table: one that a spreadsheet would run gets an apostrophe.

    Numbers, and texts that are numbers, stay as they are.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
