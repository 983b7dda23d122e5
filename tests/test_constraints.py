"""Formulas of isotropic elasticity by another route, and constraints that targets cannot keep."""

import itertools

import numpy as np
import pytest

from densityjax.constraints import (
    check_constraints,
    derived_targets,
    determining,
    is_positive,
    poisson_ratio,
    youngs_modulus,
)
from densityjax.runtime.errors import ConfigError
from densityjax.targets import TARGETS

ALL = ("elastic", "gap", "positive", "even_spin")


def test_moduli_of_an_isotropic_stiffness_matrix():
    """Stretched along x with free sides: the inverse of the 6 x 6 stiffness says what happens."""
    for bulk, shear in ((76.0, 26.0), (160.0, 80.0), (443.0, 535.0), (1.2, 30.0)):
        stiffness = np.diag([2.0, 2, 2, 1, 1, 1]) * shear
        stiffness[:3, :3] += bulk - 2 * shear / 3
        compliance = np.linalg.inv(stiffness)
        np.testing.assert_allclose(youngs_modulus(bulk, shear), 1 / compliance[0, 0], rtol=1e-12)
        np.testing.assert_allclose(
            poisson_ratio(bulk, shear), -compliance[0, 1] / compliance[0, 0], rtol=1e-9, atol=1e-12
        )


def test_what_must_be_above_zero():
    def names(*constraints):
        return {name for name, spec in TARGETS.items() if is_positive(spec, constraints)}

    assert names("positive") == {"volume", "density", "debye_temperature"}
    assert names("elastic") == {"bulk_modulus", "shear_modulus"}
    assert names("gap", "even_spin") == names() == set()


def test_targets_without_those_that_they_are_computed_from():
    check_constraints(ALL, list(TARGETS))
    check_constraints(ALL, ["total_energy"])  # speaks of none of these: harmless
    check_constraints(ALL, ["bulk_modulus", "is_metal"])
    check_constraints((), ["youngs_modulus", "band_gap"])
    with pytest.raises(ConfigError, match=r"poisson_ratio would be computed from shear_modulus"):
        check_constraints(ALL, ["poisson_ratio", "bulk_modulus"])
    with pytest.raises(ConfigError, match=r"'gap', by which band_gap would be gated by is_metal"):
        check_constraints(ALL, ["band_gap", "bulk_modulus"])
    assert derived_targets(ALL, list(TARGETS)) == ("youngs_modulus", "poisson_ratio")
    assert derived_targets(("gap",), list(TARGETS)) == ()


def test_what_gives_a_target_away():
    for target, others in (
        ("shear_modulus", ["c11", "c12", "c44"]),
        ("youngs_modulus", ["c44", "c12", "c11"]),
        ("c44", ["shear_modulus", "c11", "c12"]),
        ("c44", ["shear_modulus", "elastic_anisotropy"]),
        ("elastic_anisotropy", ["bulk_modulus", "youngs_modulus", "c44"]),
        ("bulk_modulus", ["youngs_modulus", "debye_temperature"]),
        ("is_metal", ["band_gap"]),
    ):
        assert list(determining(target, others)) == others
    for target, others in (
        ("c44", ["bulk_modulus", "c11", "c12"]),  # which are two numbers, not three
        ("c44", ["bulk_modulus", "youngs_modulus", "debye_temperature"]),
        ("band_gap", ["is_metal"]),
        ("refractive_index", ["dielectric_constant"]),
    ):
        assert determining(target, others) == {}


def test_directions_of_cubic_elasticity_are_those_of_its_formulas():
    """Three of them are independent where gradients of the formulas of Voigt, Reuss, Hill are."""

    def formulas(constants):
        c11, c12, c44 = constants
        bulk, half = (c11 + 2 * c12) / 3, (c11 - c12) / 2
        voigt, reuss = (2 * half + 3 * c44) / 5, 5 * half * c44 / (2 * c44 + 3 * half)
        shear = (voigt + reuss) / 2
        speeds = np.sqrt(shear), np.sqrt(bulk + 4 * shear / 3)  # times one that the density gives
        return {
            "bulk_modulus": bulk, "c11": c11, "c12": c12, "c44": c44, "shear_modulus": shear,
            "youngs_modulus": youngs_modulus(bulk, shear),
            "poisson_ratio": 100 * poisson_ratio(bulk, shear),
            "debye_temperature": 10 * (2 / speeds[0] ** 3 + 1 / speeds[1] ** 3) ** (-1 / 3),
            "elastic_anisotropy": 50 * (voigt / reuss - 1),
        }

    at, step = np.array([160.0, 60.0, 90.0]), 1e-3
    ends = [(formulas(at + step * axis), formulas(at - step * axis)) for axis in np.eye(3)]
    gradients = {
        name: np.array([(more[name] - less[name]) / (2 * step) for more, less in ends])
        for name in ends[0][0]
    }
    for target in gradients:
        for others in itertools.combinations([name for name in gradients if name != target], 3):
            own = np.array([gradients[name] for name in others])
            both = np.vstack([own, gradients[target]])
            follows = np.linalg.matrix_rank(own, 1e-5) == np.linalg.matrix_rank(both, 1e-5)
            assert bool(determining(target, others)) == follows, (target, others)
