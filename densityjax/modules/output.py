"""What a composition leaves for people: a table in the terminal, compose.json, compose.png."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from densityjax.prediction.tables import aligned
from densityjax.report.style import BLUE, GREY, STYLE, VERMILION
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.files import replace_json, replaced

_WORDS = {"neighbours": "neighbours", "kernel_ridge": "kernel ridge"}


def table(content: Mapping[str, Any]) -> str:
    """Aligned lines of compose.json: modules by weight, with proxies and intervals."""
    head = ["module", "weight", "90 %", *(f"error, {_WORDS[kind]}" for kind in content["settings"])]
    rows = [head]
    for name, row in _ranked(content):
        cells = [name, "", ""]
        if "weight" in row:
            cells[1:] = [f"{row['weight']:.3f}", f"{row['low']:.2f} to {row['high']:.2f}"]
        for kind in content["settings"]:
            own = row[kind]
            cells.append(f"{own['error']:.3f} ({own['low']:.2f} to {own['high']:.2f})")
        rows.append(cells)
    lines = [
        f"{content['target']}: {content['labels']} labels of {content['systems']} chemical systems",
        *aligned(rows),
    ]
    if content["mean_error"] is not None:
        lines.append(
            f"Errors are of rows whose chemical system was left out, in spreads of the labels; the "
            f"mean has {content['mean_error']:.3f}. Weights are from {_WORDS[content['proxy']]}."
        )
    if content["fallback"]:
        lines.append(f"The start is taken as it is: {content['fallback']}.")
    return "\n".join(lines)


def _ranked(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Modules, the heaviest first; without weights those of the least error."""

    def key(pair: tuple[str, Mapping[str, Any]]) -> tuple[float, float]:
        row = pair[1]
        error = row[content["proxy"]]["error"] if content["proxy"] else 0.0
        return -row.get("weight", 0.0), error

    return sorted(content["modules"].items(), key=key)


def write_composition(workdir: Path, content: Mapping[str, Any]) -> None:
    """Writes compose.json and, where there are proxies, compose.png."""
    workdir.mkdir(parents=True, exist_ok=True)
    if content["settings"]:
        with replaced(workdir / "compose.png") as partial:
            partial.write_bytes(draw(content))
    replace_json(workdir / "compose.json", content)


def read_composition(workdir: Path) -> dict[str, Any]:
    """compose.json.

    Raises:
        RunDirectoryError: it is missing or damaged.
    """
    run = RunDirectory(workdir)
    return run.load(run.path / "compose.json", lambda path: json.loads(path.read_text("utf-8")))


def draw(content: Mapping[str, Any]) -> bytes:
    """PNG: weights and errors of the modules, with intervals."""
    ranked = _ranked(content)
    places = np.arange(len(ranked))[::-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 1.2 + 0.28 * len(ranked)))
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        weighted = [row for _, row in ranked if "weight" in row]
        if weighted:
            values = np.array([[row[key] for key in ("weight", "low", "high")] for row in weighted])
            left.barh(places, values[:, 0], color=BLUE, height=0.6)
            left.hlines(places, values[:, 1], values[:, 2], color=GREY, linewidth=1.5)
        left.set_title(f"Weights for {content['target']}")
        left.set_xlabel(f"{content['labels']} labels, {content['systems']} chemical systems")
        left.set_yticks(places, [name for name, _ in ranked])
        for shift, colour, kind in zip((0.15, -0.15), (VERMILION, BLUE), content["settings"]):
            values = np.array([
                [row[kind][key] for key in ("error", "low", "high")] for _, row in ranked
            ])
            right.plot(
                values[:, 0], places + shift, "o", color=colour, markersize=4, label=_WORDS[kind]
            )
            right.hlines(places + shift, values[:, 1], values[:, 2], color=colour, linewidth=1)
        right.axvline(content["mean_error"], color=GREY, linestyle="--", label="mean of labels")
        right.set_title("Error of rows left out")
        right.set_xlabel("spreads of the labels")
        figure.legend(loc="outside upper right", ncols=3, fontsize=7)
        with io.BytesIO() as stream:
            figure.savefig(stream, format="png")
            return stream.getvalue()
