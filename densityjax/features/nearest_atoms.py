"""Which atom of a crystal is nearest to each voxel of a cell, periodic images included."""

import numpy as np
from ase.geometry import minkowski_reduce
from scipy.spatial import cKDTree


def nearest_atoms(lattice: np.ndarray, positions: np.ndarray, grid: int) -> np.ndarray:
    """Index of the atom whose nucleus is nearest to each voxel: [G, G, G] int.

    No point is further from an image of an atom than half of the summed lengths of the shortest
    cell vectors, so all images that can be nearest lie within that distance of the cell.

    Args:
        lattice: [3, 3] Å, rows are the cell vectors.
        positions: [N, 3] fractional, one at least.
        grid: voxels along each axis, G.
    """
    lattice = np.asarray(lattice, np.float64)
    reach = 0.5 * np.linalg.norm(minkowski_reduce(lattice)[0], axis=1).sum()  # Å
    margin = reach * np.linalg.norm(np.linalg.inv(lattice), axis=0)  # [3] fractional
    ranges = [np.arange(-n, n + 1) for n in np.ceil(margin).astype(int)]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = np.asarray(positions, np.float64) % 1.0  # [N, 3]
    images = (inside[:, None] + shifts).reshape(-1, 3)  # [N shifts, 3] fractional
    atoms = np.repeat(np.arange(len(inside)), len(shifts))
    near = ((images >= -margin) & (images <= 1 + margin)).all(axis=1)
    steps = np.arange(grid) / grid
    voxels = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    _, found = cKDTree(images[near] @ lattice).query(voxels.reshape(-1, 3) @ lattice)
    return atoms[near][found].reshape((grid,) * 3)
