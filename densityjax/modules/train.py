"""One module per target: a run from the common start, then a verified folder of the hub."""

import logging
from pathlib import Path

from ml_collections import ConfigDict

from densityjax.config import check
from densityjax.data.dataset import fingerprint, open_from_config, resolve_targets
from densityjax.modules.hub import FORMAT, RUNS, HubError, read_module, save_start
from densityjax.prediction.export import export_run
from densityjax.runtime.errors import ConfigError
from densityjax.training.checkpoint import differences
from densityjax.training.compatibility import config_differences, may_differ
from densityjax.training.facts import read_facts
from densityjax.training.grouped_training import Shard, group_config
from densityjax.training.initial import find_source, read_start
from densityjax.training.latents import check_encoder
from densityjax.training.run import train_and_evaluate

log = logging.getLogger("densityjax")

# Settings that an exported model has no more; start and autoencoder are compared by their hashes.
_PLACES = ("init", "input.encoder")

_CARD = """
## A module

Trained on {target} alone from the start with the hash {start}: {kind}. Modules of one start are
composed for a property that none of them knows:

```
densityjax modules compose --hub={hub} --config=CONFIG --config.targets="('PROPERTY',)" \\
    --workdir=runs/mine
```
"""


def train_modules(config: ConfigDict, hub: Path, shard: Shard = (0, 1)) -> list[Path]:
    """Trains a module for each of config.targets, unless the hub has it.

    With config.model.adapter the trunk stays as it is, and adapters and heads learn.

    Args:
        hub: the folder; made if it is not there.
        shard: (i, n): only the modules at places i, i + n, ...

    Returns:
        Folders of the modules of this shard.

    Raises:
        ConfigError: a setting, or config.init, cannot be used.
        HubError: the hub has another start, a module of the same target with other settings or
          data, or a folder of a module's name that is none.
        RunError, DatasetError: as `train_and_evaluate`.
    """
    if not config.init:
        raise ConfigError(
            "config.init is empty: modules begin from one start, the directory of a run, an "
            "exported model or the name of one that ships, e.g. --config.init=elastic"
        )
    check(config)
    config = resolve_targets(config)
    # Found once, for all targets: of groups each might take another.
    source = find_source(config)
    config = config.copy_and_resolve_references()
    config.init, config.groups = str(source.path), "all"
    config.ensemble.seeds, config.ensemble.rotate = 1, False
    if config.model.adapter:
        config.optimizer.trunk_rate = 0.0
    hub.mkdir(parents=True, exist_ok=True)
    start = read_start(config, hub / RUNS / "none")
    save_start(hub, start)  # shards that begin together write the same bytes
    made = []
    for place, target in enumerate(config.targets):
        if place % shard[1] == shard[0]:
            made.append(_train_module(config, hub, target, start.facts["sha256"]))
    return made


def _train_module(config: ConfigDict, hub: Path, target: str, start: str) -> Path:
    folder, run, own = hub / target, hub / RUNS / target, group_config(config, (target,))
    if folder.exists():
        _check_there(own, folder, start)
        log.info("Module %s is there", target)
        return folder
    log.info("Module %s", target)
    train_and_evaluate(own, run)
    facts = read_facts(run)
    if facts["init"]["sha256"] != start:
        raise HubError(f"{run} began from another start: remove it, or name another --hub")
    export_run(run, folder, target, facts={"module": {
        "format": FORMAT, "target": target, "start": start, "kind": kind_of(config),
        "data": {key: facts["dataset"][key] for key in ("name", "fingerprint", "train_folds")},
        "start_data": {key: facts["init"][key] for key in ("dataset", "sources")},
    }}, more=_CARD.format(target=target, start=start[:12], kind=kind_of(config), hub=hub.name))
    return folder


def _check_there(config: ConfigDict, folder: Path, start: str) -> None:
    """Raises HubError where a module that is there is not the one that would be trained."""
    module = read_module(folder)
    if module.facts["start"] != start:
        raise HubError(f"{folder} began from another start: name another --hub")
    check_encoder(config, module.model.encoder, str(folder))
    differing = config_differences(config, folder, (*may_differ(False), *_PLACES))
    differing += differences(
        {"data": module.facts["data"]["fingerprint"]},
        {"data": fingerprint(open_from_config(config.data))}, (),
    )
    if differing:
        raise HubError(
            f"{folder} was trained with other settings, or on other data:\n"
            + "\n".join(differing)
            + f"\nremove it and {folder.parent / RUNS / folder.name}, or name another --hub"
        )


def kind_of(config: ConfigDict) -> str:
    """What a module learns, in words."""
    width = config.model.adapter
    return f"adapters of width {width}, the trunk frozen" if width else "all parameters"
