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

Bounds, for 100,000 rows and more: settings are chosen on at most 1,000 rows of a target,
processes fitted on at most 4,000, trees on at most 4,000, drawn at random with the seed. `facts`
says how many it were. Time and memory of fitting are bounded by these, those of prediction grow
with its rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from densityjax.features.standardiser import Standardiser
from densityjax.results import gaussian_process as gp
from densityjax.results.metrics import Metrics, target_metrics
from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec, from_intensive, to_intensive

YARDSTICKS: dict[str, tuple[str, ...]] = {
    "composition": ("composition",),
    "invariants": ("invariants",),
    "density": ("invariants", "identified"),
    "both": ("composition", "invariants"),
    "all": ("structure", "invariants"),
}
SELECTION_ROWS, KERNEL_ROWS, TREE_ROWS = 1000, 4000, 4000
LEARNERS = (*gp.KINDS, "trees")
TREES, TREE_FEATURES = 100, 0.3


@dataclasses.dataclass(frozen=True)
class Learners:
    """The three learners of one target, or a constant where there is nothing to learn.

    Attributes:
        processes: none if the labels are all the same.
        trees: scikit-learn's forest; None likewise, and where it was not kept.
        rows: [k] of the training rows, those that the processes were fitted on.
        constant: [C] mean of the training labels as trained.
        facts: rows that each part was fitted on, and what leave-one-out chose.
    """

    processes: tuple[gp.GaussianProcess, ...]
    trees: Any
    rows: np.ndarray
    constant: np.ndarray
    facts: dict[str, Any]

    def predict(self, blocks: gp.Blocks, classes: bool) -> dict[str, np.ndarray]:
        """{learner: [m, C] labels as trained, or class probabilities} of standardised features."""
        rows = len(next(iter(blocks.values())))
        if not self.processes:
            return dict.fromkeys(LEARNERS, np.tile(self.constant, (rows, 1)))
        found = {process.kind: process.predict(blocks) for process in self.processes}
        if self.trees is None:
            return {k: _probabilities(v) for k, v in found.items()} if classes else found
        joined = np.concatenate(list(blocks.values()), axis=1)
        if not classes:
            return found | {"trees": self.trees.predict(joined)[:, None]}
        found = {kind: _probabilities(values) for kind, values in found.items()}
        forest = np.zeros((rows, len(self.constant)))
        forest[:, self.trees.classes_] = self.trees.predict_proba(joined)
        return found | {"trees": forest}


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """A fitted yardstick.

    Attributes:
        specs: the targets.
        scalers: {block: standardiser of its features}.
        blocks: {block: [n, F] float32 standardised features of the training rows}.
        learners: {target: its learners}.
    """

    specs: tuple[TargetSpec, ...]
    scalers: Mapping[str, Standardiser]
    blocks: gp.Blocks
    learners: Mapping[str, Learners]

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
        blocks = {name: scaler(features[name]) for name, scaler in self.scalers.items()}
        found: dict[str, dict[str, np.ndarray]] = {}
        for spec in self.specs:
            parts = self.learners[spec.name].predict(blocks, spec.kind == "classification")
            if set(parts) == set(LEARNERS):
                parts["mean"] = np.mean(list(parts.values()), axis=0)
            for name, values in parts.items():
                if spec.kind == "regression":
                    values = from_intensive(spec, values[:, 0], num_electrons, volume)
                found.setdefault(name, {})[spec.name] = values
        return found

    def metrics(
        self, features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
        num_electrons: np.ndarray, volume: np.ndarray,
    ) -> dict[str, Metrics]:
        """`target_metrics` of the predictions of materials with labels {target: [m]}."""
        found = self.predict(features, num_electrons, volume)["mean"]
        return {s.name: target_metrics(s, labels[s.name], found[s.name]) for s in self.specs}


def fit(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
    specs: Sequence[TargetSpec], num_electrons: np.ndarray, volume: np.ndarray, seed: int = 0,
    trees: bool = True,
) -> Yardstick:
    """Fits a yardstick on training rows.

    Args:
        features: {block: [n, F]}; NaN = not determined, which counts as the mean.
        labels: {target: [n]} in the target's unit, NaN (classes: -1) = missing.
        specs: the targets.
        num_electrons: [n] valence electrons per cell.
        volume: [n] Å^3 per cell.
        seed: of the sub-samples and the trees.
        trees: fit them, too; without them there is no mean of the three learners.

    Raises:
        UserError: a target has no label in the training rows.
        ValueError: as `to_intensive`.
    """
    scalers = {name: Standardiser.fit(values) for name, values in features.items()}
    blocks = {name: scalers[name](values) for name, values in features.items()}
    rows, trained = {}, {}
    for spec in specs:
        values = np.asarray(labels[spec.name])
        labelled = values >= 0 if spec.kind == "classification" else np.isfinite(values)
        rows[spec.name] = np.flatnonzero(labelled)
        if not len(rows[spec.name]):
            raise UserError(
                f"target '{spec.name}' has no label in the training rows; leave it out of "
                "config.targets or train on more splits"
            )
        trained[spec.name] = _as_trained(spec, values, rows[spec.name], num_electrons, volume)
    # Matrices this small gain nothing from threads, which wait for each other on a busy machine: 2
    # took 20 times as long as 1 beside other work.
    with threadpool_limits(1, user_api="blas"):
        settings = _choose(blocks, specs, rows, trained, seed)
        learners = {
            spec.name: _fit_target(
                spec, blocks, rows[spec.name], trained[spec.name], settings.get(spec.name), seed,
                trees,
            )
            for spec in specs
        }
    return Yardstick(tuple(specs), scalers, blocks, learners)


def fit_all(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray],
    specs: Sequence[TargetSpec], num_electrons: np.ndarray, volume: np.ndarray, seed: int = 0,
) -> dict[str, Yardstick]:
    """The yardsticks whose blocks are among the features; see `fit`."""
    return {
        name: fit({b: features[b] for b in blocks}, labels, specs, num_electrons, volume, seed)
        for name, blocks in YARDSTICKS.items() if set(blocks) <= set(features)
    }


def _as_trained(
    spec: TargetSpec, values: np.ndarray, rows: np.ndarray, num_electrons: np.ndarray,
    volume: np.ndarray,
) -> np.ndarray:
    """Labels of the labelled rows as learned: [rows, 1] intensive, or indicators [rows, K]."""
    if spec.kind == "classification":
        return np.eye(len(spec.classes))[values[rows].astype(int)]
    per_cell = np.asarray(num_electrons, np.float64)[rows], np.asarray(volume, np.float64)[rows]
    return to_intensive(spec, values[rows].astype(np.float64), *per_cell)[:, None]


def _subset(count: int, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of `count` rows, ascending."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def _choose(
    blocks: gp.Blocks, specs: Sequence[TargetSpec], rows: Mapping[str, np.ndarray],
    trained: Mapping[str, np.ndarray], seed: int,
) -> dict[str, dict[str, gp.Settings]]:
    """{target: {kind: settings}} of the targets with labels that differ.

    Targets that have labels in the same rows share the work on their kernels.
    """
    groups: dict[bytes, list[str]] = {}
    for spec in specs:
        if np.ptp(trained[spec.name], axis=0).any():
            groups.setdefault(rows[spec.name].tobytes(), []).append(spec.name)
    chosen: dict[str, dict[str, gp.Settings]] = {}
    for names in groups.values():
        kept = _subset(len(rows[names[0]]), SELECTION_ROWS, seed)
        part = {block: values[rows[names[0]][kept]] for block, values in blocks.items()}
        for kind in gp.KINDS:
            found = gp.choose(kind, part, [trained[name][kept] for name in names])
            for name, settings in zip(names, found, strict=True):
                chosen.setdefault(name, {})[kind] = settings
    return chosen


def _fit_target(
    spec: TargetSpec, blocks: gp.Blocks, rows: np.ndarray, trained: np.ndarray,
    settings: Mapping[str, gp.Settings] | None, seed: int, trees: bool,
) -> Learners:
    facts: dict[str, Any] = {"rows": len(rows)}
    if settings is None:  # one label, or all the same
        return Learners((), None, np.zeros(0, int), trained.mean(axis=0), facts)
    kernel_rows = _subset(len(rows), KERNEL_ROWS, seed)
    part = {name: values[rows[kernel_rows]] for name, values in blocks.items()}
    processes = tuple(
        gp.fit_process(kind, chosen, part, trained[kernel_rows])
        for kind, chosen in settings.items()
    )
    tree_rows = _subset(len(rows), TREE_ROWS, seed)
    joined = np.concatenate([values[rows[tree_rows]] for values in blocks.values()], axis=1)
    facts |= {
        "selection_rows": min(len(rows), SELECTION_ROWS),
        "kernel_rows": len(kernel_rows),
        "tree_rows": len(tree_rows),
        "settings": {kind: dataclasses.asdict(chosen) for kind, chosen in settings.items()},
    }
    forest = _fit_trees(spec, joined, trained[tree_rows], seed) if trees else None
    fitted = rows[kernel_rows]
    return Learners(processes, forest, fitted, trained.mean(axis=0), facts)


def _fit_trees(spec: TargetSpec, features: np.ndarray, trained: np.ndarray, seed: int) -> Any:
    # Takes a second to import, which training does not wait for.
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    arguments = {
        "n_estimators": TREES, "max_features": TREE_FEATURES, "random_state": seed, "n_jobs": -1,
    }
    if spec.kind == "classification":
        return ExtraTreesClassifier(**arguments).fit(features, trained.argmax(axis=1))
    return ExtraTreesRegressor(**arguments).fit(features, trained[:, 0])


def _probabilities(indicators: np.ndarray) -> np.ndarray:
    """Class probabilities [m, K] of what the processes say of the indicators."""
    clipped = np.clip(indicators, 1e-6, 1)
    return clipped / clipped.sum(axis=1, keepdims=True)
