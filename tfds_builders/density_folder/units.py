"""Units as people spell them in headers."""

import re
import unicodedata


def same_unit(a: str, b: str) -> bool:
    """Whether two spellings mean one unit: 'A^3', 'Ang^3' and 'Å³', say."""
    return _plain_unit(a) == _plain_unit(b)


def _plain_unit(unit: str) -> str:
    # ų is what the bytes of Windows' Å³ are in UTF-8.
    text = unicodedata.normalize("NFC", unit).replace("ų", "Å³").replace("\u00b5", "μ")
    text = re.sub(r"\s|\*\*|\^", "", text).replace("³", "3").replace("²", "2")
    text = re.sub(r"(?i)ang(strom)?s?|\bA(?=3)", "Å", text)
    return re.sub(r"(?i)mu_?b|ub", "μB", text)
