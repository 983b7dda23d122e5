"""Groups of targets: a run for each, here or on several machines, and one report of them all.

A group is trained by the run that a config with only its targets would start: same data, batches,
random views, initial trunk and number of updates, whatever the other groups are.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from densityjax.config import check
from densityjax.constraints import check_constraints
from densityjax.data.dataset import open_from_config, resolve_targets
from densityjax.results.metrics import average_of
from densityjax.results.predictions_table import join_tables, write_table
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import read_stack
from densityjax.runtime import distributed
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json
from densityjax.targets import TargetSpec, dataset_targets, get_specs
from densityjax.training.compatibility import check_workdir
from densityjax.training.evaluation_labels import check_validation_labels
from densityjax.training.facts import read_facts
from densityjax.training.groups import DatasetIdentity, TargetGroups, resolve_groups, spell
from densityjax.training.joined_run import (
    FACTS,
    METRICS,
    JoinedRun,
    described,
    joined_facts,
    train_unless_finished,
)
from densityjax.training.mixture import column_names, mean_name
from densityjax.training.run import train_and_evaluate
from densityjax.training.setup import load_role

log = logging.getLogger("densityjax")

Shard = tuple[int, int]  # (i, n): the i-th of n processes, from 0


def parse_shard(text: str) -> Shard:
    """'1/4' as (1, 4).

    Raises:
        UserError: it is not i/n with 0 <= i < n.
    """
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal() and int(first) < int(second)):
        raise UserError(f"--shard={text} is not i/n with i from 0 to n - 1, such as 0/4")
    return int(first), int(second)


def resolve(config: ConfigDict) -> TargetGroups:
    """The groups that a training config asks for, once `resolve_targets` has checked its targets.

    Raises:
        GroupsError, DatasetError: they do not fit the config, or the dataset is not there.
        ConfigError: a constraint binds targets of different groups.
    """
    data, identity = config.data, None
    if config.groups.endswith(".py"):
        identity = DatasetIdentity.of(open_from_config(data))
    groups = resolve_groups(
        config.groups, tuple(config.targets), test_fold=data.test_fold,
        train_folds=tuple(data.train_folds), held_out_elements=tuple(data.held_out_elements),
        identity=identity,
    )
    for group in groups:
        check_constraints(config.model.constraints, group)
    return groups


def group_config(config: ConfigDict, group: Sequence[str]) -> ConfigDict:
    """Config of the run that trains one group: only what names targets differs."""
    own = config.copy_and_resolve_references()
    own.targets = tuple(group)
    own.groups = "all"
    weights = {name: w for name, w in config.loss.target_weights.items() if name in group}
    with own.unlocked():
        own.loss.target_weights = ConfigDict(weights)
    return own.lock()


def train_groups(
    config: ConfigDict, workdir: str | Path, shard: Shard = (0, 1),
    allow_config_change: bool = False, for_prediction: bool = True, of_ensemble: bool = False,
) -> dict[str, Any] | None:
    """Trains every group of a config, in `workdir` or, if there are several, in folders of it.

    Args:
        shard: (i, n): of several groups, train only those at places i, i + n, ...
        allow_config_change, for_prediction: see `train_and_evaluate`.
        of_ensemble: the run is a member of one: skip what has finished.

    Returns:
        What metrics.json holds; None where groups of other shards have not finished.

    Raises:
        GroupsError: the groups do not fit the config.
        ConfigError, RunError, DatasetError: as `train_and_evaluate`.
    """
    check(config, jax.device_count())
    workdir = Path(workdir)
    config = resolve_targets(config)
    groups = resolve(config)
    train_run = train_unless_finished if of_ensemble else train_and_evaluate
    options = {"allow_config_change": allow_config_change, "for_prediction": for_prediction}
    if len(groups) == 1:
        return train_run(config, workdir, **options)
    config = config.copy_and_resolve_references()
    config.groups = spell(groups)
    check_workdir(config, workdir, allow_config_change)
    check_groups_have_labels(config, groups)
    workdir.mkdir(parents=True, exist_ok=True)
    distributed.write_json(RunDirectory(workdir).config, json.loads(config.to_json_best_effort()))
    members = [(group, workdir / f"group{place}") for place, group in enumerate(groups)]
    for place, (group, folder) in enumerate(members):
        if place % shard[1] == shard[0]:
            log.info("Group %d of %d: %s", place + 1, len(groups), ", ".join(group))
            train_run(group_config(config, group), folder, **options)
    if not distributed.is_writer():
        return None  # process 0 joins the groups
    missing = [folder.name for _, folder in members if "finished" not in read_facts(folder)]
    if missing:
        log.info("%s: %s to be trained by other shards", workdir, ", ".join(missing))
        return None
    return join_runs(config, members, workdir)


def check_groups_have_labels(config: ConfigDict, groups: TargetGroups) -> None:
    """Checks before the first group is trained that every one can choose its best state.

    Raises:
        DatasetError: no target of a group has a label in the validation fold.
    """
    builder = open_from_config(config.data)
    specs = get_specs(config.targets, dataset_targets(builder))
    records = load_role(
        config, builder, specs, "validation", cache_in_memory=False, features=False
    )
    for group in groups:
        own = [spec for spec in specs if spec.name in group]
        check_validation_labels(records, own, config.data.validation_fold)


def join_runs(
    config: ConfigDict, members: Sequence[tuple[Sequence[str], Path]], out: Path
) -> dict[str, Any]:
    """Writes the files of one run from those of its groups: metrics, predictions, history, facts.

    Args:
        config: of the whole, with the targets of all groups.
        members: (targets, directory of the finished run) of each group.
        out: directory to write to.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: a file of a group is missing, cut or damaged; names the file.
    """
    groups = [RunDirectory(folder) for _, folder in members]
    specs_of = [run.read_specs(group) for run, (group, _) in zip(groups, members)]
    specs = tuple(spec for part in specs_of for spec in part)
    specs = tuple(sorted(specs, key=lambda spec: list(config.targets).index(spec.name)))
    metrics = [run.read_metrics(*METRICS) for run in groups]
    facts = [run.read_facts(*FACTS) for run in groups]
    shares = [len(group) / len(specs) for group, _ in members]

    def in_order(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        merged = {name: value for part in parts for name, value in part.items()}
        return {spec.name: merged[spec.name] for spec in specs if spec.name in merged}

    joined: dict[str, Any] = {"average": {}, "baselines": {}}
    for role in ("validation", "test"):
        joined[role] = in_order([part[role] for part in metrics])
        joined["average"][role] = average_of(joined[role], specs)
        joined["baselines"][role] = {
            name: in_order([part["baselines"][role][name] for part in metrics])
            for name in metrics[0]["baselines"][role]
        }
    joined |= {
        "best_step": None,  # every group has its own, see run.json
        "best_validation_loss": sum(
            share * part["best_validation_loss"] for share, part in zip(shares, metrics)
        ),
        "view": metrics[0]["view"],
        "evaluation_views": metrics[0]["evaluation_views"],
        "identity_targets": [spec.name for spec in specs if spec.identity is not None],
    }
    names, tables = [spec.name for spec in specs], {}
    for role in ("validation", "test"):
        parts = [run.read_predictions(own, role) for run, own in zip(groups, specs_of)]
        tables[role] = join_tables(parts, names)
        _join_learners(config, groups, specs_of, names, role, out)
    if config.stack.learners:
        weights = in_order([run.load(run.stack, read_stack).to_json() for run in groups])
        replace_json(RunDirectory(out).stack, weights)
    of_groups = [
        described(folder, out, fact, metric) | {"targets": list(group)}
        for (group, folder), fact, metric in zip(members, facts, metrics)
    ]
    JoinedRun(
        config, specs, joined, joined_facts(facts) | {"groups": of_groups}, tables,
        _joined_history(groups, shares, specs),
    ).write(out)
    return joined


def _join_learners(
    config: ConfigDict, groups: Sequence[RunDirectory], specs_of: Sequence[Sequence[TargetSpec]],
    names: Sequence[str], role: str, out: Path,
) -> None:
    """Writes the tables of every learner, which an ensemble of grouped runs reads."""
    for learner in (*column_names(config), *map(mean_name, config.yardsticks)):
        parts = [run.read_learner(learner, own, role) for run, own in zip(groups, specs_of)]
        table = join_tables(parts, names)
        write_table(RunDirectory(out).learner_predictions(learner, role), table)


def _joined_history(
    runs: Sequence[RunDirectory], shares: Sequence[float], specs: Sequence[TargetSpec]
) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl for the steps that all groups logged; losses weighted by targets."""
    histories = [
        {(line["step"], line["split"]): line for line in run.read_history()} for run in runs
    ]
    lines = []
    for key in histories[0]:
        if not all(key in history for history in histories):
            continue  # a group that stopped early
        parts = [history[key] for history in histories]
        line = {name: value for part in parts for name, value in part.items()}
        line["loss"] = sum(share * part["loss"] for share, part in zip(shares, parts))
        values = [line.get(f"{s.name}/r2") for s in specs if s.kind == "regression"]
        values = [value for value in values if value is not None]
        if "average_r2" in line and values:
            line["average_r2"] = sum(values) / len(values)
        lines.append(line)
    return lines
