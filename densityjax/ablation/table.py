"""From the cells of an ablation to its table: reads what they left, compares, writes."""

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
from densityjax.results.run_directory import RunDirectory
from densityjax.targets import TARGETS, TargetSpec, get_specs
from densityjax.training.ensemble import plan_members

_FACTS = (  # of run.json, that a table states
    "dataset.fingerprint", "commit", "device_kind", "num_devices", "cpu_count", "memory_gib",
    "hostname", "finished", "versions",
)


def write_table(config: ConfigDict, plan: Plan, workdir: Path) -> list[Path]:
    """Compares the complete cells of an ablation and writes the tables to `workdir/table`.

    Returns:
        The files.

    Raises:
        ComparisonError: cells contradict each other.
        UserError: a cell is not complete, or a file of it is damaged.
    """
    known = dict(TARGETS)
    for cell in plan.cells:
        found = RunDirectory(cell_folder(workdir, cell)).read_specs(tuple(cell.config.targets))
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
    """Predictions and cost of a joined run.

    Raises:
        UserError: a file of it is missing, cut or damaged; names the file.
    """
    run = RunDirectory(folder)
    tables = run.read_predictions(specs)
    first = next(iter(tables.values()))
    facts = run.read_facts(
        "seconds.train", "seconds.compile", "num_devices", "parameters", "groups"
    )
    seconds = facts["seconds"]["train"] - facts["seconds"]["compile"]
    return CellResult(
        variant=cell.variant, split=cell.split, seed=cell.seed,
        truth={name: table.truth for name, table in tables.items()},
        prediction={name: table.prediction for name, table in tables.items()},
        systems=np.array([chemical_system(formula) for formula in first.formulas]),
        ids=np.array(first.ids), parameters=facts["parameters"],
        device_seconds=seconds * facts["num_devices"], updates=facts["groups"][0]["steps"],
        trunks=len(cell.members) * len(plan_members(cell.config)),
    )


def chemical_system(formula: str) -> str:
    """'Hf2S' as 'Hf-S'."""
    return "-".join(sorted(set(re.findall(r"[A-Z][a-z]?", formula))))


def table_facts(config: ConfigDict, plan: Plan, folders: Sequence[Path]) -> dict[str, Any]:
    """What the table states of its origin: every different value that the cells recorded."""
    runs = [RunDirectory(folder).read_facts(*_FACTS) for folder in folders]

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
