"""Losses of objectives, against the same in NumPy."""

import jax
import numpy as np

from densityjax.model.losses import LossConfig
from densityjax.model.objectives import Objectives, corrupted, objective_losses

MSE = LossConfig("mse", 1.0, (1.0,), "fixed")


def test_each_objective_has_its_own_voxels_and_numbers():
    names = ("masked", "denoising", "nearest_element", "deformation", "invariants")
    objectives = Objectives(names, decoder=None, hidden=0.5, block=2, noise=0.3)
    rng = np.random.default_rng(0)
    field, output = rng.normal(size=(2, 4, 4, 4, 2)), rng.normal(size=(2, 4, 4, 4, 6))
    voxels, view, guess = (rng.normal(size=s) for s in ((2, 4, 4, 4, 4), (2, 5), (2, 5)))
    hidden = (rng.random((2, 4, 4, 4)) < 0.3).astype(float)
    losses = jax.jit(lambda *args: objective_losses(objectives, *args, MSE))
    found = losses({"voxels": output, "view": guess}, field, hidden, voxels, view)
    for row in range(2):
        where = hidden[row] == 1
        of_field = np.square(output[row, ..., :2] - field[row])
        of_voxels = np.square(output[row, ..., 2:] - voxels[row])
        expected = [
            of_field[where].mean(), of_field[~where].mean(), of_voxels[..., :3].mean(),
            of_voxels[..., 3].mean(), np.square(guess[row] - view[row]).mean(),
        ]
        np.testing.assert_allclose(found[row], expected, rtol=1e-5)


def test_an_example_is_corrupted_by_its_own_key():
    objectives = Objectives(("masked", "denoising"), None, hidden=0.5, block=2, noise=0.3)
    field, keys = np.zeros((3, 8, 8, 8, 1), np.float32), jax.random.split(jax.random.key(0), 3)
    corrupt = jax.jit(lambda *args: corrupted(objectives, *args))
    seen, hidden = corrupt(field, keys)
    assert (hidden[0] != hidden[1]).any()
    assert not np.asarray(seen)[np.asarray(hidden) == 1].any()
    assert 0.25 < np.asarray(seen)[np.asarray(hidden) == 0].std() < 0.35
    others = keys[np.array([0, 1, 1])]
    again, _ = corrupt(field + np.array([0, 1, 0])[:, None, None, None, None], others)
    np.testing.assert_array_equal(again[2], seen[1])
