"""A comparison as Markdown, by the template table.md.jinja."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from densityjax.ablation.frame import difference_rows, pivot, score_rows
from densityjax.ablation.results import AVERAGE, Comparison
from densityjax.ablation.words import (
    AVERAGES,
    ahead_text,
    by_reference,
    chunks,
    mean_text,
    ordered_names,
    p_text,
    plural,
    score_interval,
    signed,
    signed_interval,
    target_labels,
)
from densityjax.report.text import number, score
from densityjax.runtime.files import flatten

TEMPLATE = Path(__file__).with_name("table.md.jinja")


def to_markdown(comparison: Comparison, frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """The page: result, tables of scores and differences, cost, method and origin.

    Args:
        comparison: what is shown.
        frame: `frame.long_frame` of it.
        facts: as `write.write_comparison`.
    """
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"md": escape, "mean": mean_text, "number": number, "score": score}
    environment.globals |= {
        "plural": plural, "signed": signed, "score_interval": score_interval,
        "signed_interval": signed_interval, "ahead_text": ahead_text,
    }
    targets = target_labels(comparison)
    origin = {key: value for key, value in facts.items() if key not in ("title", "lines")}
    headline = AVERAGE if AVERAGE in targets else comparison.specs[0].name
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        comparison=comparison,
        title=facts.get("title", "Comparison of variants"),
        lines=facts.get("lines", ()),
        headline_target=headline,
        headline_label=targets[headline][0].upper() + targets[headline][1:],
        headlines=list(_headlines(comparison, headline)),
        averaged=headline == AVERAGE,
        row_labels={t: f"**{label}**" if t in AVERAGES else label for t, label in targets.items()},
        score_tables=list(_score_tables(comparison, frame)),
        difference_tables=_difference_tables(comparison, frame),
        costs=sorted(comparison.costs, key=lambda cost: cost.variant != comparison.reference),
        left_out=_left_out(comparison),
        origin={key: _joined(value) for key, value in flatten(origin).items()},
    )


def escape(text: Any) -> str:
    """Escapes what Markdown would read as a table, emphasis, HTML or code."""
    return re.sub(r"([|*<>`])", r"\\\1", str(text)).replace("\n", " ")


def _joined(value: Any) -> str:
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(map(str, value))
    return str(value)


def _headlines(comparison: Comparison, target: str) -> Iterator[dict[str, Any]]:
    """Score of each variant and pool that has the target; its contrast if it has a difference."""
    for name in ordered_names(comparison):
        contrast, row = comparison.contrast(name), comparison.score(name, target)
        difference = contrast.row(target) if contrast else None
        if difference is not None and difference.value is None:
            difference = None
        if row is not None:
            yield {"name": name, "score": row, "contrast": contrast, "difference": difference}


def _score_tables(comparison: Comparison, frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Texts, targets x variants, at most `words.WIDTH` of these; every target in each table."""
    for names in chunks(ordered_names(comparison)):
        table = pivot(score_rows(frame), names, _score_cell, missing="–")
        yield table.reindex(list(target_labels(comparison)), fill_value="–")


def _score_cell(row: Any) -> str:
    lines = [score(row.score), score_interval(row.low, row.high)]
    if row.target in AVERAGES:
        lines.append(plural(row.num_targets, "target"))
    return "<br>".join(lines)


def _difference_tables(comparison: Comparison, frame: pd.DataFrame) -> dict[str, list[dict]]:
    """Reference -> contrasts beside each other, their differences and what they can detect."""
    return {
        reference: [
            {
                "contrasts": chunk,
                "cells": pivot(rows, [c.variant for c in chunk], _difference_cell, "–"),
                "detectable": pivot(rows, [c.variant for c in chunk], _detectable_cell, "–"),
            }
            for rows in [difference_rows(frame, reference)]
            for chunk in chunks(contrasts)
        ]
        for reference, contrasts in by_reference(comparison).items()
    }


def _difference_cell(row: Any) -> str:
    if row.difference is None:
        return "–"
    if row.verdict == "same model":
        return "0<br>same model"
    value = signed(row.difference)
    return "<br>".join([
        f"**{value}**" if row.verdict in ("win", "loss") else value,
        signed_interval(row.diff_low, row.diff_high),
        "p " + p_text(row.p if row.p_adjusted is None else row.p_adjusted).replace("<", "&lt;"),
        ahead_text(row.verdict, row.ahead, row.of),
    ])


def _detectable_cell(row: Any) -> str:
    return score(row.mdd)


def _left_out(comparison: Comparison) -> dict[str, int]:
    """Label -> the most replicates that were left out of a score."""
    counts: dict[str, int] = {}
    for row in comparison.scores:
        counts[row.target] = max(counts.get(row.target, 0), row.undefined)
    labels = target_labels(comparison)
    return {labels[name]: count for name, count in counts.items() if count}
