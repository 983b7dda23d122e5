"""The figures of a page: each a PNG file and the same as a data URI."""

import base64
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from sklearn.metrics import roc_curve

from densityjax.report.run_files import FinishedRun
from densityjax.report.style import BLUE, GREY, INK, STYLE, VERMILION
from densityjax.report.tables import worst_rows, write_csv
from densityjax.report.text import file_stem, formula_text, number, score, with_unit
from densityjax.results.predictions_table import TargetPredictions
from densityjax.runtime.files import replaced
from densityjax.targets import TargetSpec


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as a PNG data URI, with what it shows in words."""

    name: str
    uri: str
    alt: str


def draw_figures(folder: Path, run: FinishedRun) -> dict[str, list[Picture]]:
    """Draws the figures into `folder`, by the part of the page that shows them."""
    test = run.metrics["test"]
    with matplotlib.rc_context(STYLE):
        curves = [_score_curve(folder, run, spec) for spec in run.specs]
        classes = []
        for spec in run.of_kind("classification"):
            arguments = (folder, run.predictions[spec.name], test[spec.name])
            if len(spec.classes) == 2:
                classes.append(_roc(*arguments))
            classes.append(_confusion(*arguments))
        return {
            "loss": [_loss_curves(folder, run)],
            "curves": [curve for curve in curves if curve],
            "parity": [
                _parity(folder, run.predictions[spec.name], test[spec.name])
                for spec in run.of_kind("regression")
            ],
            "classes": classes,
        }


def picture(folder: Path, name: str, figure: Figure, alt: str) -> Picture:
    """Leaves a figure as folder/name.png.

    Args:
        alt: what it shows, in words.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with replaced(folder / f"{name}.png") as partial:
        partial.write_bytes(buffer.getvalue())
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(name, f"data:image/png;base64,{encoded}", alt)


def axes_of(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, and its axes."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _name_points(
    axes: Axes, points: np.ndarray, worst: Sequence[int], names: Sequence[str]
) -> None:
    """Writes names beside points [n, 2], where they cover the fewest points and no other name."""
    figure = axes.figure
    figure.draw_without_rendering()
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    pixels = axes.transData.transform(points)  # [n, 2]
    taken = []
    for index, name in zip(worst, names, strict=True):
        options = []
        for dx, dy in ((7, 5), (-7, 5), (7, -5), (-7, -5), (0, 11), (0, -11), (14, 18), (-14, -18)):
            text = axes.annotate(
                name, points[index], xytext=(dx, dy), textcoords="offset points",
                ha="center" if dx == 0 else "left" if dx > 0 else "right",
                va="bottom" if dy > 0 else "top", fontsize=8, color=INK,
            )
            box = text.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1
            inside = inside and frame.y0 <= box.y0 and box.y1 <= frame.y1
            covered = np.sum(np.all((pixels > box.min) & (pixels < box.max), axis=1))
            cost = covered + 1000 * sum(box.overlaps(other) for other in taken) + 500 * (not inside)
            options.append((cost, len(options), text, box))
        best = min(options)
        for option in options:
            if option is not best:
                option[2].remove()
        taken.append(best[3])


def _parity(folder: Path, table: TargetPredictions, metrics: Mapping) -> Picture:
    spec, known = table.spec, table.labelled
    truth, prediction = table.truth[known], table.prediction[known]  # [n] in the target's unit
    spread = np.nan_to_num(table.spread[known])
    figure, axes = axes_of(3.7, 3.9)
    worst = worst_rows(table)  # rows of the whole table
    if truth.size:
        values = np.concatenate([truth, prediction])
        margin = 0.05 * np.ptp(values) or 1.0
        limits = (values.min() - margin, values.max() + margin)
        axes.plot(limits, limits, color=GREY, linewidth=1, zorder=1)
        axes.errorbar(truth, prediction, yerr=spread, fmt="none", ecolor=BLUE, alpha=0.35, lw=0.8)
        axes.scatter(truth, prediction, s=14, color=BLUE, alpha=0.55, linewidths=0, zorder=3)
        axes.scatter(
            table.truth[worst], table.prediction[worst], s=34, facecolors="none",
            edgecolors=VERMILION, linewidths=1.4, zorder=4,
        )
        axes.set(xlim=limits, ylim=limits)
    axes.set_aspect("equal")
    axes.locator_params(nbins=5, min_n_ticks=3)
    axes.set_yticks(axes.get_xticks())
    if truth.size:
        axes.set(xlim=limits, ylim=limits)
    unit = f" ({spec.unit})" if spec.unit else ""
    axes.set(xlabel=f"Reference{unit}", ylabel=f"Predicted{unit}")
    facts = (
        f"R² {score(metrics['r2'])}   MAE {with_unit(number(metrics['mae']), spec)}   "
        f"n = {metrics['n']}"
    )
    axes.set_title(f"{spec.label}\n", pad=6)
    axes.text(0, 1.03, facts, transform=axes.transAxes, fontsize=9)
    formulas = [table.formulas[row] for row in worst]
    places = np.searchsorted(np.flatnonzero(known), worst)  # of the worst among the points
    points = np.stack([truth, prediction], axis=1)  # [n, 2]
    _name_points(axes, points, places, [formula_text(formula) for formula in formulas])
    alt = (
        f"Parity plot of {spec.label}: predicted against reference values{unit} of {truth.size} "
        f"test materials, {facts}. Largest errors: {', '.join(formulas) or 'none'}."
    )
    return picture(folder, f"parity_{file_stem(spec.name)}", figure, " ".join(alt.split()))


def _series(history: Iterable[Mapping], split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and finite values of one quantity, [m] each."""
    pairs = [
        (record["epoch"], record[key])
        for record in history
        if record["split"] == split and isinstance(record.get(key), int | float)
    ]
    epochs, values = np.array(pairs, np.float64).reshape(-1, 2).T
    keep = np.isfinite(values)
    return epochs[keep], values[keep]


def _best_epoch(run: FinishedRun) -> float | None:
    """Epoch of the best checkpoint, between the steps that were logged."""
    best = run.metrics["best_step"]
    if best is None or not run.history:
        return None
    steps, epochs = zip(*((record["step"], record["epoch"]) for record in run.history))
    return float(np.interp(best, steps, epochs))


def _mark_best(axes: Axes, epoch: float | None, label: str | None = "best checkpoint") -> None:
    if epoch is not None:
        axes.axvline(epoch, color=VERMILION, linewidth=1.1, linestyle=(0, (2, 2)), label=label)


def _loss_curves(folder: Path, run: FinishedRun) -> Picture:
    figure, axes = axes_of(7.4, 3.3)
    lines = {
        "train": dict(color=GREY, linewidth=1.0, linestyle="-"),
        "validation": dict(color=BLUE, linewidth=1.8, linestyle="-", marker="o", markersize=3.5),
    }
    positive, last = True, {}
    for split, style in lines.items():
        epochs, losses = _series(run.history, split, "loss")
        axes.plot(epochs, losses, label=f"{split} loss", **style)
        positive = positive and np.all(losses > 0)
        last[split] = number(float(losses[-1])) if losses.size else "–"
    if positive:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""
        )
    _mark_best(axes, _best_epoch(run))
    axes.set(xlabel="Epoch", title="Loss (standardised targets)")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlim(left=0)
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    alt = f"Loss against epoch: last training {last['train']}, validation {last['validation']}."
    return picture(folder, "loss", figure, alt)


def _score_curve(folder: Path, run: FinishedRun, spec: TargetSpec) -> Picture | None:
    """Validation R2 (classes: ROC AUC) against epochs; None if it was not logged."""
    key, label = ("r2", "R²") if spec.kind == "regression" else ("roc_auc", "ROC AUC")
    epochs, values = _series(run.history, "validation", f"{spec.name}/{key}")
    if not values.size:
        return None
    figure, axes = axes_of(3.1, 2.1)
    axes.plot(epochs, values, color=BLUE, linewidth=1.6, marker="o", markersize=3)
    best = _best_epoch(run)
    _mark_best(axes, best)
    floor = 0.0 if spec.kind == "regression" else 0.5
    # A first epoch far below zero would flatten everything that matters.
    axes.set_ylim(max(-0.5, min(floor, values.min())) - 0.03, 1.03)
    axes.set_xlim(0, max(epochs[-1], best or 0) * 1.03 or 1)
    axes.yaxis.set_major_locator(MultipleLocator(0.5 if spec.kind == "regression" else 0.25))
    axes.set(xlabel="Epoch", title=spec.label, ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    alt = (
        f"Validation {label} of {spec.label} against epoch: first {score(float(values[0]))}, "
        f"highest {score(float(values.max()))}, last {score(float(values[-1]))}."
    )
    return picture(folder, f"validation_{file_stem(spec.name)}", figure, alt)


def _roc(folder: Path, table: TargetPredictions, metrics: Mapping) -> Picture:
    spec, known = table.spec, table.labelled
    positive = spec.classes[-1]
    truth = table.truth[known] == len(spec.classes) - 1  # [n] bool
    scores = table.prediction[known, -1]  # [n] probability of the last class
    figure, axes = axes_of(3.7, 3.9)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0.62, 0.55, "chance", color=GREY, fontsize=8)
    if 0 < truth.sum() < truth.size:
        false_rate, true_rate, thresholds = roc_curve(truth, scores)
        axes.plot(false_rate, true_rate, color=BLUE, linewidth=2)
        points = zip(thresholds.tolist(), false_rate.tolist(), true_rate.tolist(), strict=True)
        header = ("threshold", "false_positive_rate", "true_positive_rate")
        write_csv(folder / f"roc_{file_stem(spec.name)}.csv", header, points)
    axes.set_aspect("equal")
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="False positive rate",
        ylabel="True positive rate", title=f"{spec.label}\n",
    )
    facts = f"ROC AUC {score(metrics['roc_auc'])} for “{positive}”   n = {metrics['n']}"
    axes.text(0, 1.03, facts, transform=axes.transAxes, fontsize=9)
    alt = f"ROC curve of {spec.label}: {facts}."
    return picture(folder, f"roc_{file_stem(spec.name)}", figure, alt)


def _confusion(folder: Path, table: TargetPredictions, metrics: Mapping) -> Picture:
    spec, known = table.spec, table.labelled
    counts = np.zeros((len(spec.classes),) * 2, int)  # [K true, K predicted]
    np.add.at(counts, (table.truth[known], table.prediction[known].argmax(1)), 1)
    lines = ([name, *line] for name, line in zip(spec.classes, counts.tolist(), strict=True))
    write_csv(folder / f"confusion_{file_stem(spec.name)}.csv", ("true", *spec.classes), lines)
    shade = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # fraction of the true class
    figure, axes = axes_of(3.7, 3.9)
    axes.grid(False)
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shade[row, column] > 0.55 else (INK if count else GREY)
        axes.text(column, row, count, ha="center", va="center", color=color)
    turned = dict(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xticks(range(len(counts)), spec.classes, **turned)
    axes.set_yticks(range(len(counts)), spec.classes)
    axes.set(xlabel="Predicted", ylabel="True", title=f"{spec.label}\n")
    facts = f"balanced accuracy {score(metrics['balanced_accuracy'])}   n = {metrics['n']}"
    axes.text(0, 1.03, facts, transform=axes.transAxes, fontsize=9)
    wrong = int(counts.sum() - np.trace(counts))
    alt = f"Confusion matrix of {spec.label}: {wrong} of {counts.sum()} wrong, {facts}."
    return picture(folder, f"confusion_{file_stem(spec.name)}", figure, " ".join(alt.split()))
