"""The model that config.init names, read for a run to start from; see `start.Start`."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from densityjax.config import completed
from densityjax.features.auxiliary import auxiliary_specs
from densityjax.features.descriptors import BLOCKS, Descriptors, descriptor_sizes
from densityjax.results.manifest import read_manifest
from densityjax.results.pretrained import find_model
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import ConfigError
from densityjax.runtime.files import flatten
from densityjax.step.create_task import objective_names
from densityjax.step.encoder import Encoder
from densityjax.step.scalers import Statistics
from densityjax.step.weights import load_weights
from densityjax.training.checkpoint import digests
from densityjax.training.facts import read_facts
from densityjax.training.latents import check_encoder
from densityjax.training.seen import UNCLEAR, seen_of
from densityjax.training.setup import PreparedRun, reads_features
from densityjax.training.start import Start
from densityjax.training.trained_model import TrainedModel, restore_run

log = logging.getLogger("densityjax")

# Settings of the sections `model` and `input` that a trunk does not depend on: those of the heads,
# of training and of speed, and what reaches the heads beside the trunk.
_NOT_OF_TRUNK = (
    "model.head_width", "model.dropout", "model.constraints", "model.implementation",
    "model.dtype", "model.remat",
    # Of encoders the content is compared: one may lie at several places.
    "input.lattice_features", "input.encoder", *(f"input.{block}" for block in BLOCKS),
)
_ADAPTER = "model.adapter"
_OF_DATASET = ("name", "fingerprint", "train_folds", "validation_fold", "test_fold")
_OF_VIEW = {
    "fractional": ("view.kind",), "cartesian": ("view.kind", "view.spacing", "view.padding"),
}


def read_start(config: ConfigDict, workdir: Path) -> Start | None:
    """What config.init names; None where a run starts at random.

    A run that has a checkpoint goes on from it: its scalers are read from `workdir`, and what it
    started from need not be there any more.

    Raises:
        ConfigError: the trunk of config.init, or the encoder before it, is another than that of
          the config.
        UserError: config.init is neither a finished run nor an exported model, or a file of it is
          damaged.
    """
    if not config.init:
        return None
    run = RunDirectory(workdir)
    if _has_checkpoint(run):
        return _resumed(config, run)
    source = _fitting_source(config)
    if source.is_pretrained():
        return _start_from_pretraining(source)
    return start_from(restore_run(source.path, mixed=False), config, source)


def check_init(config: ConfigDict, workdir: Path) -> None:
    """Raises what `read_start` would of a new `workdir`, without reading its weights."""
    if config.init and not RunDirectory(workdir).config.exists():
        _fitting_source(config)


def _fitting_source(config: ConfigDict) -> RunDirectory:
    """`find_source`, of the same trunk on the same input."""
    source = find_source(config)
    there = completed(source.read_config("model", "input", "view"))
    check_trunk(config, there)
    encoder = None
    if there.input.encoder:  # a path, which says less than the copy that the run keeps
        encoder = source.load(source.encoder, Encoder.load)
    check_encoder(config, encoder, f"config.init='{config.init}'")
    return source


def find_source(config: ConfigDict) -> RunDirectory:
    """The run, or the exported model, that config.init names: of an ensemble its first member.

    Of groups the one with the most of the run's targets.

    Raises:
        UserError: it is neither, or a file of an exported model is not as it was exported.
    """
    run = RunDirectory(find_model(config.init, "config.init"))
    if run.manifest.exists():
        read_manifest(run.path)
    members = run.members()
    if len(members) > 1:
        log.info(
            "%s is an ensemble of %d: its first member is taken", config.init, len(members)
        )
    groups = members[0].groups()
    if len(groups) == 1:
        return groups[0]

    def shared(group: RunDirectory) -> int:
        return len(set(group.read_config("targets")["targets"]) & set(config.targets))

    best = max(groups, key=shared)  # the first of equals
    log.info("%s has %d groups: %s is taken", config.init, len(groups), best.path.name)
    return best


def check_trunk(config: ConfigDict, source: ConfigDict) -> None:
    """Raises ConfigError, which lists both values, where two configs have other trunks.

    Args:
        source: of the run that config.init names.
    """
    there, here = trunk_settings(source), trunk_settings(config)
    if not there[_ADAPTER]:  # those of the run begin as the identity
        here[_ADAPTER] = 0
    if text := trunk_differences(there, here):
        raise ConfigError(f"config.init='{config.init}' has another trunk:\n{text}")


def trunk_settings(config: ConfigDict) -> dict[str, Any]:
    """JSON values of what a trunk depends on, under dotted keys."""
    values = flatten(json.loads(config.to_json_best_effort()))
    return {_ADAPTER: 0} | {
        key: value for key, value in values.items()
        if key in _OF_VIEW[config.view.kind]
        or (key.startswith(("model.", "input.")) and key not in _NOT_OF_TRUNK)
    }


def trunk_differences(
    there: Mapping[str, Any], here: Mapping[str, Any], places: tuple[str, str] = ("there", "here")
) -> str:
    """Lines of the settings in which two trunks differ, and the remedy; '' where in none.

    Args:
        there, here: see `trunk_settings`; the run is `here`.
        places: words for where each of them is.
    """
    differing = [key for key in sorted({**there, **here}) if there.get(key) != here.get(key)]
    if not differing:
        return ""
    lines = [
        f"  config.{key}: {there.get(key, 'absent')} {places[0]}, "
        f"{here.get(key, 'absent')} {places[1]}"
        for key in differing
    ]
    remedy = " ".join(
        f"--config.{key}={_spoken(there[key])}" for key in differing if key in there
    )
    return "\n".join(lines) + f"\ntake its values: {remedy}"


def _spoken(value: Any) -> str:
    """A value as the command line takes it."""
    return f'"{tuple(value)}"' if isinstance(value, list) else str(value)


def _start_from_pretraining(source: RunDirectory) -> Start:
    """Its trunk, its decoder and the scalers of the field; all else is the new run's."""
    statistics = source.load(source.statistics, Statistics.load)
    (state,) = source.load(source.weights, lambda path: load_weights(path, statistics.arrays()))
    return Start(
        parameters=state.ema_params["model"], specs=(), statistics=statistics, descriptors=None,
        facts=_facts(source, state.ema_params["model"]),
        objectives=objective_names(completed(source.read_config("pretraining"))),
        decoder=state.ema_params.get("decoder"),
    )


def parameters_sha256(parameters: Mapping[str, Any]) -> str:
    """Of all arrays with their names: equal parameters have equal hashes."""
    return hashlib.sha256(json.dumps(digests(parameters), sort_keys=True).encode()).hexdigest()


def _facts(source: RunDirectory, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Where a start comes from, for run.json."""
    facts = read_facts(source.path)
    data = facts.get("dataset", {})
    return {
        "path": str(source.path),
        "sha256": parameters_sha256(parameters),
        "commit": facts.get("commit"),
        "dataset": {key: data.get(key) for key in _OF_DATASET},
        "sources": data.get("pretraining", {}),  # without labels
    }


def start_from(model: TrainedModel, config: ConfigDict, source: RunDirectory) -> Start:
    """A trained model as a run of `config` starts from it: its best averaged parameters."""
    parameters = jax.device_get(model.state.ema_params["model"])
    return Start(
        parameters=parameters,
        specs=(*model.specs, *auxiliary_specs(model.config.auxiliary.properties)),
        statistics=model.statistics,
        descriptors=model.descriptors if _same_descriptors(config, model.config) else None,
        facts=_facts(source, parameters),
        objectives=objective_names(model.config),
        decoder=jax.device_get(model.state.ema_params.get("decoder")),
    )


def _same_descriptors(config: ConfigDict, source: ConfigDict) -> bool:
    """Whether the same numbers stand beside the trunk."""
    return (
        descriptor_sizes(config.input) == descriptor_sizes(source.input)
        and config.input.lattice_features == source.input.lattice_features
    )


def _has_checkpoint(run: RunDirectory) -> bool:
    steps = (run.checkpoints / "latest").glob("*")
    return any(path.name.isdigit() for path in steps) and run.statistics.exists()


def _resumed(config: ConfigDict, run: RunDirectory) -> Start:
    """The scalers that a run started with; its parameters are in its checkpoint."""
    descriptors = Descriptors(None, {})
    if reads_features(config):
        descriptors = run.load(run.descriptors, Descriptors.load)
    statistics = run.load(run.statistics, Statistics.load)
    return Start(None, (), statistics, descriptors, read_facts(run.path).get("init", {}))


def say_start(run: PreparedRun, modules: Mapping[str, Any]) -> None:
    """Says in the log and in run.json what a run starts from.

    Args:
        modules: of the model, freshly initialised or not.
    """
    start = run.start
    if start is None:
        return
    if start.parameters is None:
        run.facts.note(init=start.facts)
        return
    taken, others = start.heads_for(run.task.specs, modules)
    run.facts.note(init=start.facts | {"heads": taken})
    log.info(
        "Starting from %s: its trunk%s", start.facts["path"],
        f" and its heads of {', '.join(taken)}" if taken else "",
    )
    for name, reason in others.items():
        log.info("New head of %s: %s", name, reason)
    warn_of_shared_folds(start.facts, run.config.data, run.dataset)


def warn_of_shared_folds(
    facts: Mapping[str, Any], data: ConfigDict, dataset: Mapping[str, Any]
) -> None:
    """Scores on materials that the start was trained on are not those of new materials.

    Args:
        facts: path, dataset and sources, see `Start.facts`.
        data: config.data of the run.
        dataset: name and fingerprint of the run's.
    """
    start, path = facts["dataset"], facts["path"]
    if start["name"] is None:
        return
    seen = seen_of(dataset, start | {"pretraining": facts["sources"]})
    if seen.unclear:
        log.warning(UNCLEAR, path)
    if seen.spared == frozenset():
        log.warning(
            "%s learned from densities of all folds of this dataset, as one of its "
            "config.pretraining.sources: scores of this run are not those of new materials", path,
        )
    # That both choose on one fold is as it should be.
    for role in ("validation_fold", "test_fold"):
        if seen.learned(data[role]) or (role == "test_fold" and data[role] in seen.chosen):
            log.warning(
                "%s was trained on fold %d, config.data.%s of this run: scores there are not those "
                "of new materials", path, data[role], role,
            )
