"""What a report needs of a run's directory, checked as it is read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from densityjax.results.baselines import BASELINES
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.run_directory import SPLITS, RunDirectory
from densityjax.targets import TargetSpec

_FACTS = (
    "commit", "seed", "finished", "platform", "device_kind", "num_devices", "cpu_count",
    "parameters", "seconds.train", "seconds_per_epoch", "peak_memory_gib", "dataset.name",
    "dataset.version", "dataset.train_examples", "dataset.validation_examples",
    "dataset.test_examples", "dataset.train_folds", "dataset.validation_fold", "dataset.test_fold",
)
_METRICS = ("best_step", "view", "test", "average.test", "baselines.test")


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """Contents of a run directory.

    Attributes:
        config, facts, metrics: of config.json, run.json and metrics.json.
        history: lines of metrics.jsonl, one per (split, step), ordered by step.
        predictions: target name -> what the run says of the test fold.
        specs: targets of the run, in the order of metrics.json.
        intervals: of intervals.json; {} for a run that is not calibrated.
    """

    config: dict
    facts: dict
    metrics: dict
    history: list[dict]
    predictions: dict[str, TargetPredictions]
    specs: tuple[TargetSpec, ...]
    intervals: dict

    @property
    def splits(self) -> list[str]:
        """The folds that were evaluated."""
        return [split for split in SPLITS if split in self.metrics]

    def of_kind(self, kind: str) -> list[TargetSpec]:
        """Targets of a kind, 'regression' or 'classification'."""
        return [spec for spec in self.specs if spec.kind == kind]

    def methods(self, split: str) -> dict[str, Mapping]:
        """Method -> target -> metrics: the model, then baselines and yardsticks."""
        return {"model": self.metrics[split]} | self.metrics["baselines"][split]


def read_run(workdir: Path) -> FinishedRun:
    """Reads a run directory.

    Raises:
        UserError: a file or field is missing or damaged; names it and the remedy.
    """
    run = RunDirectory(Path(workdir))
    run.check_predicts()
    config, facts = run.read_config(), run.read_facts(*_FACTS)
    metrics = run.read_metrics(*_METRICS)
    for split in (name for name in SPLITS if name in metrics):
        run.read_metrics(*(f"baselines.{split}.{name}" for name in BASELINES))
    # A resumed run repeats steps: the last line counts.
    history = {(record["split"], record["step"]): record for record in run.read_history()}
    specs = run.read_specs(list(metrics["test"]))
    return FinishedRun(
        config, facts, metrics, sorted(history.values(), key=lambda record: record["step"]),
        run.read_predictions(specs), specs, run.read_intervals(),
    )
