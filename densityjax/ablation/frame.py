"""The numbers of a comparison as one long table, and wide tables of texts made from it."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from densityjax.ablation.results import Comparison, Contrast
from densityjax.ablation.words import ordered_names, target_labels

FIELDS = (
    "variant", "reference", "target", "metric", "score", "low", "high", "se", "num_targets",
    "difference", "diff_low", "diff_high", "diff_se", "p", "p_adjusted", "ahead", "behind", "ties",
    "identical", "of", "mdd", "verdict", "diff_num_targets", "undefined_replicates",
)


def long_frame(comparison: Comparison) -> pd.DataFrame:
    """One row per variant, reference and target, at full precision; None where undefined.

    A variant or pool that no contrast compares has rows without a reference. Columns are `FIELDS`,
    of Python's own numbers and texts, so that whole numbers stay whole beside None.
    """
    pairs = [(name, None) for name in ordered_names(comparison) if not comparison.contrast(name)]
    pairs += [(contrast.variant, contrast) for contrast in comparison.contrasts]
    rows = [
        _row(comparison, name, contrast, target)
        for name, contrast in pairs
        for target in target_labels(comparison)
        if comparison.score(name, target)
    ]
    frame = pd.DataFrame(rows, columns=FIELDS, dtype=object)
    # A category, so that a pivot keeps the order of the tables.
    frame["target"] = pd.Categorical(frame["target"], categories=list(target_labels(comparison)))
    return frame


def _row(
    comparison: Comparison, name: str, contrast: Contrast | None, target: str
) -> dict[str, Any]:
    own = comparison.score(name, target)
    row = dict.fromkeys(FIELDS) | {
        "variant": name, "reference": contrast.reference if contrast else "", "target": target,
        "metric": own.metric, "score": own.value, "low": own.low, "high": own.high, "se": own.se,
        "num_targets": own.num_targets, "undefined_replicates": own.undefined,
    }
    difference = contrast.row(target) if contrast else None
    if difference is None:
        return row
    return row | {
        "difference": difference.value, "diff_low": difference.low, "diff_high": difference.high,
        "diff_se": difference.se, "p": difference.p, "p_adjusted": difference.p_adjusted,
        "ahead": difference.ahead, "behind": difference.behind, "ties": difference.ties,
        "identical": difference.identical, "of": difference.pairs, "mdd": difference.detectable,
        "verdict": difference.verdict, "diff_num_targets": difference.num_targets,
        "undefined_replicates": difference.undefined,
    }


def score_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a long frame, every variant and target once."""
    return frame.drop_duplicates(["variant", "target"])


def difference_rows(frame: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The rows of a long frame that hold a difference to `reference`."""
    return frame[(frame["reference"] == reference) & frame["verdict"].notna()]


def pivot(
    rows: pd.DataFrame, variants: Sequence[str], text: Callable[[Any], str], missing: str
) -> pd.DataFrame:
    """A text per target, down in the order of the tables, and variant, across in that given.

    Args:
        rows: of a long frame, with every variant and target once.
        variants: the columns; targets that none of them has are left out.
        text: of a row, whose attributes are `FIELDS`.
        missing: text where there is no row.
    """
    own = rows[rows["variant"].isin(variants)]
    own = own.assign(text=[text(row) for row in own.itertuples()])
    wide = own.pivot(index="target", columns="variant", values="text")
    return wide.reindex(columns=list(variants)).fillna(missing)
