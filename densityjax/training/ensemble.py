"""Ensembles: several runs of the same targets, whose predictions are averaged, and one report.

Members differ in their seed, or in which fold is theirs to make choices on. A member is trained by
the run, grouped or not, that its config alone would start.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from densityjax.config import NO_FOLD, check
from densityjax.data.dataset import open_from_config, resolve_targets
from densityjax.results.averages import average_tables
from densityjax.results.constraints import project_tables
from densityjax.results.learner_file import save_learners
from densityjax.results.metrics import Metrics, average_of, target_metrics
from densityjax.results.predictions import metrics_with_spread
from densityjax.results.predictions_table import TargetPredictions, write_table
from densityjax.results.run_directory import SPLITS, RunDirectory
from densityjax.results.stack import Stack
from densityjax.runtime import distributed
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json
from densityjax.targets import TargetSpec
from densityjax.training.calibrate import calibrate_run
from densityjax.training.compatibility import check_workdir
from densityjax.training.ensemble_mixture import (
    Materials,
    Whole,
    average_learner,
    fit_whole,
    load_materials,
    load_test,
    mix_members,
    whole_baselines,
)
from densityjax.training.facts import read_facts
from densityjax.training.grouped_training import (
    Shard,
    check_groups_have_labels,
    resolve,
    train_groups,
)
from densityjax.training.initial import check_init
from densityjax.training.joined_run import (
    FACTS,
    METRICS,
    JoinedRun,
    described,
    joined_facts,
)
from densityjax.training.mixture import (
    NETWORK,
    ask_yardsticks,
    column_names,
    mean_name,
    names_of,
)

log = logging.getLogger("densityjax")

_MEMBER_FACTS = (*FACTS, "dataset.fingerprint", *(f"dataset.{split}_examples" for split in SPLITS))


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Attributes:
        name: of its folder.
        config: of its run.
    """

    name: str
    config: ConfigDict

    def spoken(self) -> str:
        """What it differs in, for people."""
        data = self.config.data
        return f"seed {self.config.seed}, validation fold {data.validation_fold}"


def plan_members(config: ConfigDict) -> tuple[Member, ...]:
    """The runs that a config asks for, a single one without an ensemble.

    The first has the seed and the folds of the config. In a rotated member the config's validation
    fold takes the place of the fold that the member validates on.
    """
    data, ensemble = config.data, config.ensemble
    folds = (data.validation_fold, *(data.train_folds if ensemble.rotate else ()))
    found = []
    for seed in range(config.seed, config.seed + ensemble.seeds):
        for fold in folds:
            own = config.copy_and_resolve_references()
            own.seed = seed
            own.data.validation_fold = fold
            own.data.train_folds = tuple(
                data.validation_fold if other == fold else other for other in data.train_folds
            )
            own.ensemble.seeds, own.ensemble.rotate = 1, False
            found.append(Member(f"member{len(found)}", own.lock()))
    return tuple(found)


def train_ensemble(
    config: ConfigDict, workdir: str | Path, shard: Shard = (0, 1),
    allow_config_change: bool = False, for_prediction: bool = True,
) -> dict[str, Any] | None:
    """Trains every member of a config, in folders of `workdir`; a single one in `workdir` itself.

    A rerun skips members that have finished and resumes one that was cut.

    Args:
        shard: (i, n): of all groups of all members, train only those at places i, i + n, ...
        allow_config_change, for_prediction: see `train_and_evaluate`.

    Returns:
        What metrics.json holds; None where members of other shards have not finished.

    Raises:
        GroupsError, ConfigError, RunError, DatasetError: as `train_groups`.
        UserError: a file of a finished member is damaged; names the file.
    """
    check(config, jax.device_count())
    workdir = Path(workdir)
    config = resolve_targets(config)
    check_init(config, workdir)
    members = plan_members(config)
    if len(members) == 1:
        result = train_groups(config, workdir, shard, allow_config_change, for_prediction)
        return _calibrated(config, workdir, result)
    check_workdir(config, workdir, allow_config_change)
    groups = [resolve(member.config) for member in members]
    for member, own in zip(members, groups):  # before the first is trained
        check_groups_have_labels(member.config, own)
    workdir.mkdir(parents=True, exist_ok=True)
    distributed.write_json(RunDirectory(workdir).config, json.loads(config.to_json_best_effort()))
    place = 0  # of the member's first group among all
    for number, (member, own) in enumerate(zip(members, groups), start=1):
        share = ((shard[0] - place) % shard[1], shard[1])
        place += len(own)
        if share[0] < len(own):
            log.info("Member %d of %d: %s", number, len(members), member.spoken())
            train_groups(
                member.config, workdir / member.name, share, allow_config_change, for_prediction,
                of_ensemble=True,
            )
    if not distributed.is_writer():
        return None  # process 0 joins the members
    missing = [m.name for m in members if "finished" not in read_facts(workdir / m.name)]
    if missing:
        log.info("%s: %s to be trained by other shards", workdir, ", ".join(missing))
        return None
    return _calibrated(config, workdir, join_members(config, members, workdir))


def _calibrated(
    config: ConfigDict, workdir: Path, result: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The result of a finished run, which is calibrated if its config says so."""
    if config.intervals.calibrate and result is not None and distributed.is_writer():
        calibrate_run(workdir)
    return result


def join_members(config: ConfigDict, members: Sequence[Member], out: Path) -> dict[str, Any]:
    """Writes the files of one run from those of its members.

    Predictions are averages. Those of the validation fold are out-of-fold: a material is predicted
    by the members that validated on it, of which none trained on it. Metrics are of these averages;
    those of the baselines are means over the members, since each fits them to its training rows.

    Args:
        config: of the whole.
        members: finished, in folders of `out`.
        out: directory to write to.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: a file of a member is missing, cut or damaged, or of other data; names it.
    """
    runs = [RunDirectory(out / member.name) for member in members]
    specs = runs[0].read_specs(config.targets)
    metrics = [run.read_metrics(*METRICS) for run in runs]
    facts = [run.read_facts(*_MEMBER_FACTS) for run in runs]
    _check_same_data(runs, facts)
    configs = [member.config for member in members]
    builder = open_from_config(config.data)
    held_back = config.data.test_fold != NO_FOLD
    constraints = tuple(config.model.constraints)
    tables = {
        split: project_tables(average_predictions(runs, specs, split), constraints)
        for split in SPLITS
    }
    stack = whole = test = said = None
    if names_of(config):
        log.info("Fitting yardsticks to all that members train on")
        whole = fit_whole(config, builder, specs)
        if held_back:
            test = load_test(config, builder, specs, whole)
            said = ask_yardsticks(whole.yardsticks, config.stack.learners, test)
    if config.stack.learners:
        materials = {"validation": load_materials(configs, builder, specs, "validation")}
        if held_back:
            materials["test"] = Materials.of([test], specs)
        stack, tables, learners = mix_members(
            column_names(config), runs, specs, materials, said.columns if held_back else {},
            constraints,
        )
        for name, own in learners.items():
            write_table(RunDirectory(out).learner_predictions(name, "test"), own)
    joined: dict[str, Any] = {"average": {}, "baselines": {}}
    for split in SPLITS:
        joined[split] = {
            table.spec.name: metrics_with_spread(
                table.spec, table.truth, table.prediction, table.spread
            )
            for table in tables[split]
        }
        joined["average"][split] = average_of(joined[split], specs)
        joined["baselines"][split] = _mean_mapping([part["baselines"][split] for part in metrics])
        joined["baselines"][split] |= _of_averages(config, runs, specs, split)
    if not held_back:
        for part in (joined, joined["average"], joined["baselines"]):
            part["test"] = part["validation"]
    elif whole is not None:
        joined["baselines"]["test"] |= whole_baselines(specs, whole, test, said)
    of_members = []
    for member, part in zip(members, metrics):
        data = member.config.data
        of_members.append({
            "directory": member.name, "seed": member.config.seed,
            "validation_fold": data.validation_fold, "train_folds": list(data.train_folds),
            "best_step": part["best_step"], "best_validation_loss": part["best_validation_loss"],
            "average": part["average"],
        })
    joined |= {
        "best_step": None,  # every member has its own
        "best_validation_loss": _mean([part["best_validation_loss"] for part in metrics]),
        "view": metrics[0]["view"],
        "evaluation_views": metrics[0]["evaluation_views"],
        "identity_targets": [spec.name for spec in specs if spec.identity is not None],
        "members": of_members,
    }
    if stack is not None:
        joined["stack"] = stack.to_json()
        _write_mixture(RunDirectory(out), config, stack, whole)
    history = mean_history([run.read_history() for run in runs])
    JoinedRun(
        config, specs, joined, _joined_facts(config, members, facts, metrics, out), tables, history
    ).write(out)
    return joined


def _write_mixture(run: RunDirectory, config: ConfigDict, stack: Stack, whole: Whole) -> None:
    """What predicts files with the mixture of an ensemble, beside its members' networks."""
    replace_json(run.stack, stack.to_json())
    whole.descriptors.save(run.descriptors)
    learners = config.stack.learners
    save_learners(run.learners, {k: v for k, v in whole.yardsticks.items() if k in learners})


def _of_averages(
    config: ConfigDict, runs: Sequence[RunDirectory], specs: Sequence[TargetSpec], split: str
) -> dict[str, dict[str, Metrics]]:
    """Metrics of the yardsticks', and of a mixture of the network's, average predictions.

    The yardsticks of the test fold are those of `whole_baselines`.
    """
    names = config.yardsticks if split == "validation" else ()
    tables = {name: mean_name(name) for name in names}
    if NETWORK in config.stack.learners:
        tables[NETWORK] = NETWORK
    found = {}
    for name, table in tables.items():
        averages = average_learner(runs, table, specs, split).values()
        found[name] = {t.spec.name: target_metrics(t.spec, t.truth, t.prediction) for t in averages}
    return found


def average_predictions(
    runs: Sequence[RunDirectory], specs: Sequence[TargetSpec], split: str
) -> list[TargetPredictions]:
    """The predictions of a split, averaged over the members that have the material there."""
    parts = [run.read_predictions(specs, split) for run in runs]
    return [average_tables([part[spec.name] for part in parts]) for spec in specs]


def _check_same_data(runs: Sequence[RunDirectory], facts: Sequence[dict[str, Any]]) -> None:
    first = facts[0]["dataset"]["fingerprint"]
    for run, part in zip(runs, facts):
        if part["dataset"]["fingerprint"] != first:
            raise UserError(
                f"{run.path} was trained on other data than {runs[0].path}: remove it and run the "
                "training command again"
            )


def _joined_facts(
    config: ConfigDict, members: Sequence[Member], facts: Sequence[dict[str, Any]],
    metrics: Sequence[dict[str, Any]], out: Path,
) -> dict[str, Any]:
    of_members = [
        described(out / member.name, out, fact, metric)
        | {"seed": member.config.seed, "validation_fold": member.config.data.validation_fold}
        for member, fact, metric in zip(members, facts, metrics)
    ]
    dataset = dict(facts[0]["dataset"])
    if config.ensemble.rotate:
        # Every one of these folds is trained on, and validated on, by some members.
        of_folds = {m["validation_fold"]: f["dataset"] for m, f in zip(of_members, facts)}
        count = sum(part["validation_examples"] for part in of_folds.values())
        dataset |= {
            "train_folds": sorted(of_folds), "train_examples": count,
            "validation_fold": None, "validation_examples": count,
        }
        if config.data.test_fold == NO_FOLD:
            dataset["test_examples"] = count
    return joined_facts(facts) | {"dataset": dataset, "members": of_members}


def mean_history(histories: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl that all members have, their numbers averaged.

    Evaluations belong together by their epoch, which members with other training folds reach after
    other numbers of steps; the step is then that of the first member.

    Args:
        histories: lines of each member; of a step that was logged again the last counts.
    """

    def key(line: dict[str, Any]) -> tuple[str, Any]:
        return line["split"], line["step" if line["split"] == "train" else "epoch"]

    by_key = [{key(line): line for line in lines} for lines in histories]
    found = []
    for place, first in by_key[0].items():
        if not all(place in lines for lines in by_key):
            continue  # a member that stopped early, or has fewer rows
        parts = [lines[place] for lines in by_key]
        means = {
            name: _mean([part.get(name) for part in parts])
            for name in first if name not in ("split", "step")
        }
        found.append({name: means.get(name, value) for name, value in first.items()})
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """Of the numbers that there are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_mapping(parts: Sequence[Metrics]) -> dict[str, Any]:
    """Means of equal mappings of numbers, level by level; lists (confusion matrices) go."""
    means: dict[str, Any] = {}
    for name, value in parts[0].items():
        values = [part.get(name) for part in parts]
        if isinstance(value, dict):
            means[name] = _mean_mapping([own for own in values if isinstance(own, dict)])
        elif not isinstance(value, list):
            means[name] = value if values.count(value) == len(values) else _mean(values)
    return means
