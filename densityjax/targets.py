"""The properties a model can be trained on, as a table of frozen specifications."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from densityjax.runtime.errors import ConfigError, UserError

CRYSTAL_SYSTEMS = (
    "triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic",
)


@dataclasses.dataclass(frozen=True)
class TargetSpec:
    """What a target is, in which unit, and how it is trained.

    Attributes:
        name: key of the label in records, configs and results.
        kind: 'regression' or 'classification'.
        unit: unit of the label, '' for classes and pure numbers.
        label: what a person reads in a table.
        transform: 'identity' or 'log' (natural, labels must be positive), applied after `per`.
        per: an extensive target is divided by this intensive-making quantity before training and
          multiplied by it afterwards: 'electron' (number of valence electrons) or 'volume' (Å^3).
          None marks an intensive target.
        minimum: physical lower bound of the label; predictions are clamped to it.
        classes: names of the classes, the label being their index; regression: empty.
        identity: which quantity of the input gives the target without learning, if one does:
          'volume' (det of the lattice), 'moment' (|integral of m|), 'mass_density' (masses of the
          atoms over the volume).
    """

    name: str
    kind: Literal["regression", "classification"]
    unit: str
    label: str
    transform: Literal["identity", "log"] = "identity"
    per: Literal["electron", "volume"] | None = None
    minimum: float | None = None
    classes: tuple[str, ...] = ()
    identity: Literal["volume", "moment", "mass_density"] | None = None

    @property
    def num_outputs(self) -> int:
        """Width of the head: 1, or the number of classes."""
        return len(self.classes) or 1


def _regression(name: str, unit: str, label: str, **kwargs) -> TargetSpec:
    return TargetSpec(name, "regression", unit, label, **kwargs)


def _classes(name: str, label: str, classes: tuple[str, ...]) -> TargetSpec:
    return TargetSpec(name, "classification", "", label, classes=classes)


TARGETS: dict[str, TargetSpec] = {
    spec.name: spec
    for spec in (
        _regression("bulk_modulus", "GPa", "Bulk modulus", minimum=0.0),
        _regression("shear_modulus", "GPa", "Shear modulus", minimum=0.0),
        _regression("youngs_modulus", "GPa", "Young's modulus", minimum=0.0),
        _regression("poisson_ratio", "", "Poisson ratio"),
        _regression("debye_temperature", "K", "Debye temperature", minimum=0.0),
        _regression("volume", "Å³", "Cell volume", per="electron", minimum=0.0, identity="volume"),
        _regression("density", "g/cm³", "Density", minimum=0.0, identity="mass_density"),
        _regression("total_energy", "eV", "Total energy", per="electron"),
        _regression("mp_energy_per_atom", "eV/atom", "Total energy per atom (VASP)"),
        _regression("formation_energy_per_atom", "eV/atom", "Formation energy"),
        _regression("fermi_energy", "eV", "Fermi energy"),
        _regression("band_gap", "eV", "Band gap", minimum=0.0),
        _regression("bandwidth", "eV", "Bandwidth", minimum=0.0),
        _regression(
            "magnetic_moment", "μB", "Magnetic moment", per="volume", minimum=0.0,
            identity="moment",
        ),
        # Over 1 + label its tail stays: worse in mean error and rank (docs/results/choices.md).
        _regression("elastic_anisotropy", "", "Elastic anisotropy", transform="log", minimum=0.0),
        _regression("c11", "GPa", "Elastic constant c11", minimum=0.0),
        _regression("c12", "GPa", "Elastic constant c12"),  # may be negative in a stable crystal
        _regression("c44", "GPa", "Elastic constant c44", minimum=0.0),
        _regression("refractive_index", "", "Refractive index", transform="log", minimum=1.0),
        _regression("dielectric_constant", "", "Dielectric constant", transform="log", minimum=1.0),
        _classes("is_metal", "Metal or not", ("insulator", "metal")),
        _classes("is_stable", "Dynamical stability", ("unstable", "stable")),
        _classes("crystal_system", "Crystal system", CRYSTAL_SYSTEMS),
    )
}


def get_specs(
    names: Sequence[str], known: Mapping[str, TargetSpec] = TARGETS
) -> tuple[TargetSpec, ...]:
    """Looks targets up by name.

    Args:
        known: table to look in; of a dataset with targets of its own, `dataset_targets` has it.

    Raises:
        ConfigError: a name is unknown or given twice, or there is none; names close ones.
    """
    for name in names:
        if name not in known:
            if "," in name:
                names = tuple(part.strip() for part in name.split(","))
                raise ConfigError(f'several targets are a tuple: --config.targets="{names}"')
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown target '{name}' in config.targets: {hint}")
    if len(set(names)) != len(names) or not names:
        raise ConfigError(f"config.targets must name each target once, got {list(names)}")
    return tuple(known[name] for name in names)


def specs_to_json(specs: Iterable[TargetSpec]) -> list[dict[str, Any]]:
    """Specifications as JSON has them: what a dataset's metadata and a run's targets.json hold."""
    return [dataclasses.asdict(spec) | {"classes": list(spec.classes)} for spec in specs]


def specs_from_json(content: Sequence[Mapping[str, Any]]) -> dict[str, TargetSpec]:
    """Inverse of `specs_to_json`, by name."""
    specs = (TargetSpec(**{**fields, "classes": tuple(fields["classes"])}) for fields in content)
    return {spec.name: dataclasses.replace(spec, identity=_renamed(spec)) for spec in specs}


def _renamed(spec: TargetSpec) -> Any:
    """The identity of a target; older files call that of the mass density by another name."""
    return "mass_density" if spec.identity == "mean_density" else spec.identity


def dataset_targets(builder: Any) -> Mapping[str, TargetSpec]:
    """Targets by name that a dataset knows: those that its metadata state, else `TARGETS`.

    Args:
        builder: TFDS builder of a prepared dataset.
    """
    stated = (builder.info.metadata or {}).get("targets")
    return TARGETS if stated is None else specs_from_json(stated)


def labelled(spec: TargetSpec, labels: np.ndarray) -> np.ndarray:
    """Which labels there are, [...] bool: missing is NaN, of classes a negative index."""
    return labels >= 0 if spec.kind == "classification" else np.isfinite(labels)


def to_intensive(
    spec: TargetSpec, values: np.ndarray, num_electrons: np.ndarray, volume: np.ndarray
) -> np.ndarray:
    """Label as trained, but for standardisation: per electron or Å^3 if extensive, transformed.

    Args:
        values: [...] labels in `spec.unit`, NaN = missing.
        num_electrons: [...] valence electrons per cell.
        volume: [...] Å^3 per cell.

    Raises:
        UserError: a label is not positive under a log transform.
    """
    scale = {"electron": num_electrons, "volume": volume, None: 1.0}[spec.per]
    values = values / scale
    if spec.transform == "log":
        if np.any(values <= 0):
            raise UserError(
                f"target '{spec.name}' has a log transform and labels <= 0: take the transform "
                "away, or mend the labels"
            )
        values = np.log(values)
    return values


def from_intensive(
    spec: TargetSpec, values: np.ndarray, num_electrons: np.ndarray, volume: np.ndarray
) -> np.ndarray:
    """Inverse of `to_intensive`, clamped to `spec.minimum`."""
    if spec.transform == "log":
        values = np.exp(values)
    scale = {"electron": num_electrons, "volume": volume, None: 1.0}[spec.per]
    values = values * scale
    return values if spec.minimum is None else np.maximum(values, spec.minimum)
