"""What pretraining does to a view before a network sees it: cubic blocks hidden, noise added."""

import jax
import jax.numpy as jnp


def hidden_blocks(key: jax.Array, size: int, block: int, fraction: float) -> jax.Array:
    """Which voxels of a view are hidden: a random share of the blocks that divide it.

    Blocks lie on a fixed lattice of the view, whose origin and orientation are random themselves.
    At the far edges they are smaller where the edge does not divide by the block's.

    Args:
        size: voxels along an edge of the view, S.
        block: voxels along an edge of a block; at most half of S, rounded up.
        fraction: of the blocks that are hidden; one at least, and one at least is not.

    Returns:
        [S, S, S] float32, 1 where hidden.
    """
    count = -(-size // block)  # along an edge
    number = min(max(round(fraction * count**3), 1), count**3 - 1)
    order = jax.random.permutation(key, count**3)
    chosen = (order < number).astype(jnp.float32).reshape((count,) * 3)
    for axis in range(3):
        chosen = jnp.repeat(chosen, block, axis=axis)
    return chosen[:size, :size, :size]


def corrupt(field: jax.Array, hidden: jax.Array | None, noise: jax.Array | None) -> jax.Array:
    """A standardised view as a network gets it: hidden voxels are 0, the mean of training.

    Args:
        field: [B, S, S, S, C] in standard deviations.
        hidden: [B, S, S, S] 1 where hidden; None hides nothing.
        noise: like `field`, to add; None adds nothing.
    """
    if noise is not None:
        field = field + noise
    if hidden is not None:
        field = field * (1 - hidden[..., None])
    return field


def interpolate(field: jax.Array, hidden: jax.Array, periodic: bool, block: int) -> jax.Array:
    """Hidden voxels from those that are seen, smoothly: a solution of Laplace's equation.

    Each hidden voxel becomes the mean of its six neighbours, over and over; the edges of a view
    that is not periodic reflect. What a network has to do better than.

    Args:
        field: [B, S, S, S, C]; what is in hidden voxels is not read.
        hidden: [B, S, S, S] 1 where hidden.
        block: voxels along an edge of a hidden block, which the number of rounds grows with.
    """
    unseen = hidden[..., None]  # [B, S, S, S, 1]
    seen = field * (1 - unseen)
    mode = "wrap" if periodic else "edge"

    def round_(_, values: jax.Array) -> jax.Array:
        total = jnp.zeros_like(values)
        for axis in (1, 2, 3):
            width = [(1, 1) if a == axis else (0, 0) for a in range(values.ndim)]
            padded, size = jnp.pad(values, width, mode=mode), values.shape[axis]
            for start in (0, 2):
                total = total + jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
        return seen + unseen * total / 6

    mean = seen.sum((1, 2, 3), keepdims=True) / (1 - unseen).sum((1, 2, 3), keepdims=True)
    # In a block alone an error shrinks by cos(pi / (block + 1)) a round, to 2e-5 in so many.
    return jax.lax.fori_loop(0, 4 * block**2, round_, seen + unseen * mean)
