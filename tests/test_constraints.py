"""Formulas of isotropic elasticity by another route, and constraints that targets cannot keep."""

import numpy as np
import pytest

from densityjax.constraints import (
    check_constraints,
    derived_targets,
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
