"""Constraints of the network's outputs, for outputs of any size, and what they train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from densityjax.model.constraints import above, constrain
from densityjax.targets import TARGETS, get_specs

SPECS = get_specs([
    "poisson_ratio", "bulk_modulus", "total_energy", "youngs_modulus", "band_gap", "volume",
    "shear_modulus", "is_metal", "debye_temperature", "refractive_index",
])
MEAN = np.array([0.27, 110, -4.0, 150, 0.8, 4.5, 60, 0, 330, 0.9], np.float32)
STD = np.array([0.07, 75, 1.5, 120, 1.4, 2.5, 50, 1, 170, 0.3], np.float32)
ALL = ("elastic", "gap", "positive")


def outputs_of(size: float, n: int = 200) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    return {
        spec.name: jnp.asarray(size * rng.normal(size=(n, spec.num_outputs)), jnp.float32)
        for spec in SPECS if spec.name not in ("youngs_modulus", "poisson_ratio")
    }


def in_unit(outputs) -> dict[str, np.ndarray]:
    """[n] in the target's unit, or logits."""
    return {
        spec.name: np.asarray(outputs[spec.name], np.float64)[:, 0] * std + mean
        for spec, mean, std in zip(SPECS, MEAN.astype(float), STD.astype(float))
        if spec.kind == "regression"
    }


@pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
def test_outputs_obey(size):
    free = outputs_of(size)
    found = jax.jit(constrain, static_argnums=(1, 2))(free, SPECS, ALL, MEAN, STD)
    assert set(found) == {spec.name for spec in SPECS}
    values = in_unit(found)
    bulk, shear = values["bulk_modulus"], values["shear_modulus"]
    for name in ("bulk_modulus", "shear_modulus", "volume", "debye_temperature"):
        assert (values[name] > 0).all(), name
    # In float32, about the scaler's mean; the answer is derived once more in float64.
    np.testing.assert_allclose(
        values["youngs_modulus"], 9 * bulk * shear / (3 * bulk + shear), rtol=1e-3, atol=1e-2
    )
    assert (values["poisson_ratio"] > -1 - 1e-6).all()
    assert (values["poisson_ratio"] < 0.5 + 1e-6).all()
    insulator = softmax(np.asarray(free["is_metal"], np.float64), axis=1)[:, 0]
    assert (values["band_gap"] > -1e-6).all()
    assert (values["band_gap"][insulator < 1e-9] < 1e-4).all()
    for name in ("total_energy", "refractive_index", "is_metal"):
        np.testing.assert_array_equal(found[name], free[name])


def test_what_no_constraint_speaks_of_is_left():
    specs = tuple(TARGETS[name] for name in ("total_energy", "is_stable", "fermi_energy"))
    free = {spec.name: jnp.full((3, spec.num_outputs), -5.0) for spec in specs}
    found = constrain(free, specs, (*ALL, "even_spin"), jnp.zeros(3), jnp.ones(3))
    assert all(found[name] is free[name] for name in free)


def test_far_above_zero_a_value_stays_what_it_was():
    np.testing.assert_allclose(above(jnp.asarray([50.0, 400.0]), 1e-3, 5.0), [50, 400], rtol=1e-4)
    assert float(above(jnp.asarray(-1e30), 1e-3, 5.0)) == pytest.approx(1e-3)


def test_labels_of_derived_targets_train_the_moduli():
    """The gradient of a loss on E and nu alone, against differences."""

    @jax.jit
    def loss(free):
        found = constrain(free, SPECS, ALL, MEAN, STD)
        return (found["youngs_modulus"] ** 2 + found["poisson_ratio"] ** 2).sum()

    slope, free = jax.jit(jax.grad(loss)), outputs_of(0.5, 4)
    gradient = slope(free)
    for name, values in gradient.items():
        if "modulus" not in name:
            assert not values.any()
            continue
        for row, value in enumerate(values[:, 0]):
            low, high = (
                loss(free | {name: free[name].at[row].add(step)}) for step in (-0.01, 0.01)
            )
            assert float(value) == pytest.approx(float(high - low) / 0.02, rel=0.05, abs=0.02)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope(outputs_of(1e4, 4))))
