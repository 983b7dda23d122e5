"""The decoder of pretraining: where its numbers go."""

import jax
import numpy as np

from densityjax.model.decoder import Decoder


def test_sub_voxels_lie_where_their_voxel_is():
    """With weights that copy: each voxel of the last scale fills the cube that it stands for."""
    decoder = Decoder(channels=2, components=3, stride=2, width=4, implementation="lax")
    scale = np.random.default_rng(0).uniform(20, 30, (1, 3, 3, 3, 4)).astype(np.float32)
    kernel = np.zeros((3, 3, 3, 4, 4), np.float32)
    kernel[1, 1, 1] = np.eye(4)
    order = np.zeros((4, 16), np.float32)
    order[0, 0::2] = order[1, 1::2] = 1  # channel 0 from feature 0, 1 from 1, in every sub-voxel
    parameters = {
        "voxels_hidden": {"kernel": kernel, "bias": np.zeros(4, np.float32)},
        "voxels_out": {"kernel": order, "bias": 100 * np.arange(8, dtype=np.float32).repeat(2)},
        "view_norm": {"scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)},
        "view_hidden": {"kernel": np.ones((8, 4), np.float32), "bias": np.zeros(4, np.float32)},
        "view_out": {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(3, np.float32)},
    }
    apply = jax.jit(decoder.apply, static_argnums=2)
    found = jax.device_get(apply({"params": parameters}, scale, 5))
    assert found["voxels"].shape == (1, 5, 5, 5, 2)
    assert found["view"].shape == (1, 3)
    x, y, z = np.indices((5, 5, 5))
    expected = scale[0, x // 2, y // 2, z // 2, :2]  # silu of so large a number is itself
    expected = expected + 100 * ((x % 2) * 4 + (y % 2) * 2 + z % 2)[..., None]
    np.testing.assert_allclose(found["voxels"][0], expected, rtol=1e-5)
