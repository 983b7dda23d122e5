"""What joins finished runs, of groups or of members: what is read of them, and what is written."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from densityjax.results.applicability import Applicability
from densityjax.results.predictions_table import TargetPredictions, write_table
from densityjax.results.run_directory import SPLITS, RunDirectory
from densityjax.runtime import distributed
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_text
from densityjax.step.scalers import Statistics
from densityjax.targets import TargetSpec, specs_to_json
from densityjax.training.compatibility import check_workdir
from densityjax.training.run import train_and_evaluate

# What joining reads of each run's metrics.json and run.json.
METRICS = (
    "validation", "test", "average.validation", "average.test", "baselines.validation",
    "baselines.test", "best_step", "best_validation_loss", "view", "evaluation_views",
)
FACTS = (
    "commit", "started", "finished", "hostname", "parameters", "peak_memory_gib", "seconds.train",
    "seconds_per_epoch", "steps",
)


@dataclasses.dataclass(frozen=True)
class JoinedRun:
    """The content of a run that others were joined to.

    Attributes:
        config: of the whole.
        specs: its targets.
        metrics, facts: of metrics.json and run.json.
        tables: split -> predictions of its fold.
        history: the lines of metrics.jsonl.
    """

    config: ConfigDict
    specs: tuple[TargetSpec, ...]
    metrics: dict[str, Any]
    facts: dict[str, Any]
    tables: dict[str, list[TargetPredictions]]
    history: list[dict[str, Any]]

    def write(self, out: Path) -> None:
        """Writes the files of one run."""
        out.mkdir(parents=True, exist_ok=True)
        run = RunDirectory(out)
        for split, tables in self.tables.items():
            write_table(run.predictions(split), tables)
        replace_text(run.history, "".join(json.dumps(line) + "\n" for line in self.history))
        distributed.write_json(run.targets, specs_to_json(self.specs))
        distributed.write_json(run.config, json.loads(self.config.to_json_best_effort()))
        distributed.write_json(run.facts, self.facts)
        distributed.write_json(run.metrics, self.metrics)


def joined_facts(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """run.json of several runs as one: sums of times and parameters, the rest of the first.

    Args:
        facts: of each run, with all of `FACTS`.
    """
    seconds = {name for part in facts for name in part["seconds"]}
    joined = facts[0] | {
        "commit": ", ".join(sorted({part["commit"] for part in facts})),
        "started": min(part["started"] for part in facts),
        "finished": max(part["finished"] for part in facts),
        "hostname": ", ".join(sorted({part["hostname"] for part in facts})),
        "parameters": sum(part["parameters"] for part in facts),
        "peak_memory_gib": max(part["peak_memory_gib"] for part in facts),
        "seconds": {
            name: round(sum(part["seconds"].get(name, 0) for part in facts), 2) for name in seconds
        },
        "seconds_per_epoch": round(sum(part["seconds_per_epoch"] for part in facts), 2),
    }
    for kind in ("groups", "members"):  # of the first run alone
        joined.pop(kind, None)
    return joined


def described(
    folder: Path, out: Path, facts: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any]:
    """What run.json of a joined run says of each of its runs."""
    return {
        "directory": os.path.relpath(folder, out),
        "parameters": facts["parameters"],
        "steps": facts["steps"],
        "best_step": metrics["best_step"],
        "train_seconds": facts["seconds"]["train"],
    }


def train_unless_finished(
    config: ConfigDict, folder: Path, allow_config_change: bool, for_prediction: bool
) -> None:
    """Trains a run, unless it has finished with the same config and all its files are whole."""
    finished = not allow_config_change and is_whole(folder, for_prediction)
    if not distributed.any_process(not finished):
        check_workdir(config, folder)
        return
    train_and_evaluate(
        config, folder, for_prediction=for_prediction, allow_config_change=allow_config_change
    )


def is_whole(folder: Path, for_prediction: bool) -> bool:
    """Whether a run has finished and everything that joining and predicting read is readable."""
    run = RunDirectory(folder)
    if not run.facts.exists():
        return False
    try:
        finished = "finished" in run.read_facts()
        if finished:
            specs = run.read_specs(run.read_config("targets")["targets"])
            run.read_facts(*FACTS)
            run.read_metrics(*METRICS)
            run.read_history()
            for split in SPLITS:
                run.read_predictions(specs, split)
            if for_prediction:
                run.load(run.statistics, Statistics.load)
                run.load(run.applicability, Applicability.load)
    except UserError:
        return False
    return finished
