"""The density that models see: as it is stored, or with no more of a core than its charge.

Codes agree on the density between atoms and on the valence electrons of each atom; within the core
radius of a pseudopotential or PAW data set (Bloechl, PRB 50, 17953, 1994) each has a pseudo density
of its own. The choice 'charge' leaves what they agree on: about each atom a share w of the density
rho is cut out, and the electrons that it held are put back in a fixed shape g,

    seen = rho (1 - sum_a w_a) + sum_a q_a g_a,  q_a = sum w_a rho / sum g_a,

w = 1 up to 0.6 R and falls to 0 at R as a quintic smoothstep, g = (1 - (r / R)^2)^3, R = 1.1 Å for
every element, so that species are not read. Where spheres overlap, the w share the density. Each
code's charge in a sphere outside its core radius is the same (norm conservation, or compensation
charges), so q_a is, too. Other choices and radii were tried in docs/results/core.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

Core = Literal["all", "charge"]
CHOICES: tuple[Core, ...] = ("all", "charge")
NEEDS = ("density", "lattice", "positions")  # what of a record `seen_record` reads

VERSION = 1  # of what 'charge' makes; features that were computed from it are keyed by it
RADIUS = 1.1  # Å
_INNER = 0.6  # of the radius, within which nothing of the shape remains
# Voxels about an atom, above which a cell is too thin or skewed for matter, and stays as it is.
_MOST_VOXELS = 5_000_000


def seen_record(record: Mapping[str, Any], core: Core) -> Mapping[str, Any]:
    """A record as models see it; itself with 'all'.

    Args:
        record: with density, lattice and positions, see `density.record.make_record`.

    Raises:
        ValueError: an unknown choice.
    """
    if core not in CHOICES:
        raise ValueError(f"core {core!r}; expected one of {CHOICES}")
    if core == "all":
        return record
    return {**record, "density": charges_alone(*(record[name] for name in NEEDS))}


def charges_alone(
    density: np.ndarray, lattice: np.ndarray, positions: np.ndarray, radius: float = RADIUS
) -> np.ndarray:
    """A density that shows of each core its charge alone, and likewise its magnetic moment.

    Linear in the density. The sum over the grid, so the number of electrons, stays.

    Args:
        density: [X, Y, Z, C] e/Å^3, and μB/Å^3.
        lattice: [3, 3] Å, rows are the cell vectors.
        positions: [N, 3] fractional.
        radius: Å.

    Returns:
        float32 [X, Y, Z, C].
    """
    fields = density.reshape(-1, density.shape[-1]).astype(np.float64)  # [voxels, C]
    lattice, size, count = np.asarray(lattice, np.float64), len(fields), len(positions)
    positions = np.asarray(positions, np.float64) % 1.0
    # Of all spheres together: voxels, the atoms that they are near to, distances, [n] each.
    voxels, atoms, away = voxels_near(density.shape[:3], lattice, positions, radius)
    window = core_window(away, radius)
    total = np.bincount(voxels, window, size)  # of a small cell a voxel may be there twice
    shared = np.maximum(total, 1)
    seen = fields * (1 - total / shared)[:, None]
    inside = 1 - np.square(away / radius)
    shape = inside * inside * inside  # [n], 1 at the nucleus, 0 at the radius
    sums = np.maximum(np.bincount(atoms, shape, count), 1e-9)  # [N]
    taken = window / shared[voxels]
    for channel in range(fields.shape[1]):
        charge = np.bincount(atoms, taken * fields[voxels, channel], count)  # [N] over voxels
        seen[:, channel] += np.bincount(voxels, shape * (charge / sums)[atoms], size)
    return seen.reshape(density.shape).astype(np.float32)


def core_window(away: np.ndarray, radius: float) -> np.ndarray:
    """What is taken as core at distances Å: 1 up to 0.6 of the radius, 0 from the radius on.

    Between, a quintic smoothstep, with two continuous derivatives.
    """
    place = np.clip((away / radius - _INNER) / (1 - _INNER), 0, 1)
    # Products: powers take ten times as long.
    return 1 - place * place * place * (10 - place * (15 - 6 * place))


def voxels_near(
    shape: tuple[int, ...], lattice: np.ndarray, positions: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels nearer than `radius` Å to atoms at fractional [N, 3], images each by itself.

    Returns:
        (flat indices [n] into a grid of the shape, the atoms [n] that they are near to, distances
        [n] Å), atom after atom.
    """
    sizes = np.array(shape)
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # [3] Å, between faces
    reach = np.ceil(radius / heights * sizes) + 1  # [3] voxels
    if not np.prod(2 * reach + 1) <= _MOST_VOXELS:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    metric = lattice @ lattice.T  # Å^2
    found = [
        _sphere(sizes, metric, position, reach.astype(int), radius) for position in positions
    ]
    atoms = np.repeat(np.arange(len(found)), [len(voxels) for voxels, _ in found])
    if not found:
        return np.zeros(0, int), atoms, np.zeros(0)
    voxels, squares = (np.concatenate(part) for part in zip(*found, strict=True))
    return voxels, atoms, np.sqrt(squares)


def _sphere(
    sizes: np.ndarray, metric: np.ndarray, position: np.ndarray, reach: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels near one atom, flat indices [n] and squared distances [n] Å^2."""
    steps = [
        np.arange(round(p * n) - r, round(p * n) + r + 1)
        for p, n, r in zip(position.tolist(), sizes.tolist(), reach.tolist(), strict=True)
    ]
    x, y, z = (own / n - p for own, n, p in zip(steps, sizes, position, strict=True))
    # The quadratic form of the metric, as a sum of what depends on two axes at most.
    plane = (
        (metric[0, 0] * x * x)[:, None] + metric[1, 1] * y * y
        + 2 * metric[0, 1] * np.multiply.outer(x, y)
    )
    tilt = 2 * np.add.outer(metric[0, 2] * x, metric[1, 2] * y)
    square = (
        np.multiply.outer(tilt, z) + plane[:, :, None] + metric[2, 2] * z * z
    ).ravel()  # [x * y * z] Å^2
    near = np.flatnonzero(square < radius**2)
    x, y, z = (own % n for own, n in zip(steps, sizes, strict=True))
    flat = (np.add.outer(x * sizes[1], y)[:, :, None] * sizes[2] + z).ravel()
    return flat[near], np.maximum(square[near], 0)
