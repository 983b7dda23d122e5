"""The directory of a run: the name and format of every file that training leaves in it.

Whoever reads a run goes through `RunDirectory`, which checks what it reads: a file that is
missing, half written or of another kind is one error with its name and the remedy.
"""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from densityjax.results.predictions_table import TargetPredictions, read_table
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.targets import TargetSpec, get_specs, specs_from_json

T = TypeVar("T")
_AGAIN = "delete it and run the training command again, which writes it anew"
# Folds that are evaluated, with their tables, in the order of a report.
SPLITS = {"test": "predictions.csv", "validation": "predictions_validation.csv"}
# What NumPy, zipfile and a JSON reader raise for a file that is cut or holds something else.
_DAMAGE = (
    ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error,
)


class RunDirectoryError(UserError):
    """A file of a run directory is missing or damaged; the message names it and the remedy."""


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Files of a run, each by a property; readers raise `RunDirectoryError`.

    Attributes:
        path: the directory, `--workdir` of the commands.
    """

    path: Path

    @property
    def config(self) -> Path:
        """JSON of the training config."""
        return self.path / "config.json"

    @property
    def targets(self) -> Path:
        """JSON list of the specifications of the targets, see `targets.specs_to_json`."""
        return self.path / "targets.json"

    @property
    def statistics(self) -> Path:
        """JSON of the scalers, see `step.scalers.Statistics`."""
        return self.path / "statistics.json"

    @property
    def descriptors(self) -> Path:
        """NumPy archive of what reduces features to descriptors, see `features.reduction`."""
        return self.path / "descriptors.npz"

    @property
    def metrics(self) -> Path:
        """JSON of the accuracy on the validation and test folds."""
        return self.path / "metrics.json"

    @property
    def history(self) -> Path:
        """A JSON mapping a line: scalars of a step, see `training.metric_log`."""
        return self.path / "metrics.jsonl"

    @property
    def facts(self) -> Path:
        """JSON of how the run came about: environment, dataset, times."""
        return self.path / "run.json"

    def predictions(self, split: str = "test") -> Path:
        """Table of the predictions for 'test' or 'validation', see `predictions_table`."""
        return self.path / SPLITS[split]

    def learner_predictions(self, learner: str, split: str = "test") -> Path:
        """Table of what one learner of a mixture predicts, as `predictions`."""
        return self.path / "learners" / f"{learner}_{split}.csv"

    @property
    def stack(self) -> Path:
        """JSON of the weights of a mixture, see `results.stack`."""
        return self.path / "stack.json"

    @property
    def learners(self) -> Path:
        """The learners of a mixture, see `results.learner_file`; given away, as safetensors."""
        given = self.path / "learners.safetensors"
        return given if given.exists() else self.path / "learners.npz"

    @property
    def weights(self) -> Path:
        """What a model that is given away has in the place of checkpoints, see `step.weights`."""
        return self.path / "network.safetensors"

    @property
    def encoder(self) -> Path:
        """The encoder that a network on latents sees densities through, see `step.encoder`."""
        return self.path / "encoder.safetensors"

    @property
    def manifest(self) -> Path:
        """JSON of a model that is given away, with the hash of every file, see `manifest`."""
        return self.path / "model.json"

    @property
    def calibration(self) -> Path:
        """NumPy archive of what intervals are made from, see `results.calibration`."""
        return self.path / "calibration.npz"

    @property
    def intervals(self) -> Path:
        """JSON of how intervals fared on the test fold, see `results.coverage`."""
        return self.path / "intervals.json"

    @property
    def applicability(self) -> Path:
        """NumPy archive, see `results.applicability`."""
        return self.path / "applicability.npz"

    @property
    def average_atoms(self) -> Path:
        """NumPy archive of the average atoms of the training densities, see `attribution`."""
        return self.path / "average_atoms.npz"

    @property
    def maps(self) -> Path:
        """Folder of the maps that `densityjax explain --report` makes, see `attribution`."""
        return self.path / "maps"

    @property
    def report(self) -> Path:
        """The page, which needs no other file."""
        return self.path / "report.html"

    @property
    def report_folder(self) -> Path:
        """PNG and CSV files of what the page shows."""
        return self.path / "report"

    @property
    def checkpoints(self) -> Path:
        """Folder of training states, see `training.checkpoint`."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of the scalars of `history` as TensorBoard reads them."""
        return self.path / "tensorboard"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of a run, without those of its folders."""
        return (
            self.config, self.targets, self.statistics, self.descriptors, self.metrics,
            self.history, self.facts, *(self.predictions(split) for split in SPLITS),
            self.stack, self.learners, self.applicability, self.calibration,
            self.intervals, self.report, self.encoder,
        )

    def groups(self) -> tuple["RunDirectory", ...]:
        """The runs of different targets that this one joins; this one, if it joins none.

        See `training.grouped_training`.
        """
        return self._joined("groups")

    def members(self) -> tuple["RunDirectory", ...]:
        """The runs of the same targets whose average this one is; this one, if it is none.

        See `training.ensemble`; a member may have groups.
        """
        return self._joined("members")

    def tree(self) -> tuple["RunDirectory", ...]:
        """This run and all that it joins."""
        found = [self]
        for member in self.members():
            found += [member, *member.groups()]
        return tuple(dict.fromkeys(found))

    def _joined(self, kind: str) -> tuple["RunDirectory", ...]:
        runs = self.read_facts().get(kind, ()) if self.facts.exists() else ()
        try:
            found = tuple(RunDirectory(self.path / run["directory"]) for run in runs)
        except (TypeError, KeyError) as error:
            raise RunDirectoryError(f"{self.facts}: '{kind}' is damaged: {_AGAIN}") from error
        return found or (self,)

    def read_config(self, *keys: str) -> dict[str, Any]:
        """config.json; each of the dotted `keys` is in it."""
        return self._mapping(self.config, keys)

    def is_pretrained(self) -> bool:
        """Whether it is a run without targets, see `training.pretraining`."""
        return self.read_config().get("targets", None) == []

    def check_predicts(self) -> None:
        """Raises RunDirectoryError of a run without targets; its config.json is read."""
        if self.is_pretrained():
            raise RunDirectoryError(
                f"{self.path} is a pretraining run, which has no targets to predict: train a model "
                f"with --config.init={self.path}"
            )

    def read_facts(self, *keys: str) -> dict[str, Any]:
        """run.json; each of the dotted `keys` is in it."""
        return self._mapping(self.facts, keys)

    def read_metrics(self, *keys: str) -> dict[str, Any]:
        """metrics.json; each of the dotted `keys` is in it."""
        return self._mapping(self.metrics, keys)

    def read_intervals(self) -> dict[str, Any]:
        """intervals.json; {} for a run that is not calibrated."""
        return self._mapping(self.intervals, ("targets",)) if self.intervals.exists() else {}

    def read_history(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl as they are, each with its step and split."""
        lines = []
        for count, line in enumerate(self._text(self.history).splitlines(), start=1):
            where = f"{self.history} line {count}"
            lines.append(_parsed(where, line, ("split", "step"), "delete that line"))
        return lines

    def read_specs(self, names: Sequence[str]) -> tuple[TargetSpec, ...]:
        """Specifications of these targets of the run, from its targets.json.

        A run that was made before there was such a file has targets of `targets.TARGETS`.
        """
        if not self.targets.exists():
            return get_specs(names)
        try:
            return get_specs(names, specs_from_json(json.loads(self._text(self.targets))))
        except (*_DAMAGE, ConfigError) as error:
            raise RunDirectoryError(f"{self.targets} is damaged ({error}): {_AGAIN}") from error

    def read_predictions(
        self, specs: Sequence[TargetSpec], split: str = "test"
    ) -> dict[str, TargetPredictions]:
        """The predictions for 'test' or 'validation', as many as metrics.json counted.

        Args:
            specs: of all the targets of the run.

        Raises:
            RunDirectoryError: a file is missing, or rows are.
            PredictionsTableError: the table is damaged.
        """
        return self._read_table(self.predictions(split), specs, split)

    def read_learner(
        self, learner: str, specs: Sequence[TargetSpec], split: str = "test"
    ) -> dict[str, TargetPredictions]:
        """As `read_predictions`, of one learner, see `learner_predictions`."""
        return self._read_table(self.learner_predictions(learner, split), specs, split)

    def _read_table(
        self, path: Path, specs: Sequence[TargetSpec], split: str
    ) -> dict[str, TargetPredictions]:
        counts = self._label_counts(split)
        self._check_there(path)
        tables = read_table(path, specs)
        lengths = {name: len(table.ids) for name, table in tables.items()}
        for name, count in counts.items():
            found = int(tables[name].labelled.sum()) if name in tables else 0
            if name not in tables or found != count or lengths[name] != max(lengths.values()):
                raise RunDirectoryError(
                    f"{path} has {lengths.get(name, 0)} rows of '{name}', {found} with a label; "
                    f"metrics.json counted {count} labels, and another target has "
                    f"{max(lengths.values(), default=0)} rows: the table is cut or of another run; "
                    "run the training command again, which evaluates anew"
                )
        return tables

    def _label_counts(self, split: str) -> dict[str, int]:
        """Target -> labels that it had when it was evaluated."""
        metrics = self.read_metrics(split)[split]
        if not isinstance(metrics, dict):
            raise RunDirectoryError(f"{self.metrics}: '{split}' is no mapping of targets: {_AGAIN}")
        return {
            name: field_value(values, f"{self.metrics} {split}.{name}", "n")
            for name, values in metrics.items()
        }

    def load(self, path: Path, reader: Callable[[Path], T]) -> T:
        """What `reader` makes of one of the files: the scalers, the applicability."""
        self._check_there(path)
        try:
            return reader(path)
        except _DAMAGE as error:
            raise RunDirectoryError(
                f"{path} is damaged ({type(error).__name__}: {error}): {_AGAIN}"
            ) from error

    def _mapping(self, path: Path, keys: Sequence[str]) -> dict[str, Any]:
        return _parsed(str(path), self._text(path), keys, _AGAIN)

    def _text(self, path: Path) -> str:
        self._check_there(path)
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RunDirectoryError(f"{path} is not text ({error}): {_AGAIN}") from error

    def _check_there(self, path: Path) -> None:
        if not path.is_file():
            raise RunDirectoryError(
                f"{path} is missing: {self.path} is not the directory of a finished run; train it "
                f"first with python -m densityjax.main --config=CONFIG --workdir={self.path}"
            )


def field_value(content: Mapping[str, Any], where: str | Path, key: str) -> Any:
    """A value under a dotted key.

    Raises:
        RunDirectoryError: there is none; names `where` and the first part that is missing.
    """
    parts = key.split(".")
    for depth, part in enumerate(parts, start=1):
        if not isinstance(content, Mapping) or part not in content:
            raise RunDirectoryError(
                f"{where} has no field '{'.'.join(parts[:depth])}': it is damaged or of another "
                f"version of densityjax; {_AGAIN}"
            )
        content = content[part]
    return content


def _parsed(where: str, text: str, keys: Sequence[str], remedy: str) -> dict[str, Any]:
    if not text.strip():
        raise RunDirectoryError(f"{where} is empty: {remedy}")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RunDirectoryError(f"{where} is not valid JSON ({error}): {remedy}") from error
    if not isinstance(content, dict):
        raise RunDirectoryError(
            f"{where} holds {type(content).__name__}, expected a mapping: {remedy}"
        )
    for key in keys:
        field_value(content, where, key)
    return content
