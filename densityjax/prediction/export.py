"""A finished run -> a folder that predicts elsewhere: weights, scalers, calibration, a card.

It has the layout of a run's directory, with `network.safetensors` in the place of checkpoints and
without what only training and the report need; `model.json` lists every file with its hash.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densityjax.prediction.card import write_card
from densityjax.prediction.model import Model, open_model
from densityjax.results.learner_file import save_learners
from densityjax.results.manifest import write_manifest
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.environment import versions
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json
from densityjax.step.weights import save_weights
from densityjax.training.trained_model import TrainedModel

# Of run.json: what a reader of the model needs; times, hosts and paths of the training stay there.
_FACTS = ("commit", "finished", "seed", "parameters", "dataset", "versions")
# Of config.json: where the training data lay.
_PLACES = {"data_dir": "data", "source": ""}


def export_run(
    workdir: str | Path, out: str | Path, name: str, half: bool = False,
    facts: Mapping[str, Any] | None = None, more: str = "",
) -> Model:
    """Writes the folder, in one step.

    Args:
        workdir: of a finished run.
        out: the folder; its parent exists, it does not.
        name: of the model, for people.
        half: keep weights as float16.
        facts: JSON for model.json beside what it has of itself.
        more: sections for the card, Markdown.

    Returns:
        The model as read back from the folder.

    Raises:
        UserError: it is no finished run, a file is damaged, or there is something at `out`.
    """
    run, out = RunDirectory(Path(workdir)), Path(out)
    if out.exists():
        raise UserError(f"--out={out} is there: remove it, or name another folder")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.parent}: make it first")
    own = run.read_facts("finished", "dataset.name")
    model = open_model(run.path)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
        made = RunDirectory(Path(place) / out.name)
        _copy_tree(run, model, made, half)
        known = model.members[0][0].applicability
        write_card(
            made, name, own, model.calibration, model.specs, known.codes, len(known.elements), more
        )
        write_manifest(made.path, {
            "name": name, "made": time.strftime("%Y-%m-%d"), "commit": own.get("commit"),
            "dataset": own["dataset"]["name"], "versions": versions(),
            "targets": [spec.name for spec in model.specs], **(facts or {}),
        })
        made.path.rename(out)
    return open_model(out)


def _copy_tree(run: RunDirectory, model: Model, made: RunDirectory, half: bool) -> None:
    """The run, its members and their groups; a model belongs to the run without parts."""
    models = iter([own for member in model.members for own in member])
    whole = model.members[0][0].whole
    for part in run.tree():
        target = RunDirectory(made.path / part.path.relative_to(run.path))
        target.path.mkdir(parents=True, exist_ok=True)
        _copy_settings(part, target)
        if part.members() == (part,) and part.groups() == (part,):
            _write_model(part, next(models), target, half)
    if whole is not None:
        whole.descriptors.save(made.descriptors)
        replace_json(made.stack, whole.stack.to_json())
        save_learners(made.path / "learners.safetensors", whole.yardsticks)
    for file in (run.calibration, run.metrics, run.intervals, run.average_atoms):
        if file.exists():
            shutil.copyfile(file, made.path / file.name)


def _copy_settings(run: RunDirectory, made: RunDirectory) -> None:
    config = run.read_config("data")
    config["data"] |= {key: value for key, value in _PLACES.items() if key in config["data"]}
    config |= {"init": ""} if "init" in config else {}  # a path, of no use elsewhere
    if config.get("input", {}).get("encoder"):
        config["input"]["encoder"] = made.encoder.name  # which is beside it
    facts = run.read_facts()
    kept: dict[str, Any] = {name: facts[name] for name in _FACTS if name in facts}
    for kind in ("members", "groups"):
        if kind in facts:
            kept[kind] = [_part(part) for part in facts[kind]]
    replace_json(made.config, config)
    replace_json(made.facts, kept)
    if run.targets.exists():
        shutil.copyfile(run.targets, made.targets)


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: part[key] for key in ("directory", "targets", "seed", "validation_fold")
            if key in part}


def _write_model(run: RunDirectory, model: TrainedModel, made: RunDirectory, half: bool) -> None:
    save_weights(made.weights, model.states, half)
    model.statistics.save(made.statistics)
    model.applicability.save(made.applicability)
    if run.descriptors.exists():
        model.descriptors.save(made.descriptors)
    if model.encoder is not None:
        model.encoder.save(made.encoder)
    if model.stack is not None:
        replace_json(made.stack, model.stack.to_json())
        save_learners(made.path / "learners.safetensors", model.yardsticks)


def size_of(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

