"""A comparison as LaTeX tables, by the template table.tex.jinja."""

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from densityjax.ablation.frame import difference_rows, pivot, score_rows
from densityjax.ablation.results import Comparison
from densityjax.ablation.words import (
    AVERAGES,
    IDENTITY,
    by_reference,
    chunks,
    ordered_names,
    score_interval,
    signed,
    signed_interval,
    target_labels,
)
from densityjax.report.text import score

TEMPLATE = Path(__file__).with_name("table.tex.jinja")
TEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "²": r"$^2$", "³": r"$^3$", "−": r"$-$", "–": "--", "±": r"$\pm$", "Å": r"\AA{}",
    "μ": r"$\mu$", "×": r"$\times$", "≤": r"$\le$", "’": "'", "\u00a0": "~",
})


def to_latex(comparison: Comparison, frame: pd.DataFrame) -> str:
    """Tables of scores and of differences, each at most `words.WIDTH` variants wide.

    Args:
        comparison: what is shown.
        frame: `frame.long_frame` of it.
    """
    environment = jinja2.Environment(  # LaTeX is full of braces and per cents
        block_start_string="<%", block_end_string="%>", variable_start_string="<<",
        variable_end_string=">>", comment_start_string="<#", comment_end_string="#>",
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["tex"] = tex
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        tables=_tables(comparison, frame), averages=AVERAGES,
        row_labels={target: _label(label) for target, label in target_labels(comparison).items()},
    )


def tex(text: str) -> str:
    """Escapes what LaTeX would read as a command."""
    return text.translate(TEX)


def _label(label: str) -> str:
    return tex(label.replace(IDENTITY, "")) + (r"$^\dagger$" if IDENTITY in label else "")


def _tables(comparison: Comparison, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Caption, and the texts of numbers and of intervals: targets x variants."""
    scores = score_rows(frame)
    tables = [
        {
            "caption": "Score with 95 % interval: R², or balanced accuracy where named.",
            "numbers": pivot(scores, names, _score, missing="--"),
            "intervals": pivot(scores, names, _score_interval, missing=""),
        }
        for names in chunks(ordered_names(comparison))
    ]
    for reference, contrasts in by_reference(comparison).items():
        rows = difference_rows(frame, reference)
        caption = f"Paired difference to {reference} with 95 % interval; bold where it excludes 0."
        for names in chunks([contrast.variant for contrast in contrasts]):
            tables.append({
                "caption": caption,
                "numbers": pivot(rows, names, _difference, missing="--"),
                "intervals": pivot(rows, names, _difference_interval, missing=""),
            })
    return tables


def _score(row: Any) -> str:
    return tex(score(row.score))


def _score_interval(row: Any) -> str:
    return _small(score_interval(row.low, row.high))


def _difference(row: Any) -> str:
    if row.verdict == "same model":
        return row.verdict
    value = tex(signed(row.difference))
    return rf"\textbf{{{value}}}" if row.verdict in ("win", "loss") else value


def _difference_interval(row: Any) -> str:
    return _small(signed_interval(row.diff_low, row.diff_high))


def _small(text: str) -> str:
    return rf"{{\scriptsize {tex(text)}}}"
