"""A run of a new target that starts from a composition of the modules of a hub."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from densityjax.config import check
from densityjax.data.dataset import fingerprint, open_from_config, resolve_targets
from densityjax.modules.average import weighted_average
from densityjax.modules.composition import find_composition, standardised_labels, to_json, too_few
from densityjax.modules.embedding import embed
from densityjax.modules.hub import (
    Module,
    check_config,
    load_start,
    read_hub,
    usable,
    warn_of_seen,
)
from densityjax.modules.output import read_composition, table, write_composition
from densityjax.modules.start_folder import carrier_of, write_start_folder
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import ConfigError
from densityjax.targets import dataset_targets, get_specs
from densityjax.training.compatibility import check_workdir
from densityjax.training.ensemble import train_ensemble
from densityjax.training.setup import load_role

log = logging.getLogger("densityjax")


def compose(
    config: ConfigDict, hub: Path, workdir: Path, use_determining: bool = False,
    train: bool = True,
) -> dict[str, Any]:
    """Composes the modules for config.targets, one target, and trains it from there.

    Leaves compose.json, compose.png and the folder start in `workdir`, which then is that of an
    ordinary run with config.init = workdir/start. A run that has begun goes on with the start that
    it has, and shows its table again.

    Args:
        use_determining: use modules that determine the new target, too.
        train: run config from there; else leave the start alone.

    Returns:
        What compose.json holds.

    Raises:
        ConfigError: config.targets is not one target, or config.init is set; a run that has begun
          was composed from another hub, or with another `use_determining`.
        HubError: the modules do not fit each other or the config.
        RunError, DatasetError: as `train_and_evaluate`.
    """
    if config.init:
        raise ConfigError(
            f"config.init='{config.init}': the start is composed from --hub; leave it out"
        )
    check(config)
    config = resolve_targets(config).copy_and_resolve_references()
    if len(config.targets) != 1:
        raise ConfigError(
            f"config.targets={tuple(config.targets)}: modules are composed for one target, e.g. "
            f'--config.targets="(\'{config.targets[0]}\',)"'
        )
    config.init = str(workdir / "start")
    run = RunDirectory(workdir)
    if run.config.exists():
        check_workdir(config, workdir)
        content = read_composition(workdir)
        _check_flags(content, hub, use_determining, workdir)
        log.info("%s goes on with the start that it has", workdir)
        print(table(content))
    else:
        content = find_start(config, hub, workdir, use_determining)
    if train:
        train_ensemble(config.lock(), workdir)
    return content


def _check_flags(
    content: Mapping[str, Any], hub: Path, use_determining: bool, workdir: Path
) -> None:
    """Raises ConfigError where a run began with other flags, which would have no effect now."""
    for name, now in (("hub", str(hub.resolve())), ("use_determining", use_determining)):
        if content.get(name, now) != now:
            raise ConfigError(
                f"{workdir} was composed with --{name}={content[name]}, not {now}: take that, or "
                "name another --workdir"
            )


def find_start(
    config: ConfigDict, hub: Path, workdir: Path, use_determining: bool = False
) -> dict[str, Any]:
    """Writes the start of the one target of `config`, compose.json and compose.png.

    Returns:
        What compose.json holds.

    Raises:
        HubError, DatasetError: as `compose`.
    """
    target = config.targets[0]
    builder = open_from_config(config.data)
    (spec,) = get_specs(config.targets, dataset_targets(builder))
    modules = read_hub(hub)
    check_config(config, modules, hub)
    modules = usable(modules, target, use_determining)
    records = load_role(
        config, builder, (spec,), "train", cache_in_memory=False, features=False,
        encoder=modules[0].model.encoder,
    )
    rows, labels = standardised_labels(records, spec)
    systems = records.chemical_system[rows].astype(str)
    trunks = [module.trunk for module in modules]
    embeddings = None
    if not too_few(labels, systems, config.modules.min_labels):
        log.info("Embedding %d materials with %d modules", len(rows), len(modules))
        first = modules[0].model
        embeddings = embed(trunks, config, first.statistics, records, rows)
    found = find_composition(
        target, [module.name for module in modules], embeddings, labels, systems,
        config.modules, config.seed,
    )
    flags = {"hub": str(hub.resolve()), "use_determining": use_determining}
    content = to_json(found) | flags
    weights = [row.get("weight", 0.0) for row in content["modules"].values()]
    dataset = {"name": builder.info.full_name, "fingerprint": fingerprint(builder)}
    warn_of_seen(modules, weights, hub, config.data, dataset)
    _write_start(workdir / "start", hub, modules, weights, trunks, content)
    write_composition(workdir, content)
    print(table(content))
    return content


def _write_start(
    folder: Path, hub: Path, modules: list[Module], weights: list[float], trunks: list[Any],
    content: dict[str, Any],
) -> None:
    """The averaged trunk, or that of the start of the hub."""
    target = content["target"]
    carrier = carrier_of(modules, weights, target)
    if content["fallback"]:
        parameters, _ = load_start(hub)
        trunk = {name: own for name, own in parameters.items() if name in trunks[0]}
    else:
        trunk = weighted_average(trunks, weights)
    write_start_folder(folder, carrier, trunk, {
        "name": f"start of {target}", "target": target, "fallback": content["fallback"],
        "weights": dict(zip(content["modules"], weights)),
        "start": modules[0].facts["start"],
    })
