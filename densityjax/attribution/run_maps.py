"""Maps of a run's best and worst predictions, for its report."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from densityjax.attribution.explain import Settings, explain, write_explanation
from densityjax.attribution.question import ask
from densityjax.attribution.stored import StoredRecords
from densityjax.features.average_atoms import AverageAtoms
from densityjax.prediction.model import Model
from densityjax.report.text import file_stem
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json

KINDS = ("best", "worst")


def extreme_rows(table: TargetPredictions) -> dict[str, int]:
    """{'best', 'worst': row of the smallest and the largest error}; empty without labels.

    Of classes the error is what the true one's probability lacks.
    """
    rows = np.flatnonzero(table.labelled)
    if not len(rows):
        return {}
    truth = table.truth[rows]
    if table.spec.kind == "classification":
        error = 1 - table.prediction[rows, truth.astype(int)]
    else:
        error = np.abs(table.prediction[rows] - truth)
    return {"best": int(rows[error.argmin()]), "worst": int(rows[error.argmax()])}


def write_run_maps(
    model: Model, targets: Sequence[str], settings: Settings, atoms: AverageAtoms | None,
    num_views: int = 0,
) -> None:
    """Writes maps/best, maps/worst and maps/maps.json, which the report reads.

    Targets that an identity of the input answers are left out, for no network does.

    Raises:
        UserError: a target is not the run's, or none is left; the dataset is not there.
    """
    run = RunDirectory(model.path)
    known = {spec.name: spec for spec in model.specs}
    if unknown := [name for name in targets if name not in known]:
        raise UserError(f"--target={unknown[0]} is not among the run's: {', '.join(known)}")
    tables = run.read_predictions(model.specs)
    stored = StoredRecords(model.members[0][0].config, model, "test")
    place = {name: row for row, name in enumerate(stored.ids)}
    settings = dataclasses.replace(settings, orders=0)
    maps: list[dict[str, Any]] = []
    for name in targets:
        if known[name].identity is not None:
            continue
        for kind, row in extreme_rows(tables[name]).items():
            material = stored.material(place[tables[name].ids[row]])
            question = ask(model, material, name, num_views)
            answer = explain(question, settings, atoms)
            write_explanation(run.maps / kind, question, answer)
            maps.append({
                "target": name, "kind": kind, "id": tables[name].ids[row],
                "picture": f"{kind}/{file_stem(name)}.png",
                "truth": _said(tables[name].truth[row], known[name].classes),
            } | answer.facts)
    if not maps:
        raise UserError("no target with a network's answer and labels in the test fold is left")
    replace_json(run.maps / "maps.json", maps)


def _said(value: Any, classes: Sequence[str]) -> float | str:
    return classes[int(value)] if classes else float(value)
