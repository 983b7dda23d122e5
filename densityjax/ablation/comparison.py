"""Scores of an ablation's variants with intervals, and paired differences between them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse, stats

from densityjax.targets import TargetSpec

AVERAGE = "average"  # rows beside the targets: means over regression targets
AVERAGE_WITHOUT_IDENTITIES = "average without identities"
METRICS = {"regression": "R2", "classification": "balanced accuracy"}
LEVEL = 0.95
POWER = 0.8
# Smallest difference detected with this power, in standard errors: z_0.975 + z_0.8 = 2.80.
DETECTABLE = float(stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(POWER))
# A sum of squares this small beside that of the labels themselves is the rounding of equal labels.
EQUAL_LABELS = 1e-12
TIE = 12  # decimals to which scores must agree to be a tie; the rest is rounding

_SYSTEMS, _SEEDS, _MEMBERS = range(3)  # streams of random numbers

Pairs = dict[str, tuple[int, ...]]  # split -> seeds


class ComparisonError(ValueError):
    """Cells that cannot be compared; the message says which and what to do."""


@dataclasses.dataclass(frozen=True)
class CellResult:
    """Predictions of one variant, trained with one seed, for the test materials of one split.

    Attributes:
        variant: e.g. 'single', 'random 0'.
        split: e.g. 'fold0', 'without O'.
        seed: of the training.
        truth: target name -> [n] labels, NaN = missing, or class indices, -1 = missing.
        prediction: target name -> [n] values, or [n, K] class probabilities; its keys are the
          targets of the variant.
        systems: [n] chemical system of each material, e.g. 'Hf-S'.
        ids: [n] names of the materials.
        parameters: of all models of the cell.
        device_seconds: training time times devices, of all models of the cell.
        updates: optimiser steps that each target got.
        trunks: number of models, None if unknown.
    """

    variant: str
    split: str
    seed: int
    truth: Mapping[str, np.ndarray]
    prediction: Mapping[str, np.ndarray]
    systems: np.ndarray
    ids: np.ndarray
    parameters: int
    device_seconds: float
    updates: int
    trunks: int | None = None

    @property
    def name(self) -> str:
        return f"'{self.variant}', {self.split}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean score of a variant or pool on one target, or on average.

    Attributes:
        variant: of the variant or pool.
        target: its name, `AVERAGE` or `AVERAGE_WITHOUT_IDENTITIES`.
        metric: 'R2' or 'balanced accuracy'.
        value: mean over seeds, then splits; of an average, over targets too. None if undefined.
        low, high: basic 95 % interval of the bootstrap, at most 1; None if undefined.
        se: standard deviation over replicates.
        num_targets: averaged over.
        undefined: replicates left out, for in them a split had labels of one value or class only.
    """

    variant: str
    target: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    se: float | None
    num_targets: int
    undefined: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """Paired difference of two variants on one target, or on average.

    Attributes:
        target, metric: as in `Score`.
        value, low, high, se: of score minus score of the reference, over the (split, seed) pairs
          that both have; an average is over the targets that both have.
        p: two-sided, 1 less the level at which the interval touches 0; None where all predictions
          are identical, since nothing is tested.
        p_adjusted: Benjamini-Hochberg over the targets of the contrast; None for averages.
        ahead, behind, ties: (split, seed) pairs with a higher, lower and equal score.
        identical: pairs, among the ties, in which the predictions are the same: one model shared.
        detectable: smallest true difference found with 80 % power at the two-sided 5 % level.
        num_targets, undefined: as in `Score`.
    """

    target: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    se: float | None
    p: float | None
    p_adjusted: float | None
    ahead: int
    behind: int
    ties: int
    identical: int
    detectable: float | None
    num_targets: int
    undefined: int

    @property
    def pairs(self) -> int:
        """Number of (split, seed) pairs."""
        return self.ahead + self.behind + self.ties

    @property
    def verdict(self) -> str:
        """'same model', 'win' or 'loss' where the interval excludes 0, or 'undecided'."""
        if self.pairs and self.identical == self.pairs:
            return "same model"
        if self.low is not None and self.low > 0:
            return "win"
        return "loss" if self.high is not None and self.high < 0 else "undecided"


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A variant or pool against another.

    Attributes:
        variant, reference: names.
        rows: a difference per shared target, then the averages.
        wins, losses, undecided, same: number of targets per `Difference.verdict`.
        better, worse: number of targets by the sign of the difference alone.
        significant: number of targets with p_adjusted <= 0.05.
        not_compared: targets that only one of the two has.
    """

    variant: str
    reference: str
    rows: tuple[Difference, ...]
    wins: int
    losses: int
    undecided: int
    same: int
    better: int
    worse: int
    significant: int
    not_compared: tuple[str, ...]

    def row(self, target: str) -> Difference | None:
        """The difference on a target or average, None if there is none."""
        return next((row for row in self.rows if row.target == target), None)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the cells of a variant took; means over its cells, but for the total.

    Attributes:
        trunks: models per cell; None if unknown.
        updates: optimiser steps per target.
        total_device_seconds: sum over cells; a model that variants share counts in each.
    """

    variant: str
    cells: int
    trunks: float | None
    parameters: float
    updates: float
    device_seconds: float
    total_device_seconds: float


@dataclasses.dataclass(frozen=True)
class SplitSize:
    """Materials and chemical systems of a split, and labels per target."""

    split: str
    materials: int
    systems: int
    labels: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All that the tables show.

    Attributes:
        specs: targets, in the order of the tables.
        variants: names in the order of the cells.
        pools: name -> variants.
        seeds: of the design.
        missing: cells that the design lacks.
        notes: what a reader must know about how the numbers came about.
    """

    reference: str
    specs: tuple[TargetSpec, ...]
    variants: tuple[str, ...]
    pools: dict[str, tuple[str, ...]]
    splits: tuple[SplitSize, ...]
    seeds: tuple[int, ...]
    scores: tuple[Score, ...]
    contrasts: tuple[Contrast, ...]
    costs: tuple[Cost, ...]
    replicates: int
    seed: int
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def score(self, variant: str, target: str) -> Score | None:
        """Score of a variant or pool on a target or average, None if it has none."""
        rows = (row for row in self.scores if (row.variant, row.target) == (variant, target))
        return next(rows, None)

    def contrast(self, variant: str, reference: str | None = None) -> Contrast | None:
        """A contrast, by default against the reference of the comparison."""
        pair = (variant, reference or self.reference)
        return next((c for c in self.contrasts if (c.variant, c.reference) == pair), None)

    def to_json(self) -> dict[str, Any]:
        """Numbers, strings, None, lists and dicts."""
        content = dataclasses.asdict(self)
        targets = [
            {"name": s.name, "label": s.label, "metric": METRICS[s.kind], "identity": s.identity}
            for s in self.specs
        ]
        return {"targets": targets} | {k: v for k, v in content.items() if k != "specs"}


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
    is computed per split and seed and averaged over seeds, then over splits. A replicate draws

    - chemical systems with replacement, as many as there are, within every split (materials of
      one system are not independent, so they come and go together); splits that have systems in
      common, such as a fold and a set of held-out elements, draw from their union, once for all;
    - seeds with replacement within every split, n - 1 of n: the variance of a mean of n draws is
      (n - 1) / n of the unbiased estimate, a third too small for 3 seeds, that of n - 1 draws is
      equal to it (McCarthy & Snowden 1985; Rao & Wu 1988);
    - members of a pool, likewise n - 1 of n, together for all splits.

    All variants share the draws, so differences are paired. Intervals are basic ones, the
    percentiles of the replicates reflected at the estimate (Davison & Hinkley 1997, section 5.2).
    R2 has the spread of the labels as its denominator, so replicates are biased to one side; an
    average over targets and splits keeps the bias while its spread shrinks. In simulations with
    this dataset's labels (5 splits of 165 materials, 5 or 6 targets, heavy-tailed errors), 95 %
    intervals of the average score and difference covered 0.76 to 0.90 by plain percentiles, 0.88
    to 0.93 with Efron's correction of the median and 0.91 to 0.98 by this.

    Where the effect of a seed varies between materials, drawing both counts that interaction up to
    three times (Owen 2007, 'The pigeonhole bootstrap'): intervals are then too wide.

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
    cells = _by_name(cells)
    variants = tuple(dict.fromkeys(variant for variant, _, _ in cells))
    splits = tuple(dict.fromkeys(split for _, split, _ in cells))
    seeds = tuple(sorted({seed for _, _, seed in cells}))
    targets, labels = _check_cells(cells.values(), specs)
    pools = {name: tuple(members) for name, members in (pools or {}).items()}
    things = {variant: (variant,) for variant in variants} | pools
    contrasts = _check_names(variants, pools, reference, contrasts)
    design = [(v, split, s) for v in variants for split in splits for s in seeds]
    missing = tuple(
        f"'{v}', {split}, seed {s}" for v, split, s in design if (v, split, s) not in cells
    )
    if missing and not allow_missing:
        raise ComparisonError(
            f"{len(missing)} of {len(design)} cells are missing: {'; '.join(missing)}. Run them, "
            "or allow missing cells to compare those that there are"
        )
    available = {
        v: {split: tuple(s for s in seeds if (v, split, s) in cells) for split in splits}
        for v in variants
    }
    pairs = {name: _common([available[v] for v in members]) for name, members in things.items()}
    sides = {
        (a, b): _common([available[v] for v in dict.fromkeys(things[a] + things[b])])
        for a, b in contrasts
    }
    for pair, shared in (pairs | sides).items():
        if not any(shared.values()):
            names = pair if isinstance(pair, str) else " and ".join(pair)
            raise ComparisonError(f"{names}: no split and seed that all have; run more cells")
    samples = _Draws({cell.split: cell for cell in cells.values()}, replicates, seed)

    has = {
        name: [spec for spec in specs if all(spec.name in targets[v] for v in members)]
        for name, members in things.items()
    }
    for a, b in contrasts:
        if not set(has[a]) & set(has[b]):
            raise ComparisonError(f"'{a}' and '{b}' have no target in common")
    levels: dict[str, dict[str, np.ndarray]] = {name: {} for name in things}  # [R + 1] each
    paired: dict[tuple[str, str], dict[str, _Paired]] = {pair: {} for pair in contrasts}
    for spec in specs:
        scored = {variant: _Scored({}, {}) for variant in variants if spec.name in targets[variant]}
        for split in splits:
            _score_split(scored, spec, split, cells, samples)
        for name, members in things.items():
            if spec in has[name]:
                mean = _combine([scored[v] for v in members], pairs[name], samples)
                levels[name][spec.name] = np.sum(samples.members(members) * mean, axis=0)
        for a, b in contrasts:
            if spec in has[a] and spec in has[b]:
                paired[a, b][spec.name] = _pair(scored, things[a], things[b], sides[a, b], samples)

    return Comparison(
        reference=reference,
        specs=tuple(specs),
        variants=variants,
        pools=pools,
        splits=tuple(_size(split, samples, specs, labels) for split in splits),
        seeds=seeds,
        scores=tuple(row for name in things for row in _scores(name, has[name], levels[name])),
        contrasts=tuple(
            _contrast(a, b, [s for s in specs if s.name in paired[a, b]], paired[a, b], has)
            for a, b in contrasts
        ),
        costs=tuple(_cost(v, [c for (w, _, _), c in cells.items() if w == v]) for v in variants),
        replicates=replicates,
        seed=seed,
        missing=missing,
        notes=_notes(splits, seeds, samples, specs, labels),
    )


# ---- checks ------------------------------------------------------------------------------------


def _by_name(cells: Sequence[CellResult]) -> dict[tuple[str, str, int], CellResult]:
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
        whole = first.setdefault(cell.split, cell)
        for field in ("ids", "systems"):
            if not np.array_equal(getattr(cell, field), getattr(whole, field)):
                raise ComparisonError(
                    f"cell {cell.name} has other {field} than {whole.name}: all cells of a split "
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
    if not np.all(np.isfinite(prediction[_labelled(spec, truth)])):
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


def _common(available: Sequence[Pairs]) -> Pairs:
    """Seeds that all have, per split."""
    return {
        split: tuple(s for s in seeds if all(s in other[split] for other in available))
        for split, seeds in available[0].items()
    }


# ---- draws -------------------------------------------------------------------------------------


class _Draws:
    """Multiplicities of systems, seeds and members in every replicate.

    Row 0 is the data itself, so that estimates and replicates are one array.
    """

    def __init__(self, cells: Mapping[str, CellResult], replicates: int, seed: int):
        """Of one cell per split, for all have the same materials."""
        self._splits, self._replicates, self._seed = list(cells), replicates, seed
        self._cache: dict[Any, np.ndarray] = {}
        systems = {split: np.asarray(cell.systems).astype(str) for split, cell in cells.items()}
        names, index = np.unique(np.concatenate(list(systems.values())), return_inverse=True)
        sizes = np.cumsum([len(value) for value in systems.values()])[:-1]
        self._index = dict(zip(systems, np.split(index, sizes), strict=True))  # [n] each
        present = np.zeros((len(systems), len(names)), int)  # [splits, systems]
        for row, found in enumerate(self._index.values()):
            present[row, found] = 1
        graph = sparse.csr_matrix(present @ present.T)
        self.num_strata, self._stratum = sparse.csgraph.connected_components(graph, directed=False)
        self._present = present

    def group(self, split: str) -> np.ndarray:
        """[m, n] which material belongs to which system of the split."""
        systems, index = np.unique(self._index[split], return_inverse=True)
        return (np.arange(len(systems))[:, None] == index).astype(np.float64)

    def systems(self, split: str) -> np.ndarray:
        """[R + 1, m] how often each system of the split, in order of names, is drawn."""
        place = self._splits.index(split)
        stratum = self._stratum[place]
        union = np.flatnonzero(self._present[self._stratum == stratum].any(0))
        if ("stratum", stratum) not in self._cache:
            rng = np.random.default_rng([self._seed, _SYSTEMS, stratum])
            size = len(union)
            draws = rng.multinomial(size, np.full(size, 1 / size), size=self._replicates)
            self._cache["stratum", stratum] = np.vstack([np.ones(size), draws])
        return self._cache["stratum", stratum][:, self._present[place, union] == 1]

    def seeds(self, split: str, seeds: tuple[int, ...]) -> np.ndarray:
        """[len(seeds), R + 1] weights that sum to 1."""
        stream = (_SEEDS, self._splits.index(split), *(abs(s) for s in seeds))
        return self._weights(stream, len(seeds))

    def members(self, members: Sequence[str]) -> np.ndarray:
        """[len(members), R + 1] weights that sum to 1."""
        return self._weights((_MEMBERS, len(members)), len(members))

    def _weights(self, stream: tuple[int, ...], count: int) -> np.ndarray:
        if stream not in self._cache:
            rng = np.random.default_rng([self._seed, *stream])
            whole = np.full((1, count), 1 / count)
            if count == 1:
                draws = np.ones((self._replicates, 1))
            else:
                draws = rng.multinomial(count - 1, whole[0], size=self._replicates) / (count - 1)
            self._cache[stream] = np.vstack([whole, draws]).T.copy()
        return self._cache[stream]


# ---- scores ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Scored:
    """One variant on one target.

    Attributes:
        scores: (split, seed) -> [R + 1], the data and the replicates; NaN where undefined.
        model: (split, seed) -> equal numbers for identical predictions.
    """

    scores: dict[tuple[str, int], np.ndarray]
    model: dict[tuple[str, int], int]


@dataclasses.dataclass(frozen=True)
class _Paired:
    """Two sides on one target: difference [R + 1], and per (split, seed) its value."""

    difference: np.ndarray
    cells: dict[tuple[str, int], float]
    identical: frozenset[tuple[str, int]]


def _labelled(spec: TargetSpec, truth: np.ndarray) -> np.ndarray:
    """[n] which materials have a label."""
    return truth >= 0 if spec.classes else np.isfinite(truth)


def _score_split(
    scored: Mapping[str, _Scored],
    spec: TargetSpec,
    split: str,
    cells: Mapping[tuple[str, str, int], CellResult],
    samples: _Draws,
) -> None:
    """Adds the scores of all variants and seeds on one split, distinct predictions once."""
    own = [c for c in cells.values() if c.split == split and c.variant in scored]
    if not own:
        return
    truth = np.asarray(own[0].truth[spec.name])
    labelled = _labelled(spec, truth)
    distinct: dict[bytes, int] = {}
    predictions = []
    for cell in own:
        prediction = np.asarray(cell.prediction[spec.name])[labelled]
        prediction = prediction.astype(np.float64)
        model = distinct.setdefault(prediction.tobytes(), len(distinct))
        if model == len(predictions):
            predictions.append(prediction)
        scored[cell.variant].model[split, cell.seed] = model
    group, counts = samples.group(split)[:, labelled], samples.systems(split)
    function = _balanced_accuracy if spec.classes else _r2
    scores = function(truth[labelled], predictions, group, counts)  # [distinct, R + 1]
    for cell in own:
        models = scored[cell.variant]
        models.scores[split, cell.seed] = scores[models.model[split, cell.seed]]


def _r2(
    truth: np.ndarray, predictions: Sequence[np.ndarray], group: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """1 - sum w e^2 / (sum w y^2 - (sum w y)^2 / sum w), NaN where all labels are equal.

    Args:
        truth: [n] labels, none missing.
        predictions: K of [n].
        group: [m, n] which material belongs to which system.
        counts: [R, m] multiplicities w of the systems.

    Returns:
        [K, R].
    """
    truth = truth.astype(np.float64)
    # Unlike the mean, the median of equal labels is exactly the label.
    y = truth - np.median(truth) if truth.size else truth
    errors = [(truth - prediction) ** 2 for prediction in predictions]
    columns = np.stack([np.ones_like(y), y, y * y, *errors])  # [3 + K, n]
    weight, first, second, *squares = (columns @ group.T) @ counts.T  # [R] each
    with np.errstate(divide="ignore", invalid="ignore"):
        total = second - first**2 / weight
        total[~(total > EQUAL_LABELS * second)] = np.nan
        return 1 - np.stack(squares) / total


def _balanced_accuracy(
    truth: np.ndarray, predictions: Sequence[np.ndarray], group: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Mean recall over the classes present, NaN with fewer than two; arguments as `_r2`.

    Args:
        predictions: K of [n, classes].
    """
    classes = np.unique(truth)
    member = (truth == classes[:, None]).astype(np.float64)  # [C, n]
    labels = (member @ group.T) @ counts.T  # [C, R]
    present = (labels > 0).sum(0)  # [R]
    scores = []
    for prediction in predictions:
        correct = member * (np.argmax(prediction, axis=1) == truth)
        hits = (correct @ group.T) @ counts.T  # [C, R]
        recall = np.divide(hits, labels, out=np.zeros_like(hits), where=labels > 0)
        scores.append(np.where(present > 1, recall.sum(0) / np.maximum(present, 1), np.nan))
    return np.stack(scores)


def _combine(members: Sequence[_Scored], pairs: Pairs, samples: _Draws) -> np.ndarray:
    """[members, R + 1] mean over splits of the mean over seeds.

    A split in which the score of the data is undefined is left out.
    """
    levels = []
    for scored in members:
        means = []
        for split, seeds in pairs.items():
            if seeds and np.isfinite(scored.scores[split, seeds[0]][0]):
                values = np.stack([scored.scores[split, s] for s in seeds])  # [seeds, R + 1]
                means.append(np.sum(samples.seeds(split, seeds) * values, axis=0))
        nothing = np.full(samples.systems(next(iter(pairs))).shape[0], np.nan)
        levels.append(np.mean(means, axis=0) if means else nothing)
    return np.stack(levels)


def _pair(
    scored: Mapping[str, _Scored],
    left: Sequence[str],
    right: Sequence[str],
    pairs: Pairs,
    samples: _Draws,
) -> _Paired:
    """Difference of two sides, exactly 0 where all predictions are identical."""
    sides = [[scored[v] for v in side] for side in (left, right)]
    a, b = (_combine(side, pairs, samples) for side in sides)  # [members, R + 1]
    base = b[0]
    difference = np.sum(samples.members(left) * (a - base), axis=0)
    difference -= np.sum(samples.members(right) * (b - base), axis=0)
    difference = np.round(difference, TIE)
    cells, identical = {}, set()
    for key in ((split, s) for split, seeds in pairs.items() for s in seeds):
        values = [np.array([scored.scores[key][0] for scored in side]) for side in sides]
        base = values[1][0]
        if np.isfinite(base):
            gap = np.mean(values[0] - base) - np.mean(values[1] - base)
            cells[key] = float(np.round(gap, TIE))
            if len({scored.model[key] for side in sides for scored in side}) == 1:
                identical.add(key)
    return _Paired(difference, cells, frozenset(identical))


# ---- rows --------------------------------------------------------------------------------------


def _interval(values: np.ndarray) -> dict[str, Any]:
    """Value, percentile interval, standard error and number of undefined replicates of [R + 1].

    No interval where more than half of the replicates are undefined.
    """
    replicates = values[1:]
    defined = replicates[np.isfinite(replicates)]
    result = dict.fromkeys(("value", "low", "high", "se"))
    result["undefined"] = int(replicates.size - defined.size)
    if np.isfinite(values[0]):
        result["value"] = float(values[0])
        if defined.size > max(1, replicates.size / 2):
            tail = (1 - LEVEL) / 2
            low, high = 2 * values[0] - np.quantile(defined, [1 - tail, tail])
            result |= {"low": float(low), "high": float(high), "se": float(defined.std(ddof=1))}
    return result


def _bounded(row: dict[str, Any]) -> dict[str, Any]:
    """No score is above 1."""
    return row if row["high"] is None else row | {"high": min(row["high"], 1.0)}


def _p_value(values: np.ndarray) -> float:
    """Two-sided, by inverting the interval of [R + 1] values."""
    replicates = values[1:][np.isfinite(values[1:])]
    reflected = 2 * values[0] - replicates
    # The data count as one replicate (Davison & Hinkley 1997), so p is never 0.
    tails = [np.sum(reflected <= 0) + 1, np.sum(reflected >= 0) + 1]
    return float(min(1.0, 2 * min(tails) / (replicates.size + 1)))


def _averages(
    specs: Sequence[TargetSpec], values: Mapping[str, np.ndarray]
) -> Iterable[tuple[str, list[str]]]:
    """Name of each average and the targets it is over: those of regression that have a score."""
    own = [s for s in specs if s.kind == "regression" and np.isfinite(values[s.name][0])]
    if own:
        yield AVERAGE, [spec.name for spec in own]
    without = [spec.name for spec in own if spec.identity is None]
    if without and len(without) < len(own):
        yield AVERAGE_WITHOUT_IDENTITIES, without


def _scores(name: str, specs: Sequence[TargetSpec], values: Mapping[str, np.ndarray]):
    for spec in specs:
        row = _bounded(_interval(values[spec.name]))
        yield Score(name, spec.name, METRICS[spec.kind], num_targets=1, **row)
    for average, names in _averages(specs, values):
        row = _bounded(_interval(np.mean([values[n] for n in names], axis=0)))
        yield Score(name, average, METRICS["regression"], num_targets=len(names), **row)


def _difference(target: str, metric: str, parts: Sequence[_Paired]) -> Difference:
    """Difference on a target, or the mean over several."""
    values = np.mean([part.difference for part in parts], axis=0)
    keys = dict.fromkeys(key for part in parts for key in part.cells)
    cells = [np.mean([part.cells[key] for part in parts if key in part.cells]) for key in keys]
    identical = sum(
        all(key in part.identical for part in parts if key in part.cells) for key in keys
    )
    row = _interval(values)
    p = None
    if row["se"] is not None and identical < len(keys):
        p = _p_value(values)
    return Difference(
        target=target, metric=metric, p=p, p_adjusted=None,
        ahead=int(np.sum(np.array(cells) > 0)), behind=int(np.sum(np.array(cells) < 0)),
        ties=int(np.sum(np.array(cells) == 0)), identical=identical,
        detectable=None if p is None else DETECTABLE * row["se"], num_targets=len(parts), **row,
    )


def _contrast(
    variant: str,
    reference: str,
    specs: Sequence[TargetSpec],
    paired: Mapping[str, _Paired],
    has: Mapping[str, Sequence[TargetSpec]],
) -> Contrast:
    rows = [_difference(spec.name, METRICS[spec.kind], [paired[spec.name]]) for spec in specs]
    tested = [k for k, row in enumerate(rows) if row.p is not None]
    if tested:
        adjusted = stats.false_discovery_control([rows[k].p for k in tested])
        for k, p in zip(tested, adjusted, strict=True):
            rows[k] = dataclasses.replace(rows[k], p_adjusted=float(p))
    differences = {name: pair.difference for name, pair in paired.items()}
    averages = tuple(
        _difference(average, METRICS["regression"], [paired[name] for name in names])
        for average, names in _averages(specs, differences)
    )
    verdicts = [row.verdict for row in rows]
    return Contrast(
        variant=variant, reference=reference, rows=(*rows, *averages),
        wins=verdicts.count("win"), losses=verdicts.count("loss"),
        undecided=verdicts.count("undecided"), same=verdicts.count("same model"),
        better=sum((row.value or 0) > 0 for row in rows),
        worse=sum((row.value or 0) < 0 for row in rows),
        significant=sum(row.p_adjusted is not None and row.p_adjusted <= 0.05 for row in rows),
        not_compared=tuple(
            spec.name
            for spec in dict.fromkeys([*has[reference], *has[variant]])
            if spec.name not in paired
        ),
    )


def _cost(variant: str, cells: Sequence[CellResult]) -> Cost:
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


def _size(
    split: str,
    samples: _Draws,
    specs: Sequence[TargetSpec],
    labels: Mapping[tuple[str, str], np.ndarray],
) -> SplitSize:
    counts = {
        spec.name: int(np.sum(_labelled(spec, labels[split, spec.name])))
        for spec in specs
        if (split, spec.name) in labels
    }
    systems, materials = samples.group(split).shape
    return SplitSize(split, materials, systems, counts)


def _notes(
    splits: Sequence[str],
    seeds: Sequence[int],
    samples: _Draws,
    specs: Sequence[TargetSpec],
    labels: Mapping[tuple[str, str], np.ndarray],
) -> tuple[str, ...]:
    notes = []
    if len(seeds) == 1:
        notes.append(
            "There is one seed: the intervals do not contain the variation between trainings."
        )
    if samples.num_strata < len(splits):
        notes.append(
            "Some splits have chemical systems in common; these are drawn together for all splits."
        )
    for spec in specs:
        values = {split: labels.get((split, spec.name)) for split in splits}
        poor = [
            split
            for split, truth in values.items()
            if truth is not None and len(np.unique(truth[_labelled(spec, truth)])) < 2
        ]
        if poor:
            notes.append(
                f"{spec.label} has fewer than two different labels in {', '.join(poor)}: no score "
                "there, the others count."
            )
    return tuple(notes)
