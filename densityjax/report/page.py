"""One self-contained HTML page about a finished run, made only from the files the run left."""

from pathlib import Path
from typing import Any

import jinja2

from densityjax.config import YARDSTICK_NAMES
from densityjax.report.figures import draw_figures
from densityjax.report.intervals import draw_intervals, interval_rows
from densityjax.report.maps import map_pictures
from densityjax.report.run_files import FinishedRun, read_run
from densityjax.report.tables import (
    CLASSIFICATION,
    METHODS,
    REGRESSION,
    average_cells,
    class_table,
    confident_mistakes,
    largest_errors,
    member_rows,
    regression_table,
    spread_table,
    stack_rows,
    write_tables,
)
from densityjax.report.text import duration, formula_html, number, score
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.files import flatten, replace_text

TEMPLATE = Path(__file__).with_name("template.html")


def write_report(workdir: str | Path) -> Path:
    """Writes report.html, and report/*.png and report/*.csv with what it shows.

    Args:
        workdir: a finished run; config.json, run.json, metrics.json, metrics.jsonl and
          predictions.csv are read.

    Returns:
        Path of the page. It needs no other file and no network.

    Raises:
        UserError: a file or field is missing or damaged.
    """
    place = RunDirectory(Path(workdir))
    run = read_run(place.path)
    place.report_folder.mkdir(exist_ok=True)
    values = page_values(run)
    write_tables(place.report_folder, run, values["errors"])
    pictures = draw_figures(place.report_folder, run)
    pictures["intervals"] = draw_intervals(place.report_folder, run)
    pictures["maps"] = map_pictures(place, run.specs)
    title = place.path.resolve().name
    replace_text(place.report, render(values | {"title": title, "pictures": pictures}))
    return place.report


def page_values(run: FinishedRun) -> dict[str, Any]:
    """What the template shows, but for the title and the pictures."""
    view, regression = run.metrics["view"], run.of_kind("regression")
    identities = [spec.label for spec in regression if spec.identity]
    averages = {"Average": True, "Average without †": False} if identities else {"Average": True}
    members = member_rows(run)
    return {
        "dataset": run.facts["dataset"],
        "run": run.facts,
        "best_step": number(run.metrics["best_step"]),
        "num_states": len(run.metrics.get("best_steps", ())) or 1,
        "members": members,
        "rotated": len({row["validation_fold"] for row in members}) > 1,
        "seconds_per_epoch": duration(run.facts["seconds_per_epoch"]),
        "view": view,
        "views": "rolls" if view == "fractional" else "views",
        "spread_over": _spread_over(run),
        "facts": _headline(run),
        "regression": {split: regression_table(run, split) for split in run.splits},
        "averages": {
            split: [(label, average_cells(run, split, which)) for label, which in averages.items()]
            for split in run.splits
        },
        "classes": {split: class_table(run, split) for split in run.splits},
        "class_metrics": CLASSIFICATION.values(),
        "methods": {name: METHODS[name] for name in METHODS if name in run.methods("test")},
        "yardsticks": not set(YARDSTICK_NAMES).isdisjoint(run.methods("test")),
        "stack": stack_rows(run),
        "intervals": interval_rows(run),
        "metric_names": REGRESSION,
        "identity_targets": identities,
        "spread": spread_table(run),
        "errors": largest_errors(run),
        "mistakes": confident_mistakes(run),
        "facts_table": flatten(run.facts),
        "config": flatten(run.config),
    }


def _spread_over(run: FinishedRun) -> str:
    views = "rolls" if run.metrics["view"] == "fractional" else "views"
    return f"{views} and members" if "members" in run.metrics else views


def render(values: dict[str, Any]) -> str:
    """The page as HTML; what comes from a run is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "score": score, "formula": formula_html}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(values)


def _headline(run: FinishedRun) -> list[tuple[str, str]]:
    """Label and value of the facts on top."""
    facts = []
    average = run.metrics["average"]["test"]
    if average.get("r2") is not None:
        facts.append(("average R², test fold", score(average["r2"])))
        if any(spec.identity for spec in run.of_kind("regression")):
            without = score(average.get("r2_without_identities"))
            facts.append(("average R² without identity targets†", without))
    for spec in run.of_kind("classification"):
        auc = run.metrics["test"][spec.name]["roc_auc"]
        facts.append((f"ROC AUC, {spec.label.lower()}", score(auc)))
    facts.append(("training time", duration(run.facts["seconds"]["train"])))
    facts.append(("parameters", number(run.facts["parameters"])))
    return facts
