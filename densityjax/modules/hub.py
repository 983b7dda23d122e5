"""A hub is a folder of modules: networks of one target each that began from one start.

DIR/NAME is an exported model (results/manifest) whose model.json says under 'module' what it is;
DIR/start.safetensors is the start; DIR/runs has the runs, which nothing here needs.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from densityjax.constraints import determining
from densityjax.features.auxiliary import auxiliary_specs
from densityjax.model.create import head_modules
from densityjax.results.manifest import read_manifest
from densityjax.runtime.arrays import load_arrays, save_arrays
from densityjax.runtime.errors import UserError
from densityjax.training.facts import read_facts
from densityjax.training.initial import (
    parameters_sha256,
    trunk_differences,
    trunk_settings,
    warn_of_shared_folds,
)
from densityjax.training.latents import check_encoder
from densityjax.training.start import Start
from densityjax.training.trained_model import TrainedModel, restore_run

log = logging.getLogger("densityjax")

FORMAT = 1  # of what model.json says of a module
RUNS = "runs"
_START = "start.safetensors"


class HubError(UserError):
    """Modules that cannot be used together; the message names them and the remedy."""


@dataclasses.dataclass(frozen=True)
class Module:
    """One module of a hub.

    Attributes:
        name: of its folder.
        target: that it was trained on.
        facts: what model.json says of it: format, target, kind, data, start (sha256), start_data.
        model: the network, as it was exported.
    """

    name: str
    path: Path
    target: str
    facts: Mapping[str, Any]
    model: TrainedModel

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of the network."""
        return self.model.state.ema_params["model"]

    @property
    def encoder_sha256(self) -> str:
        """Of the autoencoder through which it sees densities; '' where there is none."""
        return "" if self.model.encoder is None else self.model.encoder.sha256

    @property
    def trunk(self) -> dict[str, Any]:
        """Parameters without those of heads, auxiliary ones included; adapters are of it."""
        specs = (*self.model.specs, *auxiliary_specs(self.model.config.auxiliary.properties))
        heads = {name for spec in specs for name in head_modules(spec.name)}
        return {name: own for name, own in self.parameters.items() if name not in heads}


def read_hub(hub: Path) -> list[Module]:
    """All modules of a hub, every file of them verified, in the order of their names.

    Raises:
        HubError: there is none, a folder is no module, or modules do not fit each other.
        UserError: a module is damaged.
    """
    if not hub.is_dir():
        raise HubError(f"--hub={hub}: no such folder: densityjax modules train makes one")
    folders = [
        path for path in sorted(hub.iterdir())
        if path.is_dir() and path.name != RUNS and not path.name.startswith(".")
    ]
    if not folders:
        raise HubError(f"--hub={hub} has no module: densityjax modules train makes them")
    modules = [read_module(folder) for folder in folders]
    check_agreement(modules)
    return modules


def read_module(folder: Path) -> Module:
    """One module. Raises as `read_hub`."""
    manifest = read_manifest(folder)
    facts = manifest.get("module")
    if not isinstance(facts, Mapping):
        raise HubError(
            f"{folder} is a model and no module: take it out of the hub; densityjax modules train "
            "makes modules"
        )
    if facts.get("format") != FORMAT:
        raise HubError(
            f"{folder}: a module of format {facts.get('format')}; this densityjax reads {FORMAT}: "
            "train it again, or install the densityjax that model.json names"
        )
    model = restore_run(folder, mixed=False)
    return Module(folder.name, folder, str(facts["target"]), facts, model)


def check_agreement(modules: Sequence[Module]) -> None:
    """Raises HubError where modules cannot be averaged: says which, and in what they differ."""
    first, *others = modules
    for other in others:
        pair = f"modules {first.name} and {other.name}"
        text = trunk_differences(
            trunk_settings(first.model.config), trunk_settings(other.model.config),
            (f"in {first.name}", f"in {other.name}"),
        )
        if text:
            raise HubError(f"{pair} have other trunks, views or inputs:\n{text}")
        if first.facts["start"] != other.facts["start"]:
            raise HubError(
                f"{pair} began from other starts, whose parameters have no common meaning: train "
                "all modules of a hub with one --config.init"
            )
        if first.encoder_sha256 != other.encoder_sha256:
            raise HubError(
                f"{pair} see densities through other autoencoders: train all modules of a hub with "
                "one --config.input.encoder"
            )
        for name in ("field_mean", "field_std"):
            here, there = (getattr(one.model.statistics, name) for one in (first, other))
            if not np.array_equal(here, there):
                raise HubError(f"{pair} scale the density in other ways: train them again")


def check_config(config: ConfigDict, modules: Sequence[Module], hub: Path) -> None:
    """Raises HubError where a run of `config` would have another trunk than the modules.

    Raises ConfigError where that is because of another config.input.encoder.
    """
    text = trunk_differences(trunk_settings(modules[0].model.config), trunk_settings(config))
    if text:
        raise HubError(f"--hub={hub} has another trunk, view or input than --config:\n{text}")
    check_encoder(config, modules[0].model.encoder, f"--hub={hub}")


def usable(modules: Sequence[Module], target: str, keep: bool = False) -> list[Module]:
    """Modules that do not determine the new target, see `constraints.determining`.

    Args:
        keep: keep them all, with a warning.

    Raises:
        HubError: none is left.
    """
    why = determining(target, [module.target for module in modules])
    for module in modules:
        if module.target in why:
            log.warning(
                "Module %s %s: it determines %s (%s)", module.name,
                "is used all the same" if keep else "is left out", target, why[module.target],
            )
    left = [module for module in modules if keep or module.target not in why]
    if not left:
        raise HubError(
            f"every module of the hub determines {target}: name --use_determining if that is meant"
        )
    return left


def warn_of_seen(
    modules: Sequence[Module], weights: Sequence[float], hub: Path, data: ConfigDict,
    dataset: Mapping[str, Any],
) -> None:
    """Warns where modules with weight, or their start, were trained on what a run is judged on.

    Args:
        data: config.data of the run.
        dataset: name and fingerprint of the run's.
    """
    known = [
        {"path": str(one.path), "dataset": read_facts(one.path)["dataset"], "sources": {}}
        for one, weight in zip(modules, weights) if weight > 0
    ]
    if began := modules[0].facts.get("start_data"):
        known.append({"path": str(hub / _START), **began})
    for facts in known:
        warn_of_shared_folds(facts, data, dataset)


def save_start(hub: Path, start: Start) -> None:
    """Keeps the start of a hub, from which a composition that fails falls back to it.

    Raises:
        HubError: the hub has another start.
    """
    path, sha256 = hub / _START, start.facts["sha256"]
    if path.exists():
        if load_start(hub)[1] != sha256:
            raise HubError(
                f"--hub={hub} was made from another start than config.init: its modules could not "
                "be averaged with new ones; name another --hub"
            )
        return
    flat = flatten_dict(dict(start.parameters), sep="/")
    arrays = {name: np.asarray(value, np.float32) for name, value in flat.items()}
    save_arrays(path, arrays, {"sha256": sha256})


def load_start(hub: Path) -> tuple[dict[str, Any], str]:
    """(parameters, their hash) of the start of a hub.

    Raises:
        HubError: it is missing or damaged.
    """
    path = hub / _START
    try:
        arrays, texts = load_arrays(path)
        parameters, sha256 = unflatten_dict(arrays, sep="/"), texts["sha256"]
        if parameters_sha256(parameters) != sha256:
            raise ValueError("its content is not what its hash says")
        return parameters, sha256
    except FileNotFoundError as error:
        raise HubError(f"{path} is missing: copy the whole hub, or train it again") from error
    except (ValueError, KeyError) as error:
        raise HubError(f"{path} is damaged ({error}): copy it again") from error
