"""Physics that predictions must obey: what `config.model.constraints` may name, and the formulas.

elastic: bulk and shear modulus K, G > 0; Young's modulus E = 9KG / (3K + G) and Poisson ratio
  nu = (3K - 2G) / (2 (3K + G)) are computed from them, so that -1 < nu < 0.5 (isotropic
  elasticity; Landau and Lifshitz, Theory of Elasticity, section 5).
gap: the band gap is the probability of an insulator times a positive number; materials that are
  said to be metals have a gap of 0, others one above 0.
positive: lengths, volumes, mass densities and temperatures (the Debye temperature) are above 0.
even_spin: the sign of the magnetisation changes no prediction.

`model.constraints` imposes them on what the network puts out, so that training sees them, and
`results.constraints` on what is answered, after all averages. A constraint changes only the targets
that it speaks of, and of a run without any of these nothing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from densityjax.runtime.errors import ConfigError
from densityjax.targets import TargetSpec

CONSTRAINTS = ("elastic", "gap", "positive", "even_spin")

BULK, SHEAR, YOUNG, POISSON = "bulk_modulus", "shear_modulus", "youngs_modulus", "poisson_ratio"
MODULI, DERIVED = (BULK, SHEAR), (YOUNG, POISSON)
DEBYE = "debye_temperature"
GAP, METAL, INSULATOR_CLASS = "band_gap", "is_metal", "insulator"
# What "above 0" means, in the unit of the target: GPa, eV, Å, Å^3, g/cm^3 or K.
FLOOR = 1e-3
_POSITIVE_UNITS = ("Å", "Å³", "g/cm³", "K")


def check_constraints(constraints: Sequence[str], targets: Sequence[str]) -> None:
    """Refuses targets whose constraint needs others that are not trained with them.

    Args:
        targets: names of those that one network predicts.

    Raises:
        ConfigError: names the constraint, the targets and the remedy.
    """
    needs = {"elastic": (DERIVED, MODULI, "computed from"), "gap": ((GAP,), (METAL,), "gated by")}
    for name, (what, others, how) in needs.items():
        bound = [target for target in what if target in targets]
        missing = [target for target in others if target not in targets]
        if name in constraints and bound and missing:
            raise ConfigError(
                f"config.model.constraints has '{name}', by which {' and '.join(bound)} would be "
                f"{how} {' and '.join(missing)}, not in config.targets ({', '.join(targets)}): "
                "add these (of config.groups, to the same group), or take the constraint out"
            )


def derived_targets(constraints: Sequence[str], targets: Sequence[str]) -> tuple[str, ...]:
    """Those of the targets that are computed from others, and need no head."""
    return tuple(t for t in targets if t in DERIVED) if "elastic" in constraints else ()


def is_positive(spec: TargetSpec, constraints: Sequence[str]) -> bool:
    """Whether a target has to be above 0, as its unit or its name says."""
    if spec.kind != "regression":
        return False
    by_unit = "positive" in constraints and spec.unit in _POSITIVE_UNITS
    return by_unit or ("elastic" in constraints and spec.name in MODULI)


def youngs_modulus(bulk: Any, shear: Any) -> Any:
    """Young's modulus of an isotropic solid, in the unit of the moduli.

    Args:
        bulk, shear: arrays of NumPy or JAX, above 0. The ratio first: products would overflow.
    """
    return 9 * shear * (bulk / (3 * bulk + shear))


def poisson_ratio(bulk: Any, shear: Any) -> Any:
    """Poisson ratio of an isotropic solid, see `youngs_modulus`."""
    return (3 * bulk - 2 * shear) / (2 * (3 * bulk + shear))


@dataclasses.dataclass(frozen=True)
class Relation:
    """Targets that are bound by a formula: of any `rank` of them the others follow.

    Attributes:
        targets: names.
        rank: how many are free.
        why: the formula, in words.
        known: where it goes one way, those that the others follow from; else empty.
    """

    targets: tuple[str, ...]
    rank: int
    why: str
    known: tuple[str, ...] = ()


# Not among them: the square of the refractive index is the electronic part of the dielectric
# constant, a lower bound that leaves the part of the ions open.
RELATIONS = (
    # Anderson, J. Phys. Chem. Solids 24, 909 (1963); the density is in the input.
    Relation(
        (BULK, SHEAR, YOUNG, POISSON, DEBYE), 2, "isotropic elasticity and its speeds of sound"
    ),
    Relation((BULK, "c11", "c12"), 2, "K = (c11 + 2 c12) / 3 of a cubic crystal"),
    Relation((DEBYE, "c11", "c12", "c44"), 3, "speeds of sound of a cubic crystal"),
    # Ranganathan and Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504 (2008).
    Relation(("elastic_anisotropy", "c11", "c12", "c44"), 3, "anisotropy of a cubic crystal"),
    Relation((GAP, METAL), 1, "metals have no gap", known=(GAP,)),
)
# Gradients by (K, C' = (c11 - c12) / 2, c44) of a cubic crystal: what lies in the span of others
# follows from them. That of G is Voigt's mean; E, nu and the Debye temperature are mixtures of K
# and G, and the anisotropy depends on c44 / C', by factors that change no span.
_CUBIC = {
    BULK: (1, 0, 0), "c11": (3, 4, 0), "c12": (3, -2, 0), "c44": (0, 0, 1), SHEAR: (0, 2, 3),
    YOUNG: (1, 2, 3), POISSON: (1, -2, -3), DEBYE: (1, 4, 6), "elastic_anisotropy": (0, -1, 1),
}


def determining(target: str, others: Sequence[str]) -> dict[str, str]:
    """Those of `others` that give a target away: itself, and those from which it follows.

    Of a relation whose other targets suffice all are named, though a part of them would do. From
    the targets that are not named the target does not follow, of a cubic crystal neither.

    Returns:
        {name: why}, in the order of `others`.
    """
    found = {target: "the same target"}
    for relation in RELATIONS:
        known = relation.known or relation.targets
        members = [name for name in others if name in known and name != target]
        if target in relation.targets and len(members) >= relation.rank:
            found |= {name: relation.why for name in members if name not in found}
    left = [name for name in others if name in _CUBIC and name not in found]
    if target in _CUBIC and _rank(left) == _rank([*left, target]):
        found |= {name: "elasticity of a cubic crystal" for name in left}
    return {name: found[name] for name in others if name in found}


def _rank(names: Sequence[str]) -> int:
    """How many of some elastic quantities of a cubic crystal are independent."""
    return int(np.linalg.matrix_rank([_CUBIC[name] for name in names])) if names else 0
