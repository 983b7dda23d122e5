"""From the cells of an ablation to its table: reads what they left, compares, writes."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.ablation.compare import compare
from densityjax.ablation.plan import Cell, Plan
from densityjax.ablation.results import CellResult
from densityjax.ablation.run import cell_folder
from densityjax.ablation.write import write_comparison
from densityjax.targets import TARGETS, TargetSpec, get_specs, read_specs


def write_table(config: ConfigDict, plan: Plan, workdir: Path) -> list[Path]:
    """Compares the complete cells of an ablation and writes the tables to `workdir/table`.

    Returns:
        The files.

    Raises:
        ComparisonError: cells contradict each other.
        OSError: a cell is not complete.
    """
    known = dict(TARGETS)
    for cell in plan.cells:
        found = read_specs(cell_folder(workdir, cell), tuple(cell.config.targets))
        known |= {spec.name: spec for spec in found}
    specs = get_specs(tuple(config.base.targets) or tuple(plan.cells[0].config.targets), known)
    cells = [read_cell(cell, cell_folder(workdir, cell), specs) for cell in plan.cells]
    comparison = compare(
        cells, specs, config.reference, pools=dict(config.pools.items()),
        contrasts=tuple(tuple(pair) for pair in config.contrasts), replicates=config.replicates,
    )
    folders = [cell_folder(workdir, cell) for cell in plan.cells]
    return write_comparison(workdir / "table", comparison, table_facts(config, plan, folders))


def read_cell(cell: Cell, folder: Path, specs: Sequence[TargetSpec]) -> CellResult:
    """Predictions and cost of a joined run."""
    by_name = {spec.name: spec for spec in specs}
    rows: dict[str, list[dict[str, str]]] = {}
    with (folder / "predictions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["target"], []).append(row)
    truth, prediction = {}, {}
    for name, found in rows.items():
        spec = by_name[name]
        if spec.kind == "classification":
            index = {label: place for place, label in enumerate(spec.classes)} | {"": -1}
            truth[name] = np.array([index[row["truth"]] for row in found])  # [n]
            prediction[name] = np.array(
                [[float(p) for p in row["probabilities"].split(";")] for row in found]
            )  # [n, K]
        else:
            truth[name] = np.array([float(row["truth"] or "nan") for row in found])  # [n]
            prediction[name] = np.array([float(row["prediction"]) for row in found])  # [n]
    first = next(iter(rows.values()))
    facts = json.loads((folder / "run.json").read_text())
    seconds = facts["seconds"]["train"] - facts["seconds"]["compile"]
    return CellResult(
        variant=cell.variant, split=cell.split, seed=cell.seed, truth=truth, prediction=prediction,
        systems=np.array([chemical_system(row["formula"]) for row in first]),
        ids=np.array([row["id"] for row in first]), parameters=facts["parameters"],
        device_seconds=seconds * facts["num_devices"], updates=facts["groups"][0]["steps"],
        trunks=len(cell.members),
    )


def chemical_system(formula: str) -> str:
    """'Hf2S' as 'Hf-S'."""
    return "-".join(sorted(set(re.findall(r"[A-Z][a-z]?", formula))))


def table_facts(config: ConfigDict, plan: Plan, folders: Sequence[Path]) -> dict[str, Any]:
    """What the table states of its origin: every different value that the cells recorded."""
    runs = [json.loads((folder / "run.json").read_text()) for folder in folders]

    def values(*keys: str) -> str:
        found = []
        for run in runs:
            for key in keys:
                run = run[key]
            found.append(str(run))
        return ", ".join(sorted(set(found)))

    tuning = config.tuning
    return {
        "dataset": values("dataset", "fingerprint"),
        "commit": values("commit"),
        "hardware": f"{values('device_kind')}, {values('num_devices')} device(s), "
        f"{values('cpu_count')} CPU cores, {values('memory_gib')} GiB",
        "hostname": values("hostname"),
        "finished": max(run["finished"] for run in runs),
        "epochs": config.base.train.epochs,
        "tuned": f"{tuning.key} in {tuple(tuning.candidates)}" if tuning.key else "nothing",
        "groups": {
            f"{cell.variant} {cell.split}": cell.config.groups
            for cell in plan.cells
            if cell.seed == config.seeds[0]
        },
        "versions": {name: values("versions", name) for name in sorted(runs[0]["versions"])},
    }
