"""Which voxels belong to which atom."""

import itertools

import numpy as np
from ase.geometry import minkowski_reduce
from scipy.spatial import cKDTree

# Å; between atoms at a distance R the boundary is SOFTNESS^2 / R wide, 0.1 Å for 2.5 Å.
SOFTNESS = 0.5
_NEIGHBOURS = 32  # images of atoms that may share a voxel: twelve do, in octahedral holes six


def atom_weights(lattice: np.ndarray, positions: np.ndarray, grid: int) -> np.ndarray:
    """Share of each atom in each voxel: the nearest atom's cell, with soft faces.

    An image of an atom at distance d has the weight exp(-d^2 / (2 SOFTNESS^2)), divided by the sum
    of all: a Voronoi cell whose faces are rounded, so that voxels that are as near to several atoms
    are split evenly. No radii enter, which would have to be chosen for ions or for atoms.

    Args:
        lattice: [3, 3] Å.
        positions: [N, 3] fractional.
        grid: voxels along each axis, G.

    Returns:
        [N, G, G, G], the sum over atoms is 1.
    """
    reduced, basis = minkowski_reduce(np.asarray(lattice, np.float64))
    to_reduced = np.linalg.inv(basis)  # row vectors of fractional coordinates
    steps = np.arange(grid) / grid
    voxels = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    voxels = (voxels @ to_reduced) % 1.0 @ reduced  # [G^3, 3] Å
    inside = (np.asarray(positions, np.float64) @ to_reduced) % 1.0  # [N, 3]
    shifts = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3)))  # [125, 3]
    images = ((inside[None] + shifts[:, None]) @ reduced).reshape(-1, 3)  # [125 N, 3] Å
    atoms = np.tile(np.arange(len(inside)), len(shifts))
    distance, found = cKDTree(images).query(voxels, k=min(_NEIGHBOURS, len(images)))
    nearness = np.square(distance[:, :1]) - np.square(distance)  # [G^3, k] Å^2, 0 of the nearest
    share = np.exp(nearness / (2 * SOFTNESS**2))
    share /= share.sum(1, keepdims=True)
    weights = np.zeros((len(voxels), len(inside)))
    np.add.at(weights, (np.arange(len(voxels))[:, None], atoms[found]), share)
    return weights.T.reshape(-1, grid, grid, grid)
