"""What a run needs to say how sure it is: calibration.npz, arrays and JSON, nothing that runs.

Per target it has the scores of the calibration rows, from which the thresholds of any coverage
follow, and the fitted sigma. It belongs to the predictions that it was made from, by their hash.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from densityjax.features.reduction import Reduction
from densityjax.features.standardiser import Standardiser
from densityjax.results import conformal
from densityjax.results.forest import Forest
from densityjax.results.interval_scale import Evidence, Scale
from densityjax.results.run_directory import RunDirectory, RunDirectoryError
from densityjax.results.stack import as_trained
from densityjax.runtime.files import replaced
from densityjax.targets import TargetSpec, from_intensive

VERSION = 1
NEAREST = 3  # training materials that a distance is the mean to
_CHUNK = 2000
MAKE = "python -m densityjax.calibrate --workdir="


@dataclasses.dataclass(frozen=True)
class Reference:
    """The training materials of a run, to say how far another is.

    Attributes:
        reduction: of composition features.
        components: float32 [R, D] of the materials that any member trains on, or some of them.
        trained: bool [M, R], which of them each member trains on.
    """

    reduction: Reduction
    components: np.ndarray
    trained: np.ndarray

    def distances(self, components: np.ndarray) -> np.ndarray:
        """Mean distance to the nearest training materials of each member [M, n].

        Args:
            components: [n, D].
        """
        found = np.zeros((len(self.trained), len(components)))
        for start in range(0, len(components), _CHUNK):
            part = slice(start, start + _CHUNK)
            apart = cdist(components[part], self.components)
            for member, own in enumerate(self.trained):
                nearest = np.sort(apart[:, own], axis=1)[:, :NEAREST]
                found[member, part] = nearest.mean(axis=1)
        return found


@dataclasses.dataclass(frozen=True)
class RegressionCalibration:
    """Of a regression target.

    Attributes:
        scale: its sigma.
        asymmetric: see `conformal.interval_thresholds`.
        scores: [n] (truth - prediction) / sigma of the calibration rows, as trained.
        residuals: [n] truth - prediction, as trained, of which intervals of one width are made.
        systems: int [n] chemical systems.
        beyond: [m] scores of materials with an element that was left out; none if that was not
          done.
        elements: int [m] these elements, each of which counts as one.
        exact: the file gives the target, whatever its elements are.
    """

    scale: Scale
    asymmetric: bool
    scores: np.ndarray
    residuals: np.ndarray
    systems: np.ndarray
    beyond: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    elements: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    exact: bool = False

    @property
    def num_systems(self) -> int:
        """Chemical systems that it was calibrated on."""
        return len(np.unique(self.systems))

    def thresholds(self, coverage: float) -> conformal.Thresholds:
        """In sigma."""
        weights = conformal.system_weights(self.systems)
        return conformal.interval_thresholds(self.scores, weights, coverage, self.asymmetric)

    def thresholds_beyond(self, coverage: float) -> conformal.Thresholds:
        """Those of materials with new elements, no lower than the others; inf: not supported."""
        found = self.thresholds(coverage)
        if self.exact:
            return found
        weights = conformal.system_weights(self.elements)
        limit = conformal.threshold(np.abs(self.beyond), weights, coverage)
        return conformal.Thresholds(max(found.lower, limit), max(found.upper, limit))


@dataclasses.dataclass(frozen=True)
class ClassCalibration:
    """Of a target with classes.

    Attributes:
        kind: of `conformal.CLASS_SCORES`.
        probabilities: [n, K] of the calibration rows.
        labels: int [n].
        systems: int [n] chemical systems.
    """

    kind: str
    probabilities: np.ndarray
    labels: np.ndarray
    systems: np.ndarray

    @property
    def num_systems(self) -> int:
        """Chemical systems that it was calibrated on."""
        return len(np.unique(self.systems))

    def sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Bool [m, K], the classes in the set of each material."""
        thresholds = conformal.class_thresholds(
            conformal.class_scores(self.kind, self.probabilities), self.labels, self.systems,
            coverage,
        )
        scores = conformal.class_scores(self.kind, probabilities)
        return conformal.prediction_sets(scores, thresholds, probabilities)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How to put intervals to the predictions of a run.

    Attributes:
        source: which predictions it was made from, for people.
        of: hash of these, see `hash_of`.
        reference: the training materials.
        targets: {target: its calibration}; without those that have no label to calibrate on.
        facts: what was chosen and measured, JSON-safe.
        elements: int [Z] atomic numbers that any member was trained on.
    """

    source: str
    of: str
    reference: Reference
    targets: Mapping[str, RegressionCalibration | ClassCalibration]
    facts: dict[str, Any]
    elements: np.ndarray

    def check_coverages(self, coverages: Sequence[float]) -> None:
        """Raises UserError for a coverage that the calibration of a target does not support."""
        for coverage in coverages:
            for name, own in self.targets.items():
                conformal.check_coverage(coverage, own.num_systems, f"'{name}'")

    def interval(
        self, spec: TargetSpec, evidence: Evidence, coverage: float, beyond: bool = False,
        sigma: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) [n] of a regression target, in its unit and within its bounds.

        Args:
            beyond: the materials hold elements that were not trained on; ends that the elements
              left out do not support are infinite, or the target's minimum.
            sigma: [n] of the evidence, where it is known.
        """
        own = self.targets[spec.name]
        limits = own.thresholds_beyond(coverage) if beyond else own.thresholds(coverage)
        sigma = own.scale(spec.name, evidence) if sigma is None else sigma
        return _ends(spec, evidence, limits, sigma)

    def constant_interval(
        self, spec: TargetSpec, evidence: Evidence, coverage: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `interval`, of one width for all materials (as trained): the yardstick of widths."""
        own = self.targets[spec.name]
        weights = conformal.system_weights(own.systems)
        limits = conformal.interval_thresholds(own.residuals, weights, coverage, False)
        return _ends(spec, evidence, limits, np.ones(len(evidence.cells)))

    def save(self, path: Path) -> None:
        """Replaces the archive in one step."""
        scaler = self.reference.reduction.scaler
        arrays = {
            "scaler/kept": scaler.kept, "scaler/mean": scaler.mean, "scaler/std": scaler.std,
            "reduction": self.reference.reduction.components.astype(np.float16),
            "components": self.reference.components, "trained": self.reference.trained,
            "elements": self.elements,
        }
        settings: dict[str, Any] = {}
        for name, own in self.targets.items():
            arrays[f"{name}/systems"] = own.systems
            if isinstance(own, ClassCalibration):
                arrays |= {f"{name}/probabilities": own.probabilities, f"{name}/labels": own.labels}
                settings[name] = {"classes": own.kind}
                continue
            arrays |= {f"{name}/scores": own.scores, f"{name}/residuals": own.residuals}
            arrays |= {f"{name}/beyond": own.beyond, f"{name}/elements": own.elements}
            settings[name] = {
                "scale": own.scale.kind, "offset": own.scale.offset, "reach": own.scale.reach,
                "near": own.scale.near, "asymmetric": own.asymmetric, "exact": own.exact,
            }
            if own.scale.forest is not None:
                arrays |= {f"{name}/forest/{k}": v for k, v in own.scale.forest.arrays().items()}
        content = {
            "version": VERSION, "source": self.source, "of": self.of, "targets": settings,
            "facts": self.facts,
        }
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, settings=np.array(json.dumps(content)), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Reads what `save` wrote; `read_calibration` says what is wrong with a damaged one."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        content = json.loads(str(arrays["settings"]))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, not {VERSION}")
        scaler = Standardiser(*(arrays[f"scaler/{key}"] for key in ("kept", "mean", "std")))
        reference = Reference(
            Reduction(scaler, arrays["reduction"].astype(np.float32)), arrays["components"],
            arrays["trained"],
        )
        targets = {
            name: _target(name, own, arrays) for name, own in content["targets"].items()
        }
        return cls(
            content["source"], content["of"], reference, targets, content["facts"],
            arrays["elements"],
        )


def _ends(
    spec: TargetSpec, evidence: Evidence, limits: conformal.Thresholds, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    cells = evidence.cells
    centre = as_trained(spec, evidence.values[spec.name], cells)
    return tuple(
        from_intensive(spec, end, cells.num_electrons, cells.volume)
        for end in (centre - limits.lower * sigma, centre + limits.upper * sigma)
    )


def _target(
    name: str, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> RegressionCalibration | ClassCalibration:
    systems = arrays[f"{name}/systems"]
    if "classes" in settings:
        return ClassCalibration(
            settings["classes"], arrays[f"{name}/probabilities"], arrays[f"{name}/labels"], systems
        )
    forest, prefix = None, f"{name}/forest/"
    if settings["scale"] == "trees":
        own = {key.removeprefix(prefix): v for key, v in arrays.items() if key.startswith(prefix)}
        forest = Forest.from_arrays(own)
    scale = Scale(
        settings["scale"], settings["offset"], forest, settings["reach"], settings["near"]
    )
    return RegressionCalibration(
        scale, settings["asymmetric"], arrays[f"{name}/scores"], arrays[f"{name}/residuals"],
        systems, arrays[f"{name}/beyond"], arrays[f"{name}/elements"], settings["exact"],
    )


def hash_of(run: RunDirectory) -> str:
    """What the calibration of a run belongs to: its targets and out-of-fold predictions."""
    found = hashlib.sha256()
    for path in (run.targets, run.predictions("validation")):
        found.update(path.read_bytes())
    return found.hexdigest()


def read_calibration(run: RunDirectory) -> Calibration | None:
    """The calibration of a run, None if it has none.

    Raises:
        RunDirectoryError: it is damaged, or of other predictions than the run has now.
    """
    if not run.calibration.exists():
        return None
    again = f"{MAKE}{run.path} makes it anew"
    try:
        found = run.load(run.calibration, Calibration.load)
    except RunDirectoryError as error:
        raise RunDirectoryError(f"{error}, or {again}") from error
    if run.manifest.exists():
        return found  # exported: the hashes of all files have been compared
    if found.of != hash_of(run):
        raise RunDirectoryError(
            f"{run.calibration} was made from other predictions than {run.path} has: {again}"
        )
    return found
