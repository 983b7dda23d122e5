"""Which settings may differ between the parts of a run, and between its processes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from densityjax.config import completed
from densityjax.configs import elastic_paper
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import distributed
from densityjax.runtime.files import flatten
from densityjax.training.checkpoint import differences
from densityjax.training.errors import RunError

# Where a run finds its data and how it reports may change between its parts; its result may not.
_FREE_KEYS = (
    "data.data_dir", "data.build", "data.source", "data.strict", "data.cache_in_memory",
    "train.log_every_steps", "train.num_threads", "train.heartbeat_seconds",
    "train.watchdog_seconds", "grouping.", "modules.", "yardsticks", "intervals.",
)
# Settings under which a state stays usable, though the result is no longer that of one config:
# the checkpoint has the same arrays, batches come in the same order, losses stay comparable.
_CHANGEABLE_KEYS = (
    "optimizer.", "train.epochs", "train.ema_decay", "train.evaluate_every_epochs",
    "train.early_stop_evaluations", "train.checkpoint_every_steps", "train.max_skipped_steps",
    "train.accumulation_steps", "view.evaluation_views", "model.dropout", "model.implementation",
    "model.remat",
)

# Settings that came after runs which may still be opened; each is off in configs/elastic_paper.py.
_LATER_KEYS = (
    "data.train_fraction", "input.core", "input.encoder",
    "input.invariants", "input.identified", "input.composition", "input.structure",
    "auxiliary.", "ensemble.", "pretraining.",
    "stack.", "intervals.", "model.constraints", "init", "optimizer.trunk_rate",
    "model.adapter", "optimizer.head_first", "modules.",
)


def may_differ(allow_config_change: bool, prefix: str = "") -> tuple[str, ...]:
    """Beginnings of dotted keys that need not be the same."""
    keys = _FREE_KEYS + (_CHANGEABLE_KEYS if allow_config_change else ())
    return tuple(prefix + key for key in keys)


def identity(config: ConfigDict, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What a state of a run belongs to, under dotted keys: the config and the data."""
    named = {key: dataset[key] for key in ("name", "fingerprint")}
    if "pretraining" in dataset:  # other sources, or other materials withheld
        named["sources"] = dataset["pretraining"]["digest"]
    return _flat(config, "config.") | flatten(named, "dataset.")


def _flat(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """JSON values under dotted keys, as config.json would give them.

    Later settings are left out where they are off, so that runs from before them go on.
    """
    defaults = flatten(json.loads(elastic_paper.get_config().to_json_best_effort()))
    values = flatten(json.loads(config.to_json_best_effort()))
    return {
        prefix + key: value for key, value in values.items()
        if not (key.startswith(_LATER_KEYS) and value == defaults.get(key))
    }


def check_workdir(config: ConfigDict, workdir: Path, allow_config_change: bool = False) -> None:
    """Refuses a work directory that holds a run of another config.

    Args:
        allow_config_change: accept other values of keys that leave a state usable.

    Raises:
        RunError: lists the differing keys with both values.
    """
    run = RunDirectory(workdir)
    if not run.config.exists():
        return
    differing = config_differences(config, workdir, may_differ(allow_config_change))
    if differing:
        safe = not config_differences(config, workdir, may_differ(True))
        raise RunError(
            f"{workdir} holds a run of another config:\n" + "\n".join(differing)
            + "\nuse another --workdir, or remove this one to start over"
            + (", or go on all the same with --allow-config-change" if safe else "")
        )


def config_differences(config: ConfigDict, workdir: Path, free: Sequence[str]) -> list[str]:
    """A line for each setting that is another in config.json of a run or of an exported model.

    Args:
        free: beginnings of dotted keys that need not be the same, see `may_differ`.
    """
    return differences(_flat(completed(RunDirectory(workdir).read_config())), _flat(config), free)


def check_same_data(workdir: Path, fingerprint: str) -> None:
    """Refuses a work directory that holds a run on other data, with the RunError that says so."""
    run = RunDirectory(workdir)
    if not run.facts.exists():
        return
    before = run.read_facts("dataset.fingerprint")["dataset"]["fingerprint"]
    if before != fingerprint:
        raise RunError(
            f"{workdir} was trained on other data: {before} there, {fingerprint} now; use another "
            "--workdir"
        )


def check_processes_agree(config: ConfigDict) -> None:
    """Raises DisagreementError if another process was started with other settings.

    Before anything else: with other targets, say, processes would wait for each other in vain.
    """
    known = {
        key: value for key, value in _flat(config).items() if not key.startswith(may_differ(False))
    }
    distributed.check_equal("config", json.dumps(known, indent=1, sort_keys=True))


def check_hosts_share(workdir: Path, dataset: Mapping[str, Any]) -> None:
    """Checks that the processes of a run have the same data, and its directory once it is claimed.

    Raises:
        DisagreementError, RunError: they have not.
    """
    distributed.check_equal("dataset", json.dumps(dataset, indent=1, sort_keys=True))
    distributed.barrier("claimed")
    if not RunDirectory(workdir).statistics.exists():
        raise RunError(
            f"{workdir} is not the directory that process 0 writes to: --workdir must be on "
            "storage that all hosts mount"
        )
