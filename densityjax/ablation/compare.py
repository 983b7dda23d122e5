"""Scores of an ablation's variants with intervals, and paired differences between them."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from densityjax.ablation.bootstrap import DETECTABLE, Draws, estimate, two_sided_p
from densityjax.ablation.checks import Design, check_design
from densityjax.ablation.results import (
    AVERAGE,
    AVERAGE_WITHOUT_IDENTITIES,
    METRICS,
    CellResult,
    Comparison,
    ComparisonError,
    Contrast,
    Cost,
    Difference,
    Score,
    SplitSize,
)
from densityjax.ablation.scores import (
    PairedDifference,
    mean_scores,
    paired_difference,
    score_variants,
)
from densityjax.targets import TargetSpec, labelled

SIGNIFICANT = 0.05  # adjusted p up to which a difference counts as found


def compare(
    cells: Sequence[CellResult],
    specs: Sequence[TargetSpec],
    reference: str,
    pools: Mapping[str, Sequence[str]] | None = None,
    contrasts: Sequence[tuple[str, str]] = (),
    replicates: int = 10_000,
    seed: int = 0,
    allow_missing: bool = False,
) -> Comparison:
    """Compares variants over splits and seeds by a paired two-way bootstrap.

    A score (R2, as `metrics.regression_metrics`, or balanced accuracy of the most probable class)
    is computed per split and seed and averaged over seeds, then over splits. All variants share
    the draws of the bootstrap, so differences are paired.
    docs/statistics.md says what a replicate draws, and why; `bootstrap.Draws` does it.

    Args:
        cells: one per variant, split and seed; those of a split have the same materials in the
          same order. A variant may have a subset of the targets.
        specs: targets, in the order of the tables.
        reference: variant or pool that all others are compared with.
        pools: name -> variants that are draws of one thing, reported as their mean.
        contrasts: further (variant or pool, reference) pairs.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        allow_missing: use the (split, seed) pairs that there are; contrasts use those that both
          sides have, a pool those that all its members have.

    Raises:
        ComparisonError: cells are missing or contradict each other, a name is unknown, or a split
          has fewer than 2 chemical systems.
    """
    if replicates < 1:
        raise ComparisonError(f"replicates={replicates}: a bootstrap takes at least one")
    design = check_design(cells, specs, reference, pools or {}, contrasts, allow_missing)
    draws = Draws(design.systems(), replicates, seed)
    means: dict[str, dict[str, np.ndarray]] = {name: {} for name in design.members}  # [R + 1] each
    paired: dict[tuple[str, str], dict[str, PairedDifference]] = {c: {} for c in design.contrasts}
    for spec in specs:
        _compare_target(spec, design, draws, means, paired)
    return Comparison(
        reference=reference,
        specs=tuple(specs),
        variants=design.variants,
        pools=design.pools,
        splits=tuple(_size(split, design, draws, specs) for split in design.splits),
        seeds=design.seeds,
        scores=tuple(
            row for name in means for row in _scores(name, design.targets[name], means[name])
        ),
        contrasts=tuple(_contrast(pair, found, design) for pair, found in paired.items()),
        costs=tuple(_cost(variant, design) for variant in design.variants),
        replicates=replicates,
        seed=seed,
        missing=design.missing,
        notes=tuple(_notes(design, draws, specs)),
    )


def _compare_target(
    spec: TargetSpec,
    design: Design,
    draws: Draws,
    means: dict[str, dict[str, np.ndarray]],
    paired: dict[tuple[str, str], dict[str, PairedDifference]],
) -> None:
    """Adds one target to the mean scores [R + 1] and to the differences of those that have it."""
    own = [variant for variant in design.variants if spec in design.targets[variant]]
    scored = score_variants(own, spec, design.cells.values(), draws)
    for name, members in design.members.items():
        if spec in design.targets[name]:
            scores = mean_scores([scored[v] for v in members], design.seeds_of[name], draws)
            means[name][spec.name] = np.sum(draws.members(members) * scores, axis=0)
    for (a, b), found in paired.items():
        if spec in design.targets[a] and spec in design.targets[b]:
            found[spec.name] = paired_difference(
                scored, design.members[a], design.members[b], design.shared_seeds[a, b], draws
            )


def _averages(
    specs: Sequence[TargetSpec], values: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, list[str]]]:
    """Name of each average and the targets it is over: those of regression that have a score."""
    own = [s for s in specs if s.kind == "regression" and np.isfinite(values[s.name][0])]
    if own:
        yield AVERAGE, [spec.name for spec in own]
    without = [spec.name for spec in own if spec.identity is None]
    if without and len(without) < len(own):
        yield AVERAGE_WITHOUT_IDENTITIES, without


def _scores(
    name: str, specs: Sequence[TargetSpec], values: Mapping[str, np.ndarray]
) -> Iterator[Score]:
    """A row per target, then the averages, of [R + 1] mean scores per target."""
    for spec in specs:
        row = _bounded(estimate(values[spec.name]))
        yield Score(name, spec.name, METRICS[spec.kind], num_targets=1, **row)
    for average, names in _averages(specs, values):
        row = _bounded(estimate(np.mean([values[n] for n in names], axis=0)))
        yield Score(name, average, METRICS["regression"], num_targets=len(names), **row)


def _bounded(row: dict[str, Any]) -> dict[str, Any]:
    """No score is above 1."""
    return row if row["high"] is None else row | {"high": min(row["high"], 1.0)}


def _difference(target: str, metric: str, parts: Sequence[PairedDifference]) -> Difference:
    """Difference on a target, or the mean over several."""
    values = np.mean([part.values for part in parts], axis=0)
    keys = dict.fromkeys(key for part in parts for key in part.cells)
    cells = np.array(
        [np.mean([part.cells[key] for part in parts if key in part.cells]) for key in keys]
    )
    identical = sum(
        all(key in part.identical for part in parts if key in part.cells) for key in keys
    )
    row = estimate(values)
    tested = row["se"] is not None and identical < len(keys)
    return Difference(
        target=target, metric=metric, p=two_sided_p(values) if tested else None, p_adjusted=None,
        ahead=int(np.sum(cells > 0)), behind=int(np.sum(cells < 0)), ties=int(np.sum(cells == 0)),
        identical=identical, detectable=DETECTABLE * row["se"] if tested else None,
        num_targets=len(parts), **row,
    )


def _contrast(
    pair: tuple[str, str], paired: Mapping[str, PairedDifference], design: Design
) -> Contrast:
    """The rows of a contrast, from the differences per shared target."""
    variant, reference = pair
    either = dict.fromkeys([*design.targets[reference], *design.targets[variant]])
    specs = [spec for spec in design.targets[variant] if spec.name in paired]
    rows = _adjusted(
        [_difference(spec.name, METRICS[spec.kind], [paired[spec.name]]) for spec in specs]
    )
    averages = [
        _difference(average, METRICS["regression"], [paired[name] for name in names])
        for average, names in _averages(specs, {n: found.values for n, found in paired.items()})
    ]
    verdicts = [row.verdict for row in rows]
    return Contrast(
        variant=variant, reference=reference, rows=(*rows, *averages),
        wins=verdicts.count("win"), losses=verdicts.count("loss"),
        undecided=verdicts.count("undecided"), same=verdicts.count("same model"),
        better=sum((row.value or 0) > 0 for row in rows),
        worse=sum((row.value or 0) < 0 for row in rows),
        significant=sum(
            row.p_adjusted is not None and row.p_adjusted <= SIGNIFICANT for row in rows
        ),
        not_compared=tuple(spec.name for spec in either if spec.name not in paired),
    )


def _adjusted(rows: Sequence[Difference]) -> list[Difference]:
    """The rows with Benjamini and Hochberg's p over those that were tested."""
    tested = [row for row in rows if row.p is not None]
    p_values = stats.false_discovery_control([row.p for row in tested]) if tested else []
    adjusted = {row.target: float(p) for row, p in zip(tested, p_values, strict=True)}
    return [dataclasses.replace(row, p_adjusted=adjusted.get(row.target)) for row in rows]


def _cost(variant: str, design: Design) -> Cost:
    cells = [cell for cell in design.cells.values() if cell.variant == variant]
    trunks = [cell.trunks for cell in cells]
    return Cost(
        variant=variant,
        cells=len(cells),
        trunks=None if None in trunks else float(np.mean(trunks)),
        parameters=float(np.mean([cell.parameters for cell in cells])),
        updates=float(np.mean([cell.updates for cell in cells])),
        device_seconds=float(np.mean([cell.device_seconds for cell in cells])),
        total_device_seconds=float(np.sum([cell.device_seconds for cell in cells])),
    )


def _size(split: str, design: Design, draws: Draws, specs: Sequence[TargetSpec]) -> SplitSize:
    counts = {
        spec.name: int(np.sum(labelled(spec, design.labels[split, spec.name])))
        for spec in specs
        if (split, spec.name) in design.labels
    }
    systems, materials = draws.group(split).shape
    return SplitSize(split, materials, systems, counts)


def _notes(design: Design, draws: Draws, specs: Sequence[TargetSpec]) -> Iterable[str]:
    """What a reader must know about how the numbers came about."""
    if len(design.seeds) == 1:
        yield "There is one seed: the intervals do not contain the variation between trainings."
    if draws.num_strata < len(design.splits):
        yield (
            "Some splits have chemical systems in common; these are drawn together for all splits."
        )
    for spec in specs:
        poor = [
            split
            for split in design.splits
            if (truth := design.labels.get((split, spec.name))) is not None
            and len(np.unique(truth[labelled(spec, truth)])) < 2
        ]
        if poor:
            yield (
                f"{spec.label} has fewer than two different labels in {', '.join(poor)}: no score "
                "there, the others count."
            )
