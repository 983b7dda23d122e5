"""The sign of a magnetisation, which is arbitrary, changes nothing under `even_spin`."""

import functools

import jax
import numpy as np

from densityjax.configs import elastic_magnetic
from densityjax.step.create_task import create_task
from densityjax.step.scalers import Statistics
from densityjax.step.steps import apply_model
from densityjax.step.train_state import create_train_state
from densityjax.targets import get_specs
from tests.small_model import SMALL_MODEL

SPECS = get_specs(["bulk_modulus", "magnetic_moment", "is_metal"])
CHARGE, SPIN = np.random.default_rng(0).uniform(0, 2, (2, 2, 8, 8, 8))


@functools.cache
def network(constraints: tuple[str, ...]):
    """Outputs of two fields with random parameters and dropout, for [2, S, S, S] of each."""
    config = elastic_magnetic.get_config()
    config.update_from_flattened_dict(SMALL_MODEL)
    config.model.constraints, config.model.dropout = constraints, 0.3
    task = create_task(config, SPECS, 10)
    statistics = Statistics(
        np.array([100.0, 0.01, 0]), np.array([70.0, 0.02, 1]), np.array([-2.0, 0.3, 0]),
        np.array([1.0, 0.4, 0.1]), np.zeros(1), np.ones(1), {"is_metal": np.ones(2)},
    )
    state = create_train_state(task.model, task.tx, statistics.arrays(bool(constraints)), 0, 8)
    keys = jax.random.split(jax.random.key(1), 2)  # of dropout

    @jax.jit
    def apply(field):
        return apply_model(
            task, state.params, state.statistics, field, np.stack([4 * np.eye(3)] * 2),
            np.array([64.0, 80.0]), np.zeros((2, 0)), keys,
        )

    return lambda charge, spin: [
        np.asarray(leaf)
        for leaf in jax.tree.leaves(apply(np.stack([charge, spin], axis=-1).astype(np.float32)))
    ]


def furthest(one: list, two: list) -> float:
    assert all(a.shape == b.shape and len(a) == 2 for a, b in zip(one, two))
    return max(np.abs(a - b).max() for a, b in zip(one, two))


def test_the_sign_of_the_magnetisation_changes_nothing():
    plain, even = network(()), network(("even_spin",))
    assert furthest(even(CHARGE, SPIN), even(CHARGE, -SPIN)) < 1e-5
    assert furthest(plain(CHARGE, SPIN), plain(CHARGE, -SPIN)) > 0.05
    assert furthest(even(CHARGE, SPIN), even(CHARGE, 0 * SPIN)) > 0.05  # it is not ignored
    # An antiferromagnet is told from a ferromagnet, which |m| would not do.
    assert furthest(even(CHARGE, SPIN), even(CHARGE, SPIN * (-1) ** np.arange(8))) > 0.05


def test_no_magnetisation_is_a_zero_one():
    """Zeros are their own opposite: the plain network's answer."""
    plain, even = network(()), network(("even_spin",))
    assert furthest(plain(CHARGE, 0 * SPIN), even(CHARGE, 0 * SPIN)) < 1e-4
