"""What an ablation consists of: cells, and the units of training that they share.

An ablation is a base config, variants of it (the keys in which each differs), splits (test folds,
or elements held out) and seeds. A cell is one variant on one split with one seed; it consists of
one run per group of targets. Runs with the same config are trained once and shared between cells.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from densityjax.data.dataset import resolve_targets
from densityjax.runtime.errors import ConfigError
from densityjax.training.grouped_training import Shard, group_config, resolve
from densityjax.training.groups import spell


class AblationError(ConfigError):
    """An ablation's config does not fit itself or its directory; names the key and the remedy."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """What one process trains in one go: the same run with every seed, and its tuning.

    Attributes:
        name: of the directory, e.g. 'fold0-bulk_modulus+volume-1a2b3c4d'.
        kin: equal for units that differ in their data alone.
        config: of its runs, but for the seed and the tuned key.
        seeds: of its runs, the first of which tunes.
    """

    name: str
    kin: str
    config: ConfigDict
    seeds: tuple[int, ...]

    def run_config(self, seed: int, key: str, value: Any) -> ConfigDict:
        """Config of one run; `key` is the dotted name of the tuned key, '' for none."""
        config = self.config.copy_and_resolve_references()
        config.seed = seed * config.ensemble.seeds  # no member is in the ensembles of two seeds
        if key:
            config.update_from_flattened_dict({key: value})
        return config.lock()


@dataclasses.dataclass(frozen=True)
class Cell:
    """One variant on one split with one seed.

    Attributes:
        config: the whole config, groups spelled out.
        members: (targets, unit) of each group.
    """

    variant: str
    split: str
    seed: int
    config: ConfigDict
    members: tuple[tuple[tuple[str, ...], Unit], ...]

    @property
    def name(self) -> str:
        """'all/fold0_seed1', also its directory."""
        return f"{self.variant}/{self.split.replace(' ', '_')}_seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Cells of an ablation and the units that they need, each once."""

    cells: tuple[Cell, ...]
    units: tuple[Unit, ...]


def splits_of(config: ConfigDict) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of each split, and the keys of `config.data` that make it.

    Folds rotate: test fold f, validation fold f + 1, the others train. Held-out elements use the
    folds of the base.
    """
    count = config.num_folds
    for fold in config.folds:
        if not 0 <= fold < count:
            raise AblationError(f"config.folds has {fold}: folds are 0 to {count - 1}")
        others = tuple((fold + 2 + step) % count for step in range(count - 2))
        roles = {"test_fold": fold, "validation_fold": (fold + 1) % count, "train_folds": others}
        yield f"fold{fold}", roles
    for elements in config.held_out_elements:
        yield f"without {'-'.join(elements)}", {"held_out_elements": tuple(elements)}


def variant_config(config: ConfigDict, variant: str, roles: dict[str, Any]) -> ConfigDict:
    """Base config with a variant's keys and a split's roles.

    Raises:
        AblationError: the variant has a key that training configs do not have.
    """
    result = config.base.copy_and_resolve_references().lock()
    try:
        result.update(config.variants[variant].to_dict())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error.args[0] if error.args else error).split())
        raise AblationError(f"config.variants.{variant}: {text}") from error
    result.data.update(roles)
    return result


def make_plan(config: ConfigDict) -> Plan:
    """Lists cells and units of an ablation's config, in a fixed order.

    Raises:
        AblationError, GroupsError, DatasetError: the design does not fit itself or the dataset.
    """
    check_ablation(config)
    units: dict[str, Unit] = {}
    cells = []
    for variant in config.variants:
        for split, roles in splits_of(config):
            whole = resolve_targets(variant_config(config, variant, roles))
            groups = resolve(whole)
            whole.groups = spell(groups)
            members = []
            for group in groups:
                unit = _unit(group_config(whole, group), split, group, tuple(config.seeds))
                members.append((group, units.setdefault(unit.name, unit)))
            for seed in config.seeds:
                seeded = whole.copy_and_resolve_references()
                seeded.seed = seed
                cells.append(Cell(variant, split, seed, seeded.lock(), tuple(members)))
    # A process that takes neighbours in this order compiles a trunk once for all its data.
    kins = list(dict.fromkeys(unit.kin for unit in units.values()))
    ordered = sorted(units.values(), key=lambda unit: kins.index(unit.kin))
    return Plan(tuple(cells), tuple(ordered))


def check_ablation(config: ConfigDict) -> None:
    """Raises AblationError for a design that cannot be compared; names the key."""
    names = list(config.variants)
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_.,+-]+", name):
            raise AblationError(
                f"config.variants: '{name}' names a directory: use letters, digits and _ . , + -"
            )
    if len(set(config.seeds)) != len(config.seeds) or not config.seeds:
        raise AblationError(f"config.seeds must be different and at least one: {config.seeds}")
    if not config.folds and not config.held_out_elements:
        raise AblationError("config.folds and config.held_out_elements are empty: name a split")
    if config.tuning.key and not config.tuning.candidates:
        raise AblationError(
            "config.tuning.candidates is empty: give values, or set config.tuning.key=''"
        )
    _check_comparisons(config, names)


def _check_comparisons(config: ConfigDict, variants: Sequence[str]) -> None:
    """The rules of what is compared with what."""
    if config.reference not in variants:
        raise AblationError(
            f"config.reference='{config.reference}' is not one of config.variants: "
            f"{', '.join(variants)}"
        )
    for pool, members in config.pools.items():
        unknown = sorted(set(members) - set(variants))
        if unknown or pool in variants:
            raise AblationError(
                f"config.pools.{pool} must have a name of its own and pool variants; not variants: "
                f"{', '.join(unknown) or 'none'}"
            )
    for name in (name for pair in config.contrasts for name in pair):
        if name not in variants and name not in config.pools:
            raise AblationError(f"config.contrasts: '{name}' is neither a variant nor a pool")


def _unit(config: ConfigDict, split: str, group: Sequence[str], seeds: tuple[int, ...]) -> Unit:
    config.seed = 0
    content = json.loads(config.to_json_best_effort())
    digests = [_digest(content), _digest(content | {"data": content["data"]["name"]})]
    label = "+".join(group) if len(group) < 4 else f"{group[0]}+{len(group) - 1}_more"
    name = f"{split.replace(' ', '_')}-{label}-{digests[0]}"
    return Unit(name, digests[1], config, seeds)


def _digest(content: dict[str, Any]) -> str:
    """Hash of a config; where data lie is left out."""
    content = json.loads(json.dumps(content))
    content.pop("grouping")
    if isinstance(content["data"], dict):
        for key in ("data_dir", "build", "cache_in_memory"):
            content["data"].pop(key)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def own_units(plan: Plan, shard: Shard) -> tuple[Unit, ...]:
    """The i-th of n shares: neighbours, so that what they compile is shared."""
    count = len(plan.units)
    return plan.units[count * shard[0] // shard[1] : count * (shard[0] + 1) // shard[1]]


def describe(plan: Plan, config: ConfigDict, shard: Shard) -> str:
    """What would be trained, in words."""
    own = own_units(plan, shard)
    tuning = len(config.tuning.candidates) - 1 if config.tuning.key else 0
    runs = sum(len(unit.seeds) + tuning for unit in own)
    lines = [
        f"{len(plan.cells)} cells ({len(config.variants)} variants), {len(plan.units)} units",
        f"shard {shard[0]}/{shard[1]}: {len(own)} units, {runs} runs of "
        f"{config.base.train.epochs} epochs",
    ]
    lines += [f"  cell {cell.name}: {cell.config.groups}" for cell in plan.cells]
    lines += [f"  unit {unit.name}" for unit in own]
    return "\n".join(lines)
