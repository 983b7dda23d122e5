"""The design that cells make: who is compared with whom; cells that do not fit are named."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from densityjax.ablation.results import CellResult, ComparisonError, SeedsOfSplit
from densityjax.targets import TargetSpec, labelled

CellKey = tuple[str, str, int]  # variant, split, seed


@dataclasses.dataclass(frozen=True)
class Design:
    """Cells that fit each other, and what is compared with what.

    Attributes:
        cells: (variant, split, seed) -> cell.
        variants, splits, seeds: of the cells.
        pools: name -> variants.
        members: variant or pool -> its variants.
        targets: variant or pool -> the targets that all its variants have.
        labels: (split, target) -> [n].
        contrasts: (variant or pool, reference).
        seeds_of: variant or pool -> the seeds that all its variants have.
        shared_seeds: contrast -> the seeds that both sides have.
        missing: cells that are not there, in words.
    """

    cells: dict[CellKey, CellResult]
    variants: tuple[str, ...]
    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    pools: dict[str, tuple[str, ...]]
    members: dict[str, tuple[str, ...]]
    targets: dict[str, tuple[TargetSpec, ...]]
    labels: dict[tuple[str, str], np.ndarray]
    contrasts: tuple[tuple[str, str], ...]
    seeds_of: dict[str, SeedsOfSplit]
    shared_seeds: dict[tuple[str, str], SeedsOfSplit]
    missing: tuple[str, ...]

    def systems(self) -> dict[str, np.ndarray]:
        """Split -> [n] chemical systems."""
        return {cell.split: cell.systems for cell in self.cells.values()}


def check_design(
    cells: Sequence[CellResult],
    specs: Sequence[TargetSpec],
    reference: str,
    pools: Mapping[str, Sequence[str]],
    contrasts: Sequence[tuple[str, str]],
    allow_missing: bool,
) -> Design:
    """The design of `compare`'s arguments.

    Raises:
        ComparisonError: as `compare`.
    """
    by_key = _by_key(cells)
    variants = tuple(dict.fromkeys(variant for variant, _, _ in by_key))
    splits = tuple(dict.fromkeys(split for _, split, _ in by_key))
    seeds = tuple(sorted({seed for _, _, seed in by_key}))
    predicted, labels = _check_cells(by_key.values(), specs)
    pools = {name: tuple(members) for name, members in pools.items()}
    contrasts = _check_names(variants, pools, reference, contrasts)
    members = {variant: (variant,) for variant in variants} | pools
    available = {
        v: {split: tuple(s for s in seeds if (v, split, s) in by_key) for split in splits}
        for v in variants
    }
    missing = tuple(
        f"'{v}', {split}, seed {s}"
        for v in variants for split in splits for s in seeds if (v, split, s) not in by_key
    )
    if missing and not allow_missing:
        raise ComparisonError(
            f"{len(missing)} of {len(variants) * len(splits) * len(seeds)} cells are missing: "
            f"{'; '.join(missing)}. Run them, or allow missing cells to compare those that there "
            "are"
        )
    targets = {
        name: tuple(spec for spec in specs if all(spec.name in predicted[v] for v in own))
        for name, own in members.items()
    }
    for a, b in contrasts:
        if not set(targets[a]) & set(targets[b]):
            raise ComparisonError(f"'{a}' and '{b}' have no target in common")
    return Design(
        cells=by_key, variants=variants, splits=splits, seeds=seeds, pools=pools, members=members,
        targets=targets, labels=labels, contrasts=contrasts,
        seeds_of={name: _common(name, available, own) for name, own in members.items()},
        shared_seeds={
            (a, b): _common(f"{a} and {b}", available, members[a] + members[b])
            for a, b in contrasts
        },
        missing=missing,
    )


def _common(
    names: str, available: Mapping[str, SeedsOfSplit], variants: Sequence[str]
) -> SeedsOfSplit:
    """Seeds that all of the variants have, per split.

    Raises:
        ComparisonError: there is none in any split.
    """
    found = {
        split: tuple(s for s in seeds if all(s in available[v][split] for v in variants))
        for split, seeds in available[variants[0]].items()
    }
    if not any(found.values()):
        raise ComparisonError(f"{names}: no split and seed that all have; run more cells")
    return found


def _by_key(cells: Sequence[CellResult]) -> dict[CellKey, CellResult]:
    named = {}
    for cell in cells:
        key = (cell.variant, cell.split, cell.seed)
        if key in named:
            raise ComparisonError(f"cell {cell.name} is there twice")
        named[key] = cell
    if not named:
        raise ComparisonError("no cells to compare: run the ablation first")
    return named


def _check_cells(
    cells: Iterable[CellResult], specs: Sequence[TargetSpec]
) -> tuple[dict[str, frozenset[str]], dict[tuple[str, str], np.ndarray]]:
    """Targets of each variant, and labels [n] of each (split, target).

    Raises:
        ComparisonError: names the cell that does not fit the others.
    """
    known = {spec.name: spec for spec in specs}
    targets: dict[str, frozenset[str]] = {}
    first: dict[str, CellResult] = {}
    labels: dict[tuple[str, str], np.ndarray] = {}
    for cell in cells:
        _check_materials(cell, first.setdefault(cell.split, cell))
        names = targets.setdefault(cell.variant, frozenset(cell.prediction))
        if names != set(cell.prediction) or not names:
            raise ComparisonError(
                f"cell {cell.name} predicts {', '.join(sorted(cell.prediction)) or 'nothing'}, "
                f"other cells of the variant {', '.join(sorted(names)) or 'nothing'}"
            )
        for name in cell.prediction:
            if name not in known:
                raise ComparisonError(f"cell {cell.name} predicts '{name}', which has no spec")
            _check_target(cell, known[name])
            truth = labels.setdefault((cell.split, name), np.asarray(cell.truth[name]))
            if not np.array_equal(truth, cell.truth[name], equal_nan=True):
                raise ComparisonError(
                    f"cell {cell.name} has other labels of '{name}' than other cells of "
                    f"'{cell.split}': they come from different versions of the dataset"
                )
    if unused := sorted(set(known) - set().union(*targets.values())):
        raise ComparisonError(f"no variant predicts {', '.join(unused)}: leave them out of specs")
    return targets, labels


def _check_materials(cell: CellResult, first: CellResult) -> None:
    """Of a cell, beside the first one of its split."""
    for field in ("ids", "systems"):
        if not np.array_equal(getattr(cell, field), getattr(first, field)):
            raise ComparisonError(
                f"cell {cell.name} has other {field} than {first.name}: all cells of a split "
                "must predict the same materials in the same order"
            )
    if len(cell.ids) != len(cell.systems):
        raise ComparisonError(
            f"cell {cell.name} has {len(cell.ids)} ids and {len(cell.systems)} systems"
        )
    if len(set(cell.systems)) < 2:
        raise ComparisonError(
            f"split '{cell.split}' has {len(set(cell.systems))} chemical systems: at least 2 "
            "are needed to say how results vary; test on more materials"
        )


def _check_target(cell: CellResult, spec: TargetSpec) -> None:
    where = f"cell {cell.name}, target '{spec.name}'"
    if spec.name not in cell.truth:
        raise ComparisonError(f"{where}: predictions without labels")
    truth, prediction = np.asarray(cell.truth[spec.name]), np.asarray(cell.prediction[spec.name])
    size = len(cell.ids)
    shape = (size, len(spec.classes)) if spec.classes else (size,)
    if truth.shape != (size,) or prediction.shape != shape:
        raise ComparisonError(
            f"{where}: labels of shape {truth.shape} and predictions of shape {prediction.shape}, "
            f"expected {(size,)} and {shape}"
        )
    if spec.classes and not np.all(np.isin(truth, range(-1, len(spec.classes)))):
        raise ComparisonError(f"{where}: class indices must be -1 to {len(spec.classes) - 1}")
    if not np.all(np.isfinite(prediction[labelled(spec, truth)])):
        raise ComparisonError(f"{where}: predictions are not finite; train this cell anew")


def _check_names(
    variants: Sequence[str],
    pools: Mapping[str, Sequence[str]],
    reference: str,
    extra: Sequence[tuple[str, str]],
) -> tuple[tuple[str, str], ...]:
    """All contrasts: each variant and pool against the reference, then the extra ones."""
    for name, members in pools.items():
        if name in variants:
            raise ComparisonError(f"pool '{name}' has the name of a variant")
        if not members or len(set(members)) < len(members):
            raise ComparisonError(f"pool '{name}' must name variants, each once: {members}")
        if unknown := [member for member in members if member not in variants]:
            raise ComparisonError(
                f"pool '{name}' has members without cells: {', '.join(unknown)}; there are "
                f"{', '.join(variants)}"
            )
    known = (*variants, *pools)
    if reference not in known:
        raise ComparisonError(f"reference '{reference}' has no cells; there are {', '.join(known)}")
    for pair in extra:
        for name in pair:
            if name not in known:
                raise ComparisonError(f"contrast with '{name}': there are {', '.join(known)}")
    default = [(name, reference) for name in known if name != reference]
    return tuple(dict.fromkeys([*default, *map(tuple, extra)]))
