import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model.losses import LossConfig, example_losses, total_loss
from densityjax.targets import get_specs

SPECS = get_specs(["bulk_modulus", "is_metal", "volume"])
MSE = LossConfig("mse", 1.0, (1.0, 2.0, 0.5), "fixed")
CLASS_WEIGHTS = {"is_metal": jnp.array([0.5, 3.0])}
OUTPUTS = {
    "bulk_modulus": jnp.array([[0.5], [-2.0], [4.0]]),
    "is_metal": jnp.array([[0.2, 1.0], [3.0, -1.0], [0.0, 0.5]]),
    "volume": jnp.array([[1.0], [1.5], [-1.0]]),
}
LABELS = np.array([[0.0, 1.0, 1.25], [1.0, 0.0, 1.0], [np.nan, np.nan, -4.0]], np.float32)
MASK = np.isfinite(LABELS).astype(np.float32)


def cross_entropy(logits, label):
    return np.log(np.exp(logits).sum()) - logits[label]


def expected(regression):
    def error(difference):
        if regression == "mse":
            return difference**2
        size = abs(difference)
        return np.where(size < 0.7, size**2 / 2, 0.7 * (size - 0.35))

    logits = np.asarray(OUTPUTS["is_metal"])
    classes = [3.0 * cross_entropy(logits[0], 1), 0.5 * cross_entropy(logits[1], 0), 0.0]
    moduli = [error(0.5), error(-3.0), 0.0]
    return np.stack([moduli, classes, [error(-0.25), error(0.5), error(3.0)]], axis=1)


@pytest.mark.parametrize("regression", ["mse", "huber"])
def test_losses_by_their_formulas(regression):
    config = dataclasses.replace(MSE, regression=regression, huber_delta=0.7)
    losses = example_losses(OUTPUTS, LABELS, MASK, CLASS_WEIGHTS, SPECS, config)
    np.testing.assert_allclose(losses, expected(regression), rtol=1e-5)


@pytest.mark.parametrize("regression", ["mse", "huber"])
def test_missing_labels_reach_neither_loss_nor_gradient(regression):
    config = dataclasses.replace(MSE, regression=regression)

    def loss(outputs, labels):
        return example_losses(outputs, labels, MASK, CLASS_WEIGHTS, SPECS, config).sum()

    gradient = jax.grad(loss)(OUTPUTS, LABELS)
    other = jax.grad(loss)(OUTPUTS, np.where(MASK > 0, LABELS, 1.0))
    for name, leaf in gradient.items():
        assert np.isfinite(leaf).all()
        np.testing.assert_array_equal(leaf, other[name])
        assert (np.asarray(leaf[2]) == 0).all() == (name != "volume")


def test_fixed_weights():
    means, present = jnp.array([2.0, 1.0, 4.0]), jnp.array([1.0, 1.0, 1.0])
    loss = total_loss(means, jnp.array([9.0, 9.0, 9.0]), present, SPECS, MSE)
    assert loss == pytest.approx((2.0 + 2 * 1.0 + 0.5 * 4.0) / 3.5)


def test_uncertainty_weights():
    """Kendall et al., eq. 7 and 10, in terms of the standard deviation."""
    config = dataclasses.replace(MSE, weighting="uncertainty")
    means, sigma = np.array([2.0, 1.0, 4.0]), np.array([0.5, 2.0, 3.0])
    terms = means * [0.5, 1, 0.5] / sigma**2 + np.log(sigma)
    loss, gradient = jax.value_and_grad(total_loss, argnums=1)(
        jnp.asarray(means), jnp.asarray(2 * np.log(sigma)), jnp.ones(3), SPECS, config
    )
    assert loss == pytest.approx(np.dot(terms, [1, 2, 0.5]) / 3.5, rel=1e-5)
    assert (np.asarray(gradient) != 0).all()
    absent = jax.grad(total_loss, argnums=1)(
        jnp.array([2.0, 0.0, 4.0]), jnp.asarray(2 * np.log(sigma)), jnp.array([1.0, 0, 1]),
        SPECS, config,
    )
    np.testing.assert_allclose(absent, np.asarray(gradient) * [1, 0, 1], rtol=1e-6)
