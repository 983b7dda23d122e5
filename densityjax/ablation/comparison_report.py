"""A comparison of variants as Markdown, CSV, LaTeX, JSON and a plot."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from densityjax.ablation.comparison import (
    AVERAGE,
    AVERAGE_WITHOUT_IDENTITIES,
    Comparison,
    Contrast,
    Difference,
    Score,
)
from densityjax.report.style import BLUE, GREY, INK, STYLE, VERMILION
from densityjax.report.text import number, score
from densityjax.runtime.files import flatten

WIDTH = 4  # variants beside each other in a table, panels beside each other in the plot
AVERAGES = {
    AVERAGE: "Average R²",
    AVERAGE_WITHOUT_IDENTITIES: "Average R² without identity targets",
}
FIELDS = (
    "variant", "reference", "target", "metric", "score", "low", "high", "se", "num_targets",
    "difference", "diff_low", "diff_high", "diff_se", "p", "p_adjusted", "ahead", "behind", "ties",
    "identical", "of", "mdd", "verdict", "diff_num_targets", "undefined_replicates",
)
BAND = "#d1d5db"  # what the design cannot detect
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "²": r"$^2$", "³": r"$^3$", "−": r"$-$", "–": "--", "±": r"$\pm$", "Å": r"\AA{}",
    "μ": r"$\mu$", "×": r"$\times$", "≤": r"$\le$", "’": "'", "\u00a0": "~",
}


def write_comparison(folder: Path, comparison: Comparison, facts: Mapping[str, Any]) -> list[Path]:
    """Writes table.md, table.csv, table.tex, comparison.png and comparison.json.

    Args:
        folder: made where it is missing; each file is replaced in one go.
        comparison: of `comparison.compare`.
        facts: where the numbers come from, shown as a table (nested mappings get dotted keys,
          lists commas). 'title', a string, heads the page; 'lines', strings, follow as paragraphs.

    Returns:
        Paths of the files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"comparison": comparison.to_json(), "facts": dict(facts)}
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n"
    files = {
        "table.md": _markdown(comparison, facts).encode(),
        "table.csv": _csv(comparison).encode(),
        "table.tex": _latex(comparison).encode(),
        "comparison.png": _plot(comparison),
        "comparison.json": text.encode(),
    }
    paths = []
    for name, data in files.items():
        path = folder / name
        partial = folder / f"{name}.partial"
        partial.write_bytes(data)
        partial.replace(path)
        paths.append(path)
    return paths


# ---- names and numbers -------------------------------------------------------------------------


def signed(value: float | None) -> str:
    """Three decimals with the sign; '–' for None."""
    text = score(value)
    return f"+{text}" if value is not None and value > 0 and text != "0.000" else text


def p_value(value: float | None) -> str:
    """Three decimals, '< 0.001' below; '–' for None."""
    return "< 0.001" if value is not None and value < 0.001 else score(value)


def _interval(row: Score | Difference, show: Callable[[float | None], str]) -> str:
    return f"[{show(row.low)}, {show(row.high)}]" if row.low is not None else ""


def _names(comparison: Comparison) -> list[str]:
    """Variants and pools, the reference first."""
    names = [*comparison.variants, *comparison.pools]
    return sorted(names, key=lambda name: name != comparison.reference)


def _targets(comparison: Comparison) -> dict[str, str]:
    """Target or average -> what a person reads in the first column; those that have a score."""
    rows = {}
    for spec in comparison.specs:
        metric = "" if spec.kind == "regression" else ", balanced accuracy"
        rows[spec.name] = f"{spec.label}{'†' if spec.identity else ''}{metric}"
    scored = {row.target for row in comparison.scores}
    return rows | {target: label for target, label in AVERAGES.items() if target in scored}


def _chunks(names: Sequence[Any]) -> list[list[Any]]:
    """Lists of at most `WIDTH`, of about the same length."""
    return [list(part) for part in np.array_split(np.array(names, object), -(-len(names) // WIDTH))]


def _by_reference(comparison: Comparison) -> dict[str, list[Contrast]]:
    grouped: dict[str, list[Contrast]] = {}
    for contrast in comparison.contrasts:
        grouped.setdefault(contrast.reference, []).append(contrast)
    return grouped


def _verdict(row: Difference) -> str:
    return "same model" if row.verdict == "same model" else f"{row.ahead} of {row.pairs} ahead"


# ---- Markdown ----------------------------------------------------------------------------------


def _escape(text: str) -> str:
    return re.sub(r"([|*<>`])", r"\\\1", str(text)).replace("\n", " ")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown(comparison: Comparison, facts: Mapping[str, Any]) -> str:
    parts = [f"# {_escape(facts.get('title', 'Comparison of variants'))}"]
    parts += [str(line) for line in facts.get("lines", ())]
    parts += ["## Result", *_headline(comparison)]
    parts.append(f"![{_alt(comparison)}](comparison.png)")
    parts += ["## Score, mean and 95 % interval", *_score_tables(comparison)]
    for reference, contrasts in _by_reference(comparison).items():
        parts.append(f"## Difference to {_escape(reference)}, paired, with 95 % interval")
        parts += _difference_tables(comparison, contrasts)
    parts += ["## Cost", *_cost_table(comparison), "## How it was computed", _method(comparison)]
    known = {k: v for k, v in facts.items() if k not in ("title", "lines")}
    if known:
        parts.append("## Where the numbers come from")
        rows = ((f"`{key}`", _escape(_fact(value))) for key, value in flatten(known).items())
        parts.append(_table(("fact", "value"), rows).replace("---:", "---"))
    return "\n\n".join(parts) + "\n"


def _fact(value: Any) -> str:
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(map(str, value))
    return str(value)


def _headline(comparison: Comparison) -> list[str]:
    """Averages and their differences, in numbers."""
    target = AVERAGE if any(row.target == AVERAGE for row in comparison.scores) else None
    target = target or comparison.specs[0].name
    what = _targets(comparison)[target]
    lines = []
    for name in _names(comparison):
        row = comparison.score(name, target)
        if row is None:
            continue
        line = f"- **{_escape(name)}**: {score(row.value)} {_interval(row, score)}"
        contrast = comparison.contrast(name)
        difference = contrast.row(target) if contrast else None
        if difference and difference.value is not None:
            line += (
                f"; {signed(difference.value)} {_interval(difference, signed)} to "
                f"{_escape(comparison.reference)}, {_verdict(difference)}, {_verdicts(contrast)}"
            )
            if difference.num_targets != row.num_targets:
                line += f" (difference over the {_count(difference)} that both have)"
        if target == AVERAGE:
            line += f"; {_count(row)}"
        lines.append(line)
    size = comparison.splits
    intro = (
        f"{what[0].upper()}{what[1:]} on {len(size)} {'split' if len(size) == 1 else 'splits'} "
        f"({sum(s.materials for s in size)} test materials, {sum(s.systems for s in size)} "
        f"chemical systems), {len(comparison.seeds)} "
        f"{'seed' if len(comparison.seeds) == 1 else 'seeds'}; mean and 95 % interval:"
    )
    return [intro, "\n".join(lines)]


def _count(row: Score | Difference) -> str:
    return f"{row.num_targets} target{'' if row.num_targets == 1 else 's'}"


def _verdicts(contrast: Contrast) -> str:
    """'2 wins, 1 loss, 5 undecided'."""
    words = [
        f"{contrast.wins} {'win' if contrast.wins == 1 else 'wins'}",
        f"{contrast.losses} {'loss' if contrast.losses == 1 else 'losses'}",
        f"{contrast.undecided} undecided",
    ]
    return ", ".join(words + ([f"{contrast.same} same model"] if contrast.same else []))


def _score_tables(comparison: Comparison) -> Iterable[str]:
    for names in _chunks(_names(comparison)):
        rows = []
        for target, label in _targets(comparison).items():
            row = [_bold(label, target)]
            for name in names:
                found = comparison.score(name, target)
                text = "–"
                if found is not None:
                    text = f"{score(found.value)}<br>{_interval(found, score)}"
                    text += f"<br>{_count(found)}" if target in AVERAGES else ""
                row.append(text)
            rows.append(row)
        yield _table(("score", *map(_escape, names)), rows)
    if any(spec.identity for spec in comparison.specs):
        yield "† An identity of the input gives this target without learning."


def _bold(label: str, target: str) -> str:
    return f"**{label}**" if target in AVERAGES else label


def _difference_tables(comparison: Comparison, contrasts: Sequence[Contrast]) -> Iterable[str]:
    for chunk in _chunks(contrasts):
        header = ("difference", *(_escape(c.variant) for c in chunk))
        rows, limits = [], []
        for target, label in _targets(comparison).items():
            found = [contrast.row(target) for contrast in chunk]
            if any(found):
                rows.append([_bold(label, target), *map(_difference_cell, found)])
                detectable = [row and row.detectable for row in found]
                limits.append([_bold(label, target), *map(score, detectable)])
        for label, text in _summaries():
            rows.append([label, *map(text, chunk)])
        yield _table(header, rows)
        yield "Smallest difference that this design detects (80 % power, two-sided 5 %):"
        yield _table(("detectable", *header[1:]), limits)


def _difference_cell(row: Difference | None) -> str:
    if row is None or row.value is None:
        return "–"
    if row.verdict == "same model":
        return "0<br>same model"
    value = signed(row.value)
    value = f"**{value}**" if row.verdict in ("win", "loss") else value
    tested = row.p if row.p_adjusted is None else row.p_adjusted
    return f"{value}<br>{_interval(row, signed)}<br>p {p_value(tested)}<br>{_verdict(row)}".replace(
        "<br>p <", "<br>p &lt;"
    )


def _summaries() -> tuple[tuple[str, Callable[[Contrast], str]], ...]:
    """Rows under the targets: label and text of a contrast."""
    return (
        ("Targets won, lost, undecided", lambda c: f"{c.wins}, {c.losses}, {c.undecided}"),
        ("Targets with the same model", lambda c: str(c.same)),
        ("Targets better, worse by value", lambda c: f"{c.better}, {c.worse}"),
        ("Targets with adjusted p ≤ 0.05", lambda c: str(c.significant)),
    )


def _cost_table(comparison: Comparison) -> Iterable[str]:
    header = (
        "per cell", "cells", "trunks", "parameters", "updates per target", "device-seconds",
        "device-seconds, all cells",
    )
    costs = sorted(comparison.costs, key=lambda cost: cost.variant != comparison.reference)
    yield _table(
        header,
        (
            (
                _escape(cost.variant), str(cost.cells), _mean(cost.trunks), _mean(cost.parameters),
                _mean(cost.updates), number(cost.device_seconds),
                number(cost.total_device_seconds),
            )
            for cost in costs
        ),
    )
    yield (
        "Means over the cells of a variant. A model that variants share was trained once and "
        "counts in each of them."
    )


def _mean(value: float | None) -> str:
    """A mean of whole numbers: whole if it is."""
    whole = value is not None and value == round(value)
    return number(round(value) if whole else value)


def _method(comparison: Comparison) -> str:
    sizes = ", ".join(
        f"{s.split} ({s.materials} materials, {s.systems} systems)" for s in comparison.splits
    )
    count = len(comparison.seeds)
    lines = [
        f"Splits: {sizes}. Seeds of the training: {', '.join(map(str, comparison.seeds))}.",
        "Score: R² = 1 − Σ(y − p)² / Σ(y − ȳ)², or balanced accuracy (mean recall over the "
        "classes present), per split and seed; averaged over seeds, then splits. An average is "
        "the mean R² of the regression targets.",
        "Intervals: 95 %, basic bootstrap (percentiles reflected at the estimate) of "
        f"{comparison.replicates:,} bootstrap replicates (seed {comparison.seed}). A replicate "
        "draws chemical systems with replacement within every split, the materials of a system "
        "together"
        + (
            f", and {count - 1} of the {count} seeds with replacement within every split (n − 1 "
            "of n, with which the variance of a mean over few seeds is unbiased)."
            if count > 1
            else "; one seed is not resampled."
        ),
        "All variants share the draws: differences are paired. Where the effect of a seed varies "
        "between materials, intervals and detectable differences are too wide, by at most a "
        "factor of √3 in the standard error (Owen 2007).",
        "Won, lost: the interval of the difference excludes 0, in bold in the tables. p: "
        "two-sided, 1 less the level at which the interval touches 0; of targets after Benjamini "
        "and Hochberg's correction over the targets of the column, of averages without correction.",
        "Ahead: number of (split, seed) pairs in which the score is higher than the reference's "
        "with the same seed. Materials of a split are shared by its seeds, so these are not "
        "independent trials. Same model: all predictions are identical, as where a group is one "
        "target and takes the model of the single-task variant; nothing is tested there.",
        "Detectable: 2.80 standard errors of the difference (z₀.₉₇₅ + z₀.₈).",
    ]
    for pool, members in comparison.pools.items():
        what = f"{pool}: mean over {', '.join(members)}"
        if len(members) > 1:
            what += f", {len(members) - 1} of {len(members)} drawn with replacement as well"
        lines.append(f"{_escape(what)}.")
    lines += [_escape(note) for note in comparison.notes]
    for contrast in comparison.contrasts:
        if contrast.not_compared:
            lines.append(
                f"{_escape(contrast.variant)} and {_escape(contrast.reference)} do not both have "
                f"{', '.join(contrast.not_compared)}."
            )
    if comparison.missing:
        lines.append(
            "Missing cells, left out on both sides of a difference: "
            f"{'; '.join(comparison.missing)}."
        )
    if text := _undefined(comparison):
        lines.append(text)
    return "\n".join(f"- {line}" for line in lines)


def _undefined(comparison: Comparison) -> str:
    """Which scores have replicates that were left out."""
    counts: dict[str, int] = {}
    for row in comparison.scores:
        counts[row.target] = max(counts.get(row.target, 0), row.undefined)
    labels = _targets(comparison)
    found = [f"{labels[name]} {count:,}" for name, count in counts.items() if count]
    if not found:
        return ""
    return (
        f"Replicates left out, for a split had labels of one value or class only (of "
        f"{comparison.replicates:,}): {', '.join(found)}."
    )


def _alt(comparison: Comparison) -> str:
    panels = ", ".join(f"{c.variant} − {c.reference}" for c in comparison.contrasts)
    return f"Paired differences with 95 % intervals per target and on average: {_escape(panels)}"


# ---- CSV ---------------------------------------------------------------------------------------


def _csv(comparison: Comparison) -> str:
    """One line per variant, reference and target, at full precision; empty where undefined."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(FIELDS)
    pairs = [(name, None) for name in _names(comparison) if comparison.contrast(name) is None]
    pairs += [(c.variant, c) for c in comparison.contrasts]
    for name, contrast in pairs:
        for target in _targets(comparison):
            own = comparison.score(name, target)
            if own is None:
                continue
            row = contrast.row(target) if contrast else None
            line = [name, contrast.reference if contrast else "", target, own.metric]
            line += [own.value, own.low, own.high, own.se, own.num_targets]
            if row is None:
                line += [None] * (len(FIELDS) - len(line) - 1) + [own.undefined]
            else:
                line += [row.value, row.low, row.high, row.se, row.p, row.p_adjusted]
                line += [row.ahead, row.behind, row.ties, row.identical, row.pairs]
                line += [row.detectable, row.verdict, row.num_targets, row.undefined]
            writer.writerow(line)
    return buffer.getvalue()


# ---- LaTeX -------------------------------------------------------------------------------------


def tex(text: str) -> str:
    """Escapes what LaTeX would read as a command."""
    return "".join(TEX.get(character, character) for character in text)


def _latex(comparison: Comparison) -> str:
    parts = ["% Needs \\usepackage{booktabs} in the preamble."]
    names = _names(comparison)
    for chunk in _chunks(names):
        scores = {name: lambda target, name=name: comparison.score(name, target) for name in chunk}
        caption = "Score with 95 % interval: R², or balanced accuracy where named."
        parts.append(_tabular(comparison, scores, score, caption))
    for reference, contrasts in _by_reference(comparison).items():
        for chunk in _chunks(contrasts):
            caption = (
                f"Paired difference to {reference} with 95 % interval; bold where it excludes 0."
            )
            columns = {contrast.variant: contrast.row for contrast in chunk}
            parts.append(_tabular(comparison, columns, signed, caption))
    return "\n\n".join(parts) + "\n"


def _tabular(
    comparison: Comparison,
    columns: Mapping[str, Callable[[str], Score | Difference | None]],
    show: Callable[[float | None], str],
    caption: str,
) -> str:
    """A table whose targets take two lines: values, and intervals beneath."""
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{tex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["", *map(tex, columns)]) + r" \\",
        r"\midrule",
    ]
    ruled = False
    for target, label in _targets(comparison).items():
        rows = [column(target) for column in columns.values()]
        if not any(rows):
            continue
        if target in AVERAGES and not ruled:
            lines.append(r"\midrule")
            ruled = True
        label = tex(label.replace("†", "")) + (r"$^\dagger$" if "†" in label else "")
        lines.append(" & ".join([label, *(_tex_value(row, show) for row in rows)]) + r" \\")
        below = [r"{\scriptsize " + tex(_interval(row, show)) + "}" if row else "" for row in rows]
        lines.append(" & ".join(["", *below]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines)


def _tex_value(row: Score | Difference | None, show: Callable[[float | None], str]) -> str:
    if row is None:
        return "--"
    if isinstance(row, Difference) and row.verdict == "same model":
        return "same model"
    value = tex(show(row.value))
    bold = isinstance(row, Difference) and row.verdict in ("win", "loss")
    return rf"\textbf{{{value}}}" if bold else value


# ---- plot --------------------------------------------------------------------------------------


def _plot(comparison: Comparison) -> bytes:
    """Forest plot, a panel per contrast, 1200 pixels wide."""
    with matplotlib.rc_context(STYLE | {"axes.titleweight": "normal", "axes.titlesize": 9}):
        figure = _forest(comparison)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _forest(comparison: Comparison) -> Figure:
    targets = _targets(comparison)
    contrasts = comparison.contrasts
    columns = min(WIDTH, max(1, len(contrasts)))
    lines = max(1, -(-len(contrasts) // columns))
    figure = Figure(figsize=(1200 / 170, 0.9 + lines * (0.75 + 0.27 * len(targets))))
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharey=True, sharex=True, squeeze=False)  # [lines, cols]
    limit = _limit([row for contrast in contrasts for row in contrast.rows])
    places = {name: -k - 0.6 * (name in AVERAGES) for k, name in enumerate(targets)}
    short = {
        name: label.replace(", balanced accuracy", "\n(balanced accuracy)").replace(
            " without identity targets", "\nwithout identities"
        )
        for name, label in targets.items()
    }
    for axes, contrast in zip(grid.flat, contrasts, strict=False):
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for row in contrast.rows:
            _draw(axes, row, places[row.target], limit)
        axes.set_title(f"{contrast.variant}\n− {contrast.reference}")
        axes.grid(False, axis="y")
        axes.set(xlim=(-limit * 1.06, limit * 1.06), ylim=(min(places.values()) - 0.7, 0.7))
        axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True, min_n_ticks=3))
        axes.set_yticks(list(places.values()), list(short.values()), fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
    for axes in list(grid.flat)[len(contrasts) :]:
        axes.set_visible(False)
    for column in range(columns):  # the lowest panel of a column shows the numbers
        last = max((k for k in range(lines) if k * columns + column < len(contrasts)), default=0)
        grid[last, column].tick_params(labelbottom=True)
    figure.supxlabel("Paired difference of R² or balanced accuracy, 95 % interval", fontsize=9)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=5, fontsize=8)
    return figure


def _limit(rows: Sequence[Difference]) -> float:
    """Half the width of a panel: all intervals, unless a few dwarf the rest; those are cut."""
    ends = [abs(v) for row in rows for v in (row.low, row.high, row.value) if v]
    if not ends:
        return 0.1
    return float(min(max(ends), 2.5 * np.percentile(ends, 75)))


def _draw(axes, row: Difference, place: float, limit: float) -> None:
    if row.value is None:
        axes.text(0, place, "undefined", fontsize=7, color=GREY, va="center", ha="center")
        return
    if row.verdict == "same model":
        axes.plot(0, place, marker="|", color=GREY, markersize=8, markeredgewidth=2.5)
        return
    if row.detectable is not None:
        size = min(row.detectable, limit * 1.06)
        axes.barh(place, 2 * size, left=-size, height=0.62, color=BAND, alpha=0.7, zorder=0)
    color, fill = {"win": (BLUE, BLUE), "loss": (VERMILION, VERMILION)}.get(
        row.verdict, (INK, "white")
    )
    if row.low is not None:
        ends = np.clip([row.low, row.high], -limit, limit)
        axes.plot(ends, [place, place], color=color, linewidth=1.6, zorder=2)
        for end, side in ((row.low, "<"), (row.high, ">")):
            if abs(end) > limit * (1 + 1e-9):
                at = math.copysign(limit, end)
                axes.plot(at, place, marker=side, color=color, markersize=5, zorder=2)
    shape = {"win": "o", "loss": "s"}.get(row.verdict, "o")
    if abs(row.value) <= limit * (1 + 1e-9):
        size = 5.5 if row.target in AVERAGES else 5
        shape = "D" if row.target in AVERAGES else shape
        axes.plot(
            row.value, place, marker=shape, color=color, markerfacecolor=fill, markersize=size,
            markeredgewidth=1.3, linestyle="none", zorder=3,
        )


def _legend() -> list:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    point = dict(linewidth=1.6, markersize=5)
    return [
        Line2D([], [], color=BLUE, marker="o", label="won", **point),
        Line2D([], [], color=VERMILION, marker="s", label="lost", **point),
        Line2D([], [], color=INK, marker="o", markerfacecolor="white", label="undecided", **point),
        Line2D(
            [], [], color=GREY, marker="|", markersize=8, markeredgewidth=2.5, linestyle="none",
            label="same model",
        ),
        Patch(color=BAND, alpha=0.7, label="too small to detect"),
    ]
