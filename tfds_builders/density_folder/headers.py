"""Headers of labels.csv -> names and units of targets."""

import re
import unicodedata

from densityjax.targets import TARGETS

_BRACKET = re.compile(r"[()\[\]]")


def split_header(column: str) -> tuple[str, str | None]:
    """Name and unit of a column: 'Band gap (eV)' as ('band_gap', 'eV'), 'tau' as ('tau', None).

    What is no letter, number or '_' becomes '_'. A name in `TARGETS` is found whatever its case;
    others keep theirs.
    """
    text, unit = column, None
    brackets = list(_BRACKET.finditer(column))
    if len(brackets) > 1 and brackets[-1][0] in ")]" and brackets[-2][0] in "([":
        opening, closing = brackets[-2], brackets[-1]
        if not column[closing.end() :].strip():
            text, unit = column[: opening.start()], column[opening.end() : closing.start()].strip()
    # Letters of any script, composed: some systems write ä as a and a mark.
    name = re.sub(r"\W+", "_", unicodedata.normalize("NFC", text.strip())).strip("_")
    if name.lower() in TARGETS:
        name = name.lower()
    return (f"target_{name}" if not name or name[0].isdigit() else name), unit
