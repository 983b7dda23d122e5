"""What the model sees of a stored density: the view, drawn at random in training.

Predictions must not depend on the choice of origin, orientation or axis labels, so training draws
them at random and evaluation averages a fixed set.
"""

import dataclasses
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from densityjax.model.fixed_views import VIEW_SEED, fixed_views

# The 48 operations of the cube on grid axes: old axis j runs along new axis _AXES[op, j], with
# direction _SIGNS[op, j].
_PERMUTATIONS = list(itertools.permutations(range(3)))
_AXES = np.repeat(_PERMUTATIONS, 8, axis=0)  # [48, 3]
_SIGNS = np.tile(list(itertools.product((1, -1), repeat=3)), (6, 1))  # [48, 3]
IDENTITY_OPERATION = 0


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """Static description of a view.

    Attributes:
        kind: 'fractional', the unit cell's own grid; or 'cartesian', a cube of fixed edge.
        size: voxels along an edge of the cube (cartesian; fractional takes the stored grid's).
        spacing: Å between voxels of the cube (cartesian).
        roll: random origin.
        cube_operations: random axis relabelling and mirror images in training (fractional).
        rotate: random rotation, mirror images included (cartesian).
        flip_spin: random sign of the magnetisation.
    """

    kind: Literal["fractional", "cartesian"]
    size: int
    spacing: float
    roll: bool
    cube_operations: bool
    rotate: bool
    flip_spin: bool


def training_view(
    config: ViewConfig, density: jax.Array, lattice: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One random view of one material.

    Args:
        density: [G, G, G, C] e/Å^3 (and μB/Å^3).
        lattice: [3, 3] Å.
        key: random key of this material at this step.

    Returns:
        (field [S, S, S, C] in the same units, the lattice in the view's axes [3, 3] Å).
    """
    origin_key, turn_key, spin_key = jax.random.split(key, 3)
    if config.flip_spin and density.shape[-1] == 2:
        sign = jax.random.rademacher(spin_key, (), density.dtype)
        density = density * jnp.stack([jnp.ones_like(sign), sign])
    if config.kind == "fractional":
        grid = density.shape[0]
        shift = jax.random.randint(origin_key, (3,), 0, grid if config.roll else 1)
        operation = jax.random.randint(turn_key, (), 0, 48 if config.cube_operations else 1)
        return transform_grid(density, lattice, operation, shift)
    origin = jax.random.uniform(origin_key, (3,)) if config.roll else jnp.zeros(3)
    rotation = random_rotation(turn_key) if config.rotate else jnp.eye(3)
    return sample_cube(density, lattice, origin, rotation, config.size, config.spacing), lattice


def evaluation_view(
    config: ViewConfig, density: jax.Array, lattice: jax.Array, view: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """View number `view` of the fixed set, the same for every material; see `training_view`.

    Cartesian views end with number `fixed_views.MAX_VIEWS` - 1.

    Fractional: rolls, number 0 being the stored origin. Cartesian: origins and rotations, where
    training has them. The sign of a magnetisation is arbitrary, so odd views reverse it.
    """
    if config.flip_spin and density.shape[-1] == 2:
        sign = (1 - 2 * (view % 2)).astype(density.dtype)
        density = density * jnp.stack([jnp.ones_like(sign), sign])
    if config.kind == "fractional":
        origin_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(VIEW_SEED), view))
        shift = jax.random.randint(origin_key, (3,), 0, density.shape[0])
        return transform_grid(density, lattice, IDENTITY_OPERATION, shift * (view > 0))
    origins, rotations = fixed_views()  # constants of the program
    origin = jnp.asarray(origins)[view] if config.roll else jnp.zeros(3)
    rotation = jnp.asarray(rotations)[view] if config.rotate else jnp.eye(3)
    return sample_cube(density, lattice, origin, rotation, config.size, config.spacing), lattice


def transform_grid(
    density: jax.Array, lattice: jax.Array, operation: jax.Array | int, shift: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Moves the origin by `shift` voxels and relabels the axes, of grid and lattice together.

    Args:
        density: [G, G, G, C].
        lattice: [3, 3] Å.
        operation: 0 to 47, 0 being the identity.
        shift: [3] voxels.
    """
    grid = density.shape[0]
    axes, signs = jnp.asarray(_AXES)[operation], jnp.asarray(_SIGNS)[operation]  # [3], [3]
    steps = jnp.arange(grid)
    # Index along each old axis, as a function of the index along the new axis that it follows.
    old = jnp.mod(signs[:, None] * steps + shift[:, None], grid)  # [3, G]
    weight = jnp.asarray([grid * grid, grid, 1])
    flat = jnp.zeros((grid, grid, grid), steps.dtype)
    for axis in range(3):
        along = (old * weight[:, None] * (axes == axis)[:, None]).sum(0)  # [G]
        flat = flat + jnp.expand_dims(along, [a for a in range(3) if a != axis])
    values = density.reshape(grid**3, -1)[flat]  # [G, G, G, C]
    rows = jnp.zeros_like(lattice).at[axes].set(lattice * signs[:, None].astype(lattice.dtype))
    return values, rows


def sample_cube(
    density: jax.Array,
    lattice: jax.Array,
    origin: jax.Array,
    rotation: jax.Array,
    size: int,
    spacing: float,
) -> jax.Array:
    """Samples a periodic density on a cube of fixed spacing, trilinearly.

    Args:
        density: [G, G, G, C].
        lattice: [3, 3] Å.
        origin: [3] fractional coordinates of the cube's centre.
        rotation: [3, 3] orthogonal, rows are the cube's axes in the crystal's Cartesian frame.
        size: voxels along an edge.
        spacing: Å between voxels.

    Returns:
        [size, size, size, C] in the units of `density`.
    """
    grid = density.shape[0]
    steps = (jnp.arange(size) - (size - 1) / 2) * spacing  # [S] Å
    # Fractional step along the cell per Å along each edge of the cube.
    to_grid = rotation @ jnp.linalg.inv(lattice) * grid  # [3, 3] voxels / Å
    x, y, z = (steps[:, None] * to_grid[axis] for axis in range(3))  # each [S, 3]
    position = origin * grid + x[:, None, None] + y[:, None] + z  # [S, S, S, 3] voxels
    low = jnp.floor(position)
    part = position - low  # [S, S, S, 3]
    low = jnp.mod(low.astype(jnp.int32), grid)
    high = jnp.where(low + 1 == grid, 0, low + 1)
    values = density.reshape(grid**3, -1)
    total = jnp.zeros((size, size, size, density.shape[-1]), density.dtype)
    for corner in itertools.product((0, 1), repeat=3):
        i, j, k = ((high if up else low)[..., axis] for axis, up in enumerate(corner))
        weights = [part[..., a] if up else 1 - part[..., a] for a, up in enumerate(corner)]
        index = (i * grid + j) * grid + k
        total = total + (weights[0] * weights[1] * weights[2])[..., None] * values[index]
    return total


def random_rotation(key: jax.Array) -> jax.Array:
    """Uniform draw from the rotations and mirror images of space, O(3): [3, 3].

    QR of a Gaussian matrix with the signs of R's diagonal moved into Q (Mezzadri,
    arXiv math-ph/0609050), by Gram-Schmidt, which runs on every backend under vmap.
    """
    a, b, c = jax.random.normal(key, (3, 3))
    a = a / jnp.linalg.norm(a)
    b = b - a * (a @ b)
    b = b / jnp.linalg.norm(b)
    last = jnp.cross(a, b)
    return jnp.stack([a, b, last * jnp.sign(last @ c)])
