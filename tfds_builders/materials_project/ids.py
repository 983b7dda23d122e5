"""Ids of materials and tasks: one number, which the Materials Project's services spell two ways."""

import re

from tfds_builders.errors import DatasetSourceError

# The last id that was given out as a number; later ones are letters in every spelling.
LAST_NUMBERED = 3347529
_ID = re.compile(r"(?:[A-Za-z]+[-:_])?([a-z]+|[0-9]+)", re.ASCII)


class UnknownIdError(DatasetSourceError):
    """A text that is no id of the Materials Project's."""


def number_of(identifier: object) -> int:
    """The number that an id stands for: 149 of 'mp-149', '149', 'mp-aaaaaaft' and 'aaaaaaft'.

    Letters are digits of base 26, a being 0 (https://github.com/materialsproject/emmet, AlphaID).
    The server stores letters, people and object keys have numbers, and old documents mix both.

    Raises:
        UnknownIdError: it is no such id.
    """
    match = _ID.fullmatch(str(identifier))
    if not match:
        raise UnknownIdError(f"{identifier!r} is no id of the Materials Project's, as mp-149 is")
    text = match[1]
    if text.isdigit():
        return int(text)
    number = 0
    for letter in text:
        number = number * 26 + ord(letter) - ord("a")
    return number


def spelled(number: int) -> str:
    """How people and object keys spell a number: 'mp-149'; above the last numbered one in letters.

    The manifest, records and messages have this spelling only.
    """
    if number <= LAST_NUMBERED:
        return f"mp-{number}"
    letters = ""
    while number:
        number, digit = divmod(number, 26)
        letters = chr(ord("a") + digit) + letters
    return f"mp-{letters}"
