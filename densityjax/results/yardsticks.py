"""What is reached with features and no network: the yardsticks that a model has to beat.

- 'composition': the Magpie features, volume per atom and mass density;
- 'invariants': the density invariants;
- 'density': these, and the structure of the elements that the density tells (see
  `features.identification`);
- 'both': composition and invariants;
- 'all': structure, which is composition and bonds, and invariants.

Each is the mean of three learners: Gaussian processes with a Laplacian and with an RBF kernel
(`gaussian_process`; blocks are joined by sums and products of kernels), and extra-trees (Geurts,
Ernst and Wehenkel, Mach. Learn. 63, 3, 2006). Everything, standardisation and settings included,
comes from the training rows alone.

Regression learns labels as `TargetSpec` says, extensive ones made intensive, transformed, and
takes the mean there. Classes: the processes learn the indicator of each class (least-squares
classification, Rasmussen and Williams 2006, section 6.5), clipped to [0, 1] and normalised.

Bounds, for 100,000 rows and more: settings are chosen on at most 600 rows of a target, processes
fitted on at most 4,000, trees on at most 4,000, drawn at random with the seed. `facts` says how
many it were. Time and memory of fitting are bounded by these, those of prediction grow with its
rows.

What several targets and yardsticks have in common is computed once: distances between the same
rows, the settings of a block alone, and all of a yardstick whose blocks are, of the training rows,
those of another one ('identified' is 'structure' there).
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from densityjax.features.standardiser import Standardiser
from densityjax.results import gaussian_process as gp
from densityjax.results.learners import LEARNERS, Learners, fit_trees
from densityjax.results.metrics import Metrics, metrics_of
from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec, from_intensive, labelled, to_intensive

YARDSTICKS: dict[str, tuple[str, ...]] = {
    "composition": ("composition",),
    "invariants": ("invariants",),
    "density": ("identified", "invariants"),
    "both": ("composition", "invariants"),
    "all": ("structure", "invariants"),
}
SELECTION_ROWS, KERNEL_ROWS, TREE_ROWS = 600, 4000, 4000
_CHUNK = 1024  # rows predicted at a time


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """A fitted yardstick.

    Attributes:
        specs: the targets.
        scalers: {block: standardiser of its features}.
        blocks: {block: [n, F] float32 standardised features of all rows that processes need}.
        learners: {target: its learners}.
        names: of the learners, `LEARNERS` or, without trees, `gaussian_process.KINDS`.
    """

    specs: tuple[TargetSpec, ...]
    scalers: Mapping[str, Standardiser]
    blocks: gp.Blocks
    learners: Mapping[str, Learners]
    names: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """{target: rows fitted on, settings chosen}, JSON-safe."""
        return {name: learners.facts for name, learners in self.learners.items()}

    def predict(
        self, features: Mapping[str, np.ndarray], num_electrons: np.ndarray, volume: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        """Predictions of m materials, by every learner and by their mean.

        Args:
            features: {block: [m, F]}, of the blocks that it was fitted on; others are not read.
            num_electrons: [m] valence electrons per cell.
            volume: [m] Å^3 per cell.

        Returns:
            {learner of `LEARNERS` or 'mean': {target: [m] in the target's unit, or class
            probabilities [m, K]}}; the mean is taken of the labels as trained. Trees that were not
            kept are left out.
        """
        blocks = {name: _standardised(scaler, features[name])
                  for name, scaler in self.scalers.items()}
        starts = range(0, max(len(num_electrons), 1), _CHUNK)
        chunks = [
            self._as_trained({name: b[start : start + _CHUNK] for name, b in blocks.items()})
            for start in starts
        ]
        found: dict[str, dict[str, np.ndarray]] = {}
        for spec in self.specs:
            for name in chunks[0][spec.name]:
                values = np.concatenate([chunk[spec.name][name] for chunk in chunks])
                if spec.kind == "regression":
                    values = from_intensive(spec, values[:, 0], num_electrons, volume)
                found.setdefault(name, {})[spec.name] = values
        return found

    def _as_trained(self, blocks: gp.Blocks) -> dict[str, dict[str, np.ndarray]]:
        """{target: {learner or 'mean': [m, C] as trained}} of standardised features."""
        apart = {
            kind: {name: gp.distances(kind, b, self.blocks[name]) for name, b in blocks.items()}
            for kind in gp.KINDS
        }
        joined = np.concatenate(list(blocks.values()), axis=1)
        found = {}
        for spec in self.specs:
            own = self.learners[spec.name]
            parts = own.predict(apart, joined, spec.kind == "classification")
            if not own.processes:
                parts = dict.fromkeys(self.names, np.tile(own.constant, (len(joined), 1)))
            if self.names == LEARNERS:
                parts["mean"] = np.mean(list(parts.values()), axis=0)
            found[spec.name] = parts
        return found

    def metrics(
        self, features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
        num_electrons: np.ndarray, volume: np.ndarray,
    ) -> dict[str, Metrics]:
        """`target_metrics` of the predictions of materials with labels {target: [m]}."""
        found = self.predict(features, num_electrons, volume)["mean"]
        return metrics_of(self.specs, labels, found)


def fit(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
    specs: Sequence[TargetSpec], num_electrons: np.ndarray, volume: np.ndarray, seed: int = 0,
    trees: bool = True,
) -> Yardstick:
    """A yardstick of all blocks that are given; see `fit_all`."""
    return _fit_combinations(
        features, labels, specs, num_electrons, volume, seed, {"": tuple(features)},
        ("",) if trees else (),
    )[""]


def fit_all(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
    specs: Sequence[TargetSpec], num_electrons: np.ndarray, volume: np.ndarray, seed: int = 0,
    names: Sequence[str] = tuple(YARDSTICKS), trees: Sequence[str] = tuple(YARDSTICKS),
) -> dict[str, Yardstick]:
    """Fits yardsticks on training rows, those whose blocks are among the features.

    Args:
        features: {block: [n, F]}; NaN = not determined, which counts as the mean.
        labels: {target: [n]} in the target's unit, NaN (classes: -1) = missing.
        specs: the targets.
        num_electrons: [n] valence electrons per cell.
        volume: [n] Å^3 per cell.
        seed: of the sub-samples and the trees.
        names: of `YARDSTICKS`.
        trees: names of those that get trees, too, which take four fifths of the time; without them
          there is no mean of the three learners.

    Raises:
        UserError: a target has no label in the training rows.
        ValueError: as `to_intensive`.
    """
    combinations = {
        name: YARDSTICKS[name] for name in names if set(YARDSTICKS[name]) <= set(features)
    }
    return _fit_combinations(
        features, labels, specs, num_electrons, volume, seed, combinations, trees
    )


def _fit_combinations(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
    specs: Sequence[TargetSpec], num_electrons: np.ndarray, volume: np.ndarray, seed: int,
    combinations: Mapping[str, tuple[str, ...]], trees: Sequence[str],
) -> dict[str, Yardstick]:
    """A yardstick for each combination of blocks."""
    first = _first_equals(features, sorted(set(itertools.chain(*combinations.values()))))
    unlike: dict[tuple[str, ...], bool] = {}  # and whether any of them gets trees
    for name, names in combinations.items():
        same = tuple(first[block] for block in names)
        unlike[same] = unlike.get(same, False) or name in trees
    scalers = {name: Standardiser.fit(features[name]) for name in set(first.values())}
    blocks = {name: _standardised(scaler, features[name]) for name, scaler in scalers.items()}
    groups: dict[bytes, list[TargetSpec]] = {}
    rows, trained = {}, {}
    for spec in specs:
        values = np.asarray(labels[spec.name])
        rows[spec.name] = np.flatnonzero(labelled(spec, values))
        if not len(rows[spec.name]):
            raise UserError(
                f"target '{spec.name}' has no label in the training rows; leave it out of "
                "config.targets or train on more splits"
            )
        trained[spec.name] = _as_trained(spec, values, rows[spec.name], num_electrons, volume)
        groups.setdefault(rows[spec.name].tobytes(), []).append(spec)
    priority = np.random.default_rng(seed).permutation(len(num_electrons))
    learners: dict[tuple[str, ...], dict[str, Learners]] = {names: {} for names in unlike}
    # Matrices this small gain nothing from threads, which wait for each other on a busy machine: 2
    # took 20 times as long as 1 beside other work.
    with threadpool_limits(1, user_api="blas"):
        for group in groups.values():
            found = _fit_group(
                blocks, group, rows[group[0].name], trained, priority, unlike, seed
            )
            for names, own in found.items():
                learners[names] |= own
    return {
        name: _yardstick(names, first, specs, scalers, blocks, learners, name in trees)
        for name, names in combinations.items()
    }


def _first_equals(
    features: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, str]:
    """{block: the first block with the same numbers}."""
    first: dict[str, str] = {}
    for name in names:
        same = (
            other for other in dict.fromkeys(first.values())
            if np.array_equal(features[name], features[other], equal_nan=True)
        )
        first[name] = next(same, name)
    return first


def _yardstick(
    names: tuple[str, ...], first: Mapping[str, str], specs: Sequence[TargetSpec],
    scalers: Mapping[str, Standardiser], blocks: gp.Blocks,
    learners: Mapping[tuple[str, ...], Mapping[str, Learners]], trees: bool,
) -> Yardstick:
    """The yardstick of blocks, from what was fitted to the first ones that are equal to them."""
    fitted = learners[tuple(first[name] for name in names)]
    needed = np.unique(np.concatenate([own.rows for own in fitted.values()]))
    called = {first[name]: name for name in names}
    return Yardstick(
        tuple(specs),
        {name: scalers[first[name]] for name in names},
        {name: blocks[first[name]][needed] for name in names},
        {
            spec.name: dataclasses.replace(
                fitted[spec.name],
                rows=np.searchsorted(needed, fitted[spec.name].rows),
                processes=tuple(_renamed(p, called) for p in fitted[spec.name].processes),
                trees=fitted[spec.name].trees if trees else None,
            )
            for spec in specs
        },
        LEARNERS if trees else gp.KINDS,
    )


def _renamed(process: gp.GaussianProcess, called: Mapping[str, str]) -> gp.GaussianProcess:
    """A process whose blocks have other names."""
    scales = {called[name]: value for name, value in process.settings.scales.items()}
    shares = {called[name]: value for name, value in process.settings.shares.items()}
    settings = dataclasses.replace(process.settings, scales=scales, shares=shares)
    return dataclasses.replace(process, settings=settings)


def _standardised(scaler: Standardiser, features: np.ndarray) -> np.ndarray:
    """Standardised features in float32, rounded so that a file keeps them as float16."""
    # Row by row in memory, whatever the features were: else distances take twice the time.
    return scaler(features).astype(np.float16).astype(np.float32, order="C")


def _as_trained(
    spec: TargetSpec, values: np.ndarray, rows: np.ndarray, num_electrons: np.ndarray,
    volume: np.ndarray,
) -> np.ndarray:
    """Labels of the labelled rows as learned: [rows, 1] intensive, or indicators [rows, K]."""
    if spec.kind == "classification":
        return np.eye(len(spec.classes))[values[rows].astype(int)]
    per_cell = np.asarray(num_electrons, np.float64)[rows], np.asarray(volume, np.float64)[rows]
    return to_intensive(spec, values[rows].astype(np.float64), *per_cell)[:, None]


def _subset(rows: np.ndarray, limit: int, priority: np.ndarray) -> np.ndarray:
    """Places of at most `limit` rows, ascending: those that come first in the order of priority."""
    if len(rows) <= limit:
        return np.arange(len(rows))
    return np.sort(np.argsort(priority[rows])[:limit])


def _fit_group(
    blocks: gp.Blocks, specs: Sequence[TargetSpec], rows: np.ndarray,
    trained: Mapping[str, np.ndarray], priority: np.ndarray,
    combinations: Mapping[tuple[str, ...], bool], seed: int,
) -> dict[tuple[str, ...], dict[str, Learners]]:
    """Learners of each combination of blocks, for targets that have labels in the same rows.

    Args:
        combinations: {blocks: whether to grow trees}.
    """
    kernel = _subset(rows, KERNEL_ROWS, priority)  # places in `rows`
    chosen = _subset(rows[kernel], SELECTION_ROWS, priority)  # places in `kernel`
    differing = [s for s in specs if len(rows) > 1 and np.ptp(trained[s.name], axis=0).any()]
    part = {name: values[rows[kernel]] for name, values in blocks.items()}
    labels = [trained[spec.name][kernel] for spec in differing]
    processes: dict[tuple[str, ...], list[list]] = {n: [[] for _ in labels] for n in combinations}
    for kind in gp.KINDS if differing else ():
        apart = {name: gp.distances(kind, b, b).astype(np.float32) for name, b in part.items()}
        settings = gp.choose(
            {name: values[np.ix_(chosen, chosen)] for name, values in apart.items()}, kind,
            [values[chosen] for values in labels], combinations,
        )
        for names in combinations:
            own = {name: apart[name] for name in names}
            for found, setting, values in zip(processes[names], settings[names], labels):
                found.append(gp.fit_process(kind, setting, own, values))
    tree = _subset(rows, TREE_ROWS, priority)
    facts = {
        "rows": len(rows), "selection_rows": len(chosen), "kernel_rows": len(kernel),
        "tree_rows": len(tree),
    }
    learners: dict[tuple[str, ...], dict[str, Learners]] = {}
    for names, grown in combinations.items():
        joined = np.concatenate([blocks[name][rows[tree]] for name in names], axis=1)
        learners[names] = {
            spec.name: Learners(  # one label, or all the same
                (), None, np.zeros(0, int), trained[spec.name].mean(axis=0), {"rows": len(rows)}
            )
            for spec in specs
        }
        for spec, found in zip(differing, processes[names]):
            own = {process.kind: dataclasses.asdict(process.settings) for process in found}
            values = trained[spec.name]
            forest = fit_trees(spec, joined, values[tree], seed) if grown else None
            learners[names][spec.name] = Learners(
                tuple(found), forest, rows[kernel], values.mean(axis=0), facts | {"settings": own}
            )
    return learners
