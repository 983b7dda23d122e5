"""Real spherical harmonics up to degree 3, as polynomials."""

import numpy as np


def real_harmonics(degree: int, directions: np.ndarray) -> np.ndarray:
    """Harmonics of unit vectors, normalised so that their squares sum to 1 (Racah's, squared).

    Args:
        degree: l, 0 to 3.
        directions: [3, ...] unit vectors; of a zero vector those of l > 0 are 0. Those of a vector
          of length r are r^l times those of its direction.

    Returns:
        [2 l + 1, ...], in the type of `directions`.
    """
    x, y, z = directions
    if degree == 0:
        return np.ones_like(x)[None]
    if degree == 1:
        return directions
    xx, yy, zz = x * x, y * y, z * z
    if degree == 2:
        root = np.sqrt(3, dtype=x.dtype)
        return np.stack([
            root * x * y, root * y * z, root * z * x, root / 2 * (xx - yy), zz - (xx + yy) / 2,
        ])
    a, b, c = (np.sqrt(n, dtype=x.dtype) for n in (5 / 8, 15, 3 / 8))
    return np.stack([
        a * y * (3 * xx - yy), a * x * (xx - 3 * yy), b * x * y * z, b / 2 * z * (xx - yy),
        c * y * (4 * zz - xx - yy), c * x * (4 * zz - xx - yy), z * (zz - 1.5 * (xx + yy)),
    ])
