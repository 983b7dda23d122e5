"""The numbers of a page as rows and cells, and as CSV files at full precision."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.report.run_files import FinishedRun
from densityjax.report.text import number, score
from densityjax.results.metrics import average_r2
from densityjax.results.predictions_table import TargetPredictions
from densityjax.runtime.csv_cells import protect
from densityjax.runtime.files import flatten, replaced
from densityjax.targets import TargetSpec

METHODS = {
    "model": "Model", "network": "Network alone", "invariants": "Invariants",
    "density": "Density", "composition": "Composition", "both": "Composition + invariants",
    "all": "Structure + invariants", "identity": "Identity", "mean": "Mean", "ridge": "Ridge",
}
REGRESSION = {"r2": "R²", "mae": "Mean absolute error", "rmse": "Root mean squared error"}
CLASSIFICATION = {
    "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC", "macro_f1": "Macro-F1",
}
WORST = 3  # materials named per target

Cells = dict[str, tuple[str, bool]]  # method -> (text, whether it is the best as printed)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Replaces a table in one step; texts are no formulas in a spreadsheet, numbers are numbers."""
    with replaced(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [protect(cell) if isinstance(cell, str) else cell for cell in row]
            for row in (header, *rows)
        )


def worst_rows(table: TargetPredictions) -> np.ndarray:
    """Rows of the largest absolute errors, the largest first: [WORST] int, or fewer."""
    rows = np.flatnonzero(table.labelled)
    error = np.abs(table.prediction[rows] - table.truth[rows])
    return rows[np.argsort(-error, kind="stable")[:WORST]]


def _cells(
    values: Mapping[str, float | None], show: Callable[[Any], str], best: Callable = max
) -> Cells:
    """Cells of every method; absent values are '–'."""
    known = [value for value in values.values() if value is not None]
    top = show(best(known)) if known else None
    return {
        name: (show(value), value is not None and show(value) == top)
        for name, value in values.items()
    }


def regression_table(run: FinishedRun, split: str) -> list[dict]:
    """One row per regression target: R2 and MAE of every method."""
    methods = run.methods(split)
    rows = []
    for spec in run.of_kind("regression"):
        values = {
            key: {m: methods.get(m, {}).get(spec.name, {}).get(key) for m in METHODS}
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


def average_cells(run: FinishedRun, split: str, identities: bool) -> Cells:
    """Average R2 per method; an identity covers too few targets to have one."""
    values = {
        name: None if name == "identity" else average_r2(table, run.specs, identities)
        for name, table in run.methods(split).items()
    }
    return _cells({name: values.get(name) for name in METHODS}, score)


def class_table(run: FinishedRun, split: str) -> list[dict]:
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


def stack_rows(run: FinishedRun) -> list[tuple[TargetSpec, str]]:
    """Target and the learners that it is mixed of, those of a hundredth and more; or none."""
    weights = run.metrics.get("stack", {})
    rows = []
    for spec in run.specs:
        shares = sorted(weights.get(spec.name, {}).items(), key=lambda item: -item[1])
        words = [f"{name.replace('_', ', ')} {100 * w:.0f} %" for name, w in shares if w >= 0.01]
        if words:
            rows.append((spec, "; ".join(words)))
    return rows


def spread_table(run: FinishedRun) -> list[dict]:
    """Mean, median and 95th percentile over materials of the spread over views."""
    rows = []
    for spec in run.specs:
        metrics = run.metrics["test"][spec.name]
        values = run.predictions[spec.name].spread
        values = values[~np.isnan(values)]
        mean, mae = metrics.get("spread_over_views"), metrics.get("mae")
        if not values.size or mean is None:
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


def largest_errors(run: FinishedRun) -> list[list[dict]]:
    """Per regression target, the materials with the largest absolute errors."""
    groups = []
    for spec in run.of_kind("regression"):
        table, mae = run.predictions[spec.name], run.metrics["test"][spec.name]["mae"]
        group = []
        for row in worst_rows(table):
            error = float(table.prediction[row] - table.truth[row])
            group.append({
                "spec": spec, "id": table.ids[row], "formula": table.formulas[row],
                "truth": float(table.truth[row]), "prediction": float(table.prediction[row]),
                "error": error, "times": abs(error) / mae if mae else None,
            })
        groups.append(group)
    return [group for group in groups if group]


def confident_mistakes(run: FinishedRun) -> list[dict]:
    """Per class target, the materials whose wrong class got the highest probabilities."""
    rows = []
    for spec in run.of_kind("classification"):
        table = run.predictions[spec.name]
        predicted, confidence = table.prediction.argmax(1), table.prediction.max(1)  # [n], [n]
        wrong = np.flatnonzero(table.labelled & (table.truth != predicted))
        rows += [
            {
                "spec": spec, "id": table.ids[row], "formula": table.formulas[row],
                "truth": spec.classes[table.truth[row]],
                "prediction": spec.classes[predicted[row]], "p": float(confidence[row]),
            }
            for row in wrong[np.argsort(-confidence[wrong], kind="stable")[:WORST]]
        ]
    return rows


def member_rows(run: FinishedRun) -> list[dict]:
    """One row per member of an ensemble; none for a run that is not one."""
    return [
        {
            "name": member["directory"], "seed": member["seed"],
            "validation_fold": member["validation_fold"],
            "train_folds": ", ".join(map(str, member["train_folds"])),
            "best_step": number(member["best_step"]),
            **{split: score(member["average"][split]["r2"]) for split in run.splits},
        }
        for member in run.metrics.get("members", ())
    ]


def write_tables(folder: Path, run: FinishedRun, errors: Sequence[Sequence[Mapping]]) -> None:
    """The numbers behind the page, at full precision."""
    units = {spec.name: spec.unit for spec in run.specs}
    rows = []
    for split in run.splits:
        for method, table in run.methods(split).items():
            for target, metrics in table.items():
                rows += [
                    (split, method, target, units[target], key, value)
                    for key, value in flatten(metrics).items()
                    if not isinstance(value, list)
                ]
    header = ("split", "method", "target", "unit", "metric", "value")
    write_csv(folder / "metrics.csv", header, rows)
    keys = list(dict.fromkeys(key for record in run.history for key in record))
    curves = ([record.get(key) for key in keys] for record in run.history)
    write_csv(folder / "learning_curves.csv", keys, curves)
    keys = ("id", "formula", "truth", "prediction", "error")
    rows = [row for group in errors for row in group]
    largest = ([row["spec"].name, row["spec"].unit, *(row[k] for k in keys)] for row in rows)
    write_csv(folder / "largest_errors.csv", ("target", "unit", *keys), largest)
