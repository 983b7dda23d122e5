"""How a comparison's names and numbers are written, in every format."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from densityjax.ablation.results import AVERAGE, AVERAGE_WITHOUT_IDENTITIES, Comparison, Contrast
from densityjax.report.text import number, score

T = TypeVar("T")

WIDTH = 4  # variants beside each other in a table, panels beside each other in the plot
AVERAGES = {
    AVERAGE: "Average R²",
    AVERAGE_WITHOUT_IDENTITIES: "Average R² without identity targets",
}
IDENTITY = "†"  # behind the label of a target that an identity of the input gives


def signed(value: float | None) -> str:
    """Three decimals with the sign; '–' for None."""
    text = score(value)
    return f"+{text}" if value is not None and value > 0 and text != "0.000" else text


def p_text(value: float | None) -> str:
    """Three decimals, '< 0.001' below; '–' for None."""
    return "< 0.001" if value is not None and value < 0.001 else score(value)


def score_interval(low: float | None, high: float | None) -> str:
    """'[0.697, 0.791]', '' where there is none."""
    return "" if low is None else f"[{score(low)}, {score(high)}]"


def signed_interval(low: float | None, high: float | None) -> str:
    """'[−0.072, +0.044]', '' where there is none."""
    return "" if low is None else f"[{signed(low)}, {signed(high)}]"


def mean_text(value: float | None) -> str:
    """A mean of whole numbers: whole if it is."""
    whole = value is not None and value == round(value)
    return number(round(value) if whole else value)


def plural(count: int, noun: str, many: str | None = None) -> str:
    """'1 target', '2 targets'; `many` where the plural has another ending."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"


def ahead_text(verdict: str, ahead: int, pairs: int) -> str:
    """'2 of 3 ahead', or 'same model'."""
    return verdict if verdict == "same model" else f"{ahead} of {pairs} ahead"


def ordered_names(comparison: Comparison) -> list[str]:
    """Variants and pools, the reference first."""
    names = [*comparison.variants, *comparison.pools]
    return sorted(names, key=lambda name: name != comparison.reference)


def target_labels(comparison: Comparison) -> dict[str, str]:
    """Target or average -> what a person reads in the first column; those that have a score."""
    rows = {}
    for spec in comparison.specs:
        metric = "" if spec.kind == "regression" else ", balanced accuracy"
        rows[spec.name] = f"{spec.label}{IDENTITY if spec.identity else ''}{metric}"
    scored = {row.target for row in comparison.scores}
    return rows | {target: label for target, label in AVERAGES.items() if target in scored}


def by_reference(comparison: Comparison) -> dict[str, list[Contrast]]:
    """Reference -> the contrasts with it."""
    grouped: dict[str, list[Contrast]] = {}
    for contrast in comparison.contrasts:
        grouped.setdefault(contrast.reference, []).append(contrast)
    return grouped


def chunks(items: Sequence[T]) -> Iterator[list[T]]:
    """Lists of at most `WIDTH`, of about the same length."""
    for places in np.array_split(np.arange(len(items)), -(-len(items) // WIDTH)):
        yield [items[place] for place in places]
