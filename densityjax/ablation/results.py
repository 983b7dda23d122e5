"""What an ablation is compared by: results of cells, and rows of scores, differences and costs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec

AVERAGE = "average"  # rows beside the targets: means over regression targets
AVERAGE_WITHOUT_IDENTITIES = "average without identities"
METRICS = {"regression": "R2", "classification": "balanced accuracy"}

SeedsOfSplit = dict[str, tuple[int, ...]]  # split -> the seeds that are there


class ComparisonError(UserError):
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
