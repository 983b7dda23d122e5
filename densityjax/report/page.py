"""One self-contained HTML page about a finished run, made only from the files the run left.

Reads config.json, run.json, metrics.json, metrics.jsonl and predictions.csv of a work directory;
writes report.html and, in report/, the PNG and CSV files that it shows.
"""

import base64
import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from sklearn.metrics import roc_curve

from densityjax.results.baselines import BASELINES
from densityjax.results.metrics import average_r2
from densityjax.runtime.files import flatten
from densityjax.targets import TargetSpec, read_specs

# Okabe and Ito's colours, told apart under every common colour blindness; lines differ in dash too.
BLUE, VERMILION, GREY, INK = "#0072B2", "#D55E00", "#6b7280", "#1f2937"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.edgecolor": GREY,
    "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#e5e7eb", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "legend.frameon": False, "figure.constrained_layout.use": True, "savefig.dpi": 170,
    "text.parse_math": False,
}
METHODS = {"model": "Model", "mean": "Mean", "identity": "Identity", "ridge": "Ridge"}
REGRESSION = {"r2": "R²", "mae": "Mean absolute error", "rmse": "Root mean squared error"}
CLASSIFICATION = {
    "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC", "macro_f1": "Macro-F1",
}
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
WORST = 3  # materials named per target
TEMPLATE = Path(__file__).with_name("template.html")
RUN_FIELDS = (
    "commit", "seed", "finished", "platform", "device_kind", "num_devices", "cpu_count",
    "parameters", "seconds.train", "seconds_per_epoch", "peak_memory_gib", "dataset.name",
    "dataset.version", "dataset.train_examples", "dataset.validation_examples",
    "dataset.test_examples", "dataset.train_folds", "dataset.validation_fold", "dataset.test_fold",
)
COLUMNS = ("id", "formula", "target", "truth", "prediction", "spread", "probabilities")


class ReportError(ValueError):
    """A run directory from which no report can be made; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Contents of a run directory.

    Attributes:
        config, run, metrics: the JSON files.
        history: lines of metrics.jsonl, one per (split, step), ordered by step.
        predictions: target name -> rows of predictions.csv.
        specs: targets of the run, in the order of metrics.json.
    """

    config: dict
    run: dict
    metrics: dict
    history: list[dict]
    predictions: dict[str, list[dict[str, str]]]
    specs: tuple[TargetSpec, ...]

    def of_kind(self, kind: str) -> list[TargetSpec]:
        return [spec for spec in self.specs if spec.kind == kind]

    def methods(self, split: str) -> dict[str, Mapping]:
        """Method -> target -> metrics: the model, then the baselines."""
        baselines = _get(self.metrics, "metrics.json", "baselines", split)
        return {"model": self.metrics[split]} | {name: baselines[name] for name in BASELINES}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as a PNG data URI, with what it shows in words."""

    name: str
    uri: str
    alt: str


def _get(data: Mapping, file: str, *keys: str):
    """Nested value, or a `ReportError` that names the file and the field."""
    for depth, key in enumerate(keys):
        if not isinstance(data, Mapping) or key not in data:
            raise ReportError(
                f"{file} has no field '{'.'.join(keys[: depth + 1])}': it was not written by this "
                "version of densityjax; rerun the evaluation"
            )
        data = data[key]
    return data


def _text(workdir: Path, name: str) -> str:
    path = workdir / name
    if not path.is_file():
        raise ReportError(
            f"{path} is missing: a report needs a finished run; train it first with "
            f"python -m densityjax.main --config=CONFIG --workdir={workdir}"
        )
    return path.read_text(encoding="utf-8")


def _json(workdir: Path, name: str, text: str | None = None):
    try:
        return json.loads(_text(workdir, name) if text is None else text)
    except json.JSONDecodeError as error:
        raise ReportError(f"{workdir / name} is not valid JSON: {error}") from error


def read_run(workdir: Path) -> Run:
    """Reads a run directory.

    Raises:
        ReportError: a file or field is missing or damaged.
    """
    config, run, metrics = (_json(workdir, f"{n}.json") for n in ("config", "run", "metrics"))
    for key in RUN_FIELDS:
        _get(run, "run.json", *key.split("."))
    history = {}
    for count, line in enumerate(_text(workdir, "metrics.jsonl").splitlines(), start=1):
        record = _json(workdir, f"metrics.jsonl line {count}", line)
        key = tuple(_get(record, f"metrics.jsonl line {count}", k) for k in ("split", "step"))
        history[key] = record  # a resumed run repeats steps: the last line counts
    specs = read_specs(workdir, list(_get(metrics, "metrics.json", "test")))
    predictions: dict[str, list[dict[str, str]]] = {spec.name: [] for spec in specs}
    reader = csv.DictReader(io.StringIO(_text(workdir, "predictions.csv")))
    if missing := set(COLUMNS) - set(reader.fieldnames or ()):
        raise ReportError(f"{workdir}/predictions.csv lacks the columns {sorted(missing)}")
    for row in reader:
        if row["target"] not in predictions:
            raise ReportError(
                f"{workdir}/predictions.csv has the target '{row['target']}', metrics.json does "
                "not: they come from different runs; rerun the evaluation"
            )
        predictions[row["target"]].append(row)
    ordered = sorted(history.values(), key=lambda record: record["step"])
    return Run(config, run, metrics, ordered, predictions, specs)


# ---- numbers and names -------------------------------------------------------------------------


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


def _with_unit(text: str, spec: TargetSpec) -> str:
    return f"{text} {spec.unit}" if spec.unit else text


def _regression_arrays(rows: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray, list[Mapping]]:
    """Labels [n], predictions [n] and rows that have a label."""
    rows = [row for row in rows if row["truth"]]
    values = [(float(row["truth"]), float(row["prediction"])) for row in rows]
    truth, prediction = np.array(values, np.float64).reshape(-1, 2).T
    return truth, prediction, rows


# ---- figures -----------------------------------------------------------------------------------


def _picture(folder: Path, name: str, figure: Figure, alt: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    (folder / f"{name}.png").write_bytes(buffer.getvalue())
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(name, f"data:image/png;base64,{encoded}", alt)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _name_points(axes: Axes, points: np.ndarray, worst: Sequence[int], names: Sequence[str]):
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


def _parity(folder: Path, spec: TargetSpec, rows: Sequence[Mapping], metrics: Mapping) -> Picture:
    truth, prediction, rows = _regression_arrays(rows)
    figure, axes = _axes(3.7, 3.9)
    spread = np.array([float(row["spread"] or 0) for row in rows])
    worst = np.argsort(-np.abs(prediction - truth), kind="stable")[:WORST]
    if truth.size:
        values = np.concatenate([truth, prediction])
        margin = 0.05 * np.ptp(values) or 1.0
        limits = (values.min() - margin, values.max() + margin)
        axes.plot(limits, limits, color=GREY, linewidth=1, zorder=1)
        axes.errorbar(truth, prediction, yerr=spread, fmt="none", ecolor=BLUE, alpha=0.35, lw=0.8)
        axes.scatter(truth, prediction, s=14, color=BLUE, alpha=0.55, linewidths=0, zorder=3)
        axes.scatter(
            truth[worst], prediction[worst], s=34, facecolors="none", edgecolors=VERMILION,
            linewidths=1.4, zorder=4,
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
        f"R² {score(metrics['r2'])}   MAE {_with_unit(number(metrics['mae']), spec)}   "
        f"n = {metrics['n']}"
    )
    axes.set_title(f"{spec.label}\n", pad=6)
    axes.text(0, 1.03, facts, transform=axes.transAxes, fontsize=9)
    names = [formula_text(rows[i]["formula"]) for i in worst]
    _name_points(axes, np.stack([truth, prediction], axis=1), worst, names)
    worst_names = ", ".join(rows[i]["formula"] for i in worst)
    alt = (
        f"Parity plot of {spec.label}: predicted against reference values{unit} of {len(rows)} "
        f"test materials, {facts}. Largest errors: {worst_names or 'none'}."
    )
    return _picture(folder, f"parity_{spec.name}", figure, " ".join(alt.split()))


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


def _best_epoch(run: Run) -> float | None:
    """Epoch of the best checkpoint, between the steps that were logged."""
    best = _get(run.metrics, "metrics.json", "best_step")
    if best is None or not run.history:
        return None
    steps, epochs = zip(*((record["step"], record["epoch"]) for record in run.history))
    return float(np.interp(best, steps, epochs))


def _mark_best(axes: Axes, epoch: float | None, label: str | None = "best checkpoint") -> None:
    if epoch is not None:
        axes.axvline(epoch, color=VERMILION, linewidth=1.1, linestyle=(0, (2, 2)), label=label)


def _loss_curves(folder: Path, run: Run) -> Picture:
    figure, axes = _axes(7.4, 3.3)
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
    return _picture(folder, "loss", figure, alt)


def _score_curve(folder: Path, run: Run, spec: TargetSpec) -> Picture | None:
    """Validation R2 (classes: ROC AUC) against epochs; None if it was not logged."""
    key, label = ("r2", "R²") if spec.kind == "regression" else ("roc_auc", "ROC AUC")
    epochs, values = _series(run.history, "validation", f"{spec.name}/{key}")
    if not values.size:
        return None
    figure, axes = _axes(3.1, 2.1)
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
    return _picture(folder, f"validation_{spec.name}", figure, alt)


def _roc(folder: Path, spec: TargetSpec, rows: Sequence[Mapping], metrics: Mapping) -> Picture:
    rows = [row for row in rows if row["truth"]]
    positive = spec.classes[-1]
    truth = np.array([row["truth"] == positive for row in rows], bool)  # [n]
    scores = np.array([float(row["probabilities"].split(";")[-1]) for row in rows])  # [n]
    figure, axes = _axes(3.7, 3.9)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0.62, 0.55, "chance", color=GREY, fontsize=8)
    if 0 < truth.sum() < truth.size:
        false_rate, true_rate, thresholds = roc_curve(truth, scores)
        axes.plot(false_rate, true_rate, color=BLUE, linewidth=2)
        table = zip(thresholds.tolist(), false_rate.tolist(), true_rate.tolist(), strict=True)
        header = ("threshold", "false_positive_rate", "true_positive_rate")
        _write_csv(folder / f"roc_{spec.name}.csv", header, table)
    axes.set_aspect("equal")
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="False positive rate",
        ylabel="True positive rate", title=f"{spec.label}\n",
    )
    facts = f"ROC AUC {score(metrics['roc_auc'])} for “{positive}”   n = {metrics['n']}"
    axes.text(0, 1.03, facts, transform=axes.transAxes, fontsize=9)
    return _picture(folder, f"roc_{spec.name}", figure, f"ROC curve of {spec.label}: {facts}.")


def _confusion(folder: Path, spec: TargetSpec, rows: Sequence[Mapping], metrics: Mapping):
    index = {name: k for k, name in enumerate(spec.classes)}
    counts = np.zeros((len(index), len(index)), int)  # [K true, K predicted]
    for row in rows:
        if row["truth"]:
            counts[index[row["truth"]], index[row["prediction"]]] += 1
    table = ([name, *line] for name, line in zip(spec.classes, counts.tolist(), strict=True))
    _write_csv(folder / f"confusion_{spec.name}.csv", ("true", *spec.classes), table)
    shade = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # fraction of the true class
    figure, axes = _axes(3.7, 3.9)
    axes.grid(False)
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shade[row, column] > 0.55 else (INK if count else GREY)
        axes.text(column, row, count, ha="center", va="center", color=color)
    turned = dict(rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xticks(range(len(index)), spec.classes, **turned)
    axes.set_yticks(range(len(index)), spec.classes)
    axes.set(xlabel="Predicted", ylabel="True", title=f"{spec.label}\n")
    facts = f"balanced accuracy {score(metrics['balanced_accuracy'])}   n = {metrics['n']}"
    axes.text(0, 1.03, facts, transform=axes.transAxes, fontsize=9)
    wrong = int(counts.sum() - np.trace(counts))
    alt = f"Confusion matrix of {spec.label}: {wrong} of {counts.sum()} wrong, {facts}."
    return _picture(folder, f"confusion_{spec.name}", figure, " ".join(alt.split()))


# ---- tables ------------------------------------------------------------------------------------


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _cells(values: Mapping[str, float | None], show, best=max) -> dict[str, tuple[str, bool]]:
    """Method -> (text, whether it is the best as printed); absent values are '–'."""
    known = [value for value in values.values() if value is not None]
    top = show(best(known)) if known else None
    return {
        name: (show(value), value is not None and show(value) == top)
        for name, value in values.items()
    }


def _regression_table(run: Run, split: str) -> list[dict]:
    """One row per regression target: R2 and MAE of every method."""
    methods = run.methods(split)
    rows = []
    for spec in run.of_kind("regression"):
        values = {
            key: {m: table.get(spec.name, {}).get(key) for m, table in methods.items()}
            for key in REGRESSION
        }
        rows.append({
            "spec": spec,
            "n": number(run.metrics[split][spec.name]["n"]),
            "r2": _cells(values["r2"], score),
            "mae": _cells(values["mae"], number, min),
            "rmse": _cells(values["rmse"], number, min),
        })
    return rows


def _average_cells(run: Run, split: str, identities: bool) -> dict[str, tuple[str, bool]]:
    """Average R2 per method; an identity covers too few targets to have one."""
    values = {
        name: None if name == "identity" else average_r2(table, run.specs, identities)
        for name, table in run.methods(split).items()
    }
    return _cells(values, score)


def _class_table(run: Run, split: str) -> list[dict]:
    """One block per class target, a row per method."""
    blocks = []
    for spec in run.of_kind("classification"):
        methods = {m: t[spec.name] for m, t in run.methods(split).items() if spec.name in t}
        columns = [_cells({m: v.get(k) for m, v in methods.items()}, score) for k in CLASSIFICATION]
        blocks.append({
            "spec": spec,
            "n": number(run.metrics[split][spec.name]["n"]),
            "prevalence": _prevalence(run.metrics[split][spec.name]),
            "rows": [(METHODS[m], [column[m] for column in columns]) for m in methods],
        })
    return blocks


def _prevalence(metrics: Mapping) -> str:
    shares = metrics["prevalence"].items()
    return ", ".join(f"{k} {100 * v:.1f}\u00a0%" for k, v in shares if v is not None)


def _spread_table(run: Run) -> list[dict]:
    """Mean, median and 95th percentile over materials of the spread over views."""
    rows = []
    for spec in run.specs:
        metrics = run.metrics["test"][spec.name]
        values = [float(r["spread"]) for r in run.predictions[spec.name] if r["spread"]]
        mean, mae = metrics.get("spread_over_views"), metrics.get("mae")
        if not values or mean is None:
            continue
        rows.append({
            "spec": spec,
            "unit": spec.unit or ("probability" if spec.classes else "–"),
            "mean": number(mean),
            "median": number(float(np.median(values))),
            "p95": number(float(np.percentile(values, 95))),
            "relative": number(metrics.get("relative_spread")),
            "of_mae": number(mean / mae) if mae else "–",
        })
    return rows


def _largest_errors(run: Run) -> list[list[dict]]:
    """Per regression target, the materials with the largest absolute errors."""
    groups = []
    for spec in run.of_kind("regression"):
        truth, prediction, labelled = _regression_arrays(run.predictions[spec.name])
        error = prediction - truth
        mae = run.metrics["test"][spec.name]["mae"]
        groups.append([
            {
                "spec": spec, "id": labelled[i]["id"], "formula": labelled[i]["formula"],
                "truth": float(truth[i]), "prediction": float(prediction[i]),
                "error": float(error[i]), "times": float(abs(error[i]) / mae) if mae else None,
            }
            for i in np.argsort(-np.abs(error), kind="stable")[:WORST]
        ])
    return [group for group in groups if group]


def _confident_mistakes(run: Run) -> list[dict]:
    rows = []
    for spec in run.of_kind("classification"):
        wrong = [
            row | {"spec": spec, "p": max(map(float, row["probabilities"].split(";")))}
            for row in run.predictions[spec.name]
            if row["truth"] and row["truth"] != row["prediction"]
        ]
        rows += sorted(wrong, key=lambda row: -row["p"])[:WORST]
    return rows


def _write_tables(folder: Path, run: Run, errors: Sequence[Sequence[Mapping]]) -> None:
    """The numbers behind the page, at full precision."""
    units = {spec.name: spec.unit for spec in run.specs}
    rows = []
    for split in (s for s in ("test", "validation") if s in run.metrics):
        for method, table in run.methods(split).items():
            for target, metrics in table.items():
                rows += [
                    (split, method, target, units[target], key, value)
                    for key, value in flatten(metrics).items()
                    if not isinstance(value, list)
                ]
    header = ("split", "method", "target", "unit", "metric", "value")
    _write_csv(folder / "metrics.csv", header, rows)
    keys = list(dict.fromkeys(key for record in run.history for key in record))
    curves = ([record.get(key) for key in keys] for record in run.history)
    _write_csv(folder / "learning_curves.csv", keys, curves)
    keys = ("id", "formula", "truth", "prediction", "error")
    rows = [row for group in errors for row in group]
    largest = ([row["spec"].name, row["spec"].unit, *(row[k] for k in keys)] for row in rows)
    _write_csv(folder / "largest_errors.csv", ("target", "unit", *keys), largest)


# ---- the page ----------------------------------------------------------------------------------


def _headline(run: Run) -> list[tuple[str, str]]:
    """Label and value of the facts on top."""
    facts = []
    average = _get(run.metrics, "metrics.json", "average", "test")
    if average.get("r2") is not None:
        facts.append(("average R², test fold", score(average["r2"])))
        if any(spec.identity for spec in run.of_kind("regression")):
            without = score(average.get("r2_without_identities"))
            facts.append(("average R² without identity targets†", without))
    for spec in run.of_kind("classification"):
        auc = run.metrics["test"][spec.name]["roc_auc"]
        facts.append((f"ROC AUC, {spec.label.lower()}", score(auc)))
    facts.append(("training time", duration(run.run["seconds"]["train"])))
    facts.append(("parameters", number(run.run["parameters"])))
    return facts


def _pictures(folder: Path, run: Run) -> dict[str, list[Picture]]:
    test = run.metrics["test"]
    with matplotlib.rc_context(STYLE):
        curves = [_score_curve(folder, run, spec) for spec in run.specs]
        classes = []
        for spec in run.of_kind("classification"):
            arguments = (folder, spec, run.predictions[spec.name], test[spec.name])
            if len(spec.classes) == 2:
                classes.append(_roc(*arguments))
            classes.append(_confusion(*arguments))
        return {
            "loss": [_loss_curves(folder, run)],
            "curves": [curve for curve in curves if curve],
            "parity": [
                _parity(folder, spec, run.predictions[spec.name], test[spec.name])
                for spec in run.of_kind("regression")
            ],
            "classes": classes,
        }


def write_report(workdir: Path) -> Path:
    """Writes report.html, and report/*.png and report/*.csv with what it shows.

    Args:
        workdir: a finished run; config.json, run.json, metrics.json, metrics.jsonl and
          predictions.csv are read.

    Returns:
        Path of the page. It needs no other file and no network.

    Raises:
        ReportError: a file or field is missing or damaged.
    """
    workdir = Path(workdir)
    run = read_run(workdir)
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    errors = _largest_errors(run)
    _write_tables(folder, run, errors)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "score": score, "formula": formula_html}
    view = _get(run.metrics, "metrics.json", "view")
    splits = [split for split in ("test", "validation") if split in run.metrics]
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=workdir.resolve().name,
        dataset=run.run["dataset"],
        run=run.run,
        best_step=number(_get(run.metrics, "metrics.json", "best_step")),
        seconds_per_epoch=duration(run.run["seconds_per_epoch"]),
        view=view,
        views="rolls" if view == "fractional" else "views",
        facts=_headline(run),
        regression={split: _regression_table(run, split) for split in splits},
        averages={
            split: [
                (label, _average_cells(run, split, identities))
                for label, identities in (("Average", True), ("Average without †", False))
                if identities or any(s.identity for s in run.of_kind("regression"))
            ]
            for split in splits
        },
        classes={split: _class_table(run, split) for split in splits},
        class_metrics=CLASSIFICATION.values(),
        methods=METHODS,
        metric_names=REGRESSION,
        identity_targets=[s.label for s in run.of_kind("regression") if s.identity],
        spread=_spread_table(run),
        errors=errors,
        mistakes=_confident_mistakes(run),
        pictures=_pictures(folder, run),
        facts_table=flatten(run.run),
        config=flatten(run.config),
    )
    path = workdir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
