"""Numbers and names as a person reads them, and as file names."""

import hashlib
import math
import re

from markupsafe import Markup, escape

from densityjax.targets import TargetSpec

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_STEM_BYTES = 100  # with 'validation_' and '.png' far below 255, the limit of file systems


def number(value: float | None) -> str:
    """At least three significant digits, an exponent only where needed; '–' for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    if not -4 <= exponent < 6:
        power = str(exponent).translate(SUPERSCRIPTS)
        return f"{value / 10.0**exponent:.2f}×10{power}".replace("-", "−")
    return f"{value:,.{max(0, 2 - exponent)}f}".replace("-", "−")


def score(value: float | None) -> str:
    """Three decimals, for R2 and the like."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.3f}"
    return "0.000" if text == "-0.000" else text.replace("-", "−")


def duration(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds; '–' for None."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{number(float(seconds))} s"


def formula_html(formula: str) -> Markup:
    """Formula with its digits as subscripts, everything else escaped."""
    return Markup(re.sub(r"(?<=[A-Za-z)\]])(\d[\d.]*)", r"<sub>\1</sub>", str(escape(formula))))


def formula_text(formula: str) -> str:
    """Formula with its digits as Unicode subscripts, for figures."""
    return re.sub(r"(?<=[A-Za-z)\]])\d+", lambda m: m[0].translate(SUBSCRIPTS), formula)


def with_unit(text: str, spec: TargetSpec) -> str:
    """The text with the unit of a target behind it, if it has one."""
    return f"{text} {spec.unit}" if spec.unit else text


def file_stem(name: str) -> str:
    """The name of a target as part of a file name: letters, digits and '_', not too long.

    Nearly always the name itself. The targets.json of a stranger may hold any text ('../../x', 250
    letters); what is changed has a digest of the name behind it, so that no two names meet.
    """
    safe = re.sub(r"\W", "_", name)
    if safe == name and 0 < len(name.encode()) <= _STEM_BYTES:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{safe.encode()[:_STEM_BYTES].decode(errors='ignore')}_{digest}"
