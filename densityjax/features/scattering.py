"""Solid-harmonic scattering of first order: structure of the density per scale and angular degree.

u_lm(r) is the density convolved with the solid harmonic |k|^l Y_lm(k) times a Gaussian, whose
transform is (sigma |k|)^l exp(-sigma^2 k^2 / 2) Y_lm; U_l = sqrt(sum_m u_lm^2) does not change
with a rotation about r, its means over the cell <U_l^q> change with nothing that a cell is free
to choose. After Hirn, Mallat and Poilvert, arXiv 1605.04654, and Eickenberg et al., arXiv
1805.00571. Y_lm are real and normalised so that sum_m Y_lm^2 = 1.
"""

import numpy as np

from densityjax.features.field import PeriodicField

WIDTHS = (0.25, 0.4, 0.6, 0.9, 1.3)  # sigma, Å
DEGREES = (0, 1, 2, 3)
_MOMENTS = (0.5, 1, 2, 3)
_LEVELS = (0.02, 0.1, 0.5, 0.9, 0.98)
# Beyond |k| = 5.5 / sigma the filters are below 1e-4 of their largest value.
_REACH = 5.5

NAMES = tuple(
    name
    for width in WIDTHS
    for name in (
        *(
            f"ln <U_{degree}^{q:g}> at {width} Å [(e/Å^3)^{q:g}]"
            for degree in DEGREES for q in _MOMENTS
        ),
        *(f"ln quantile {level} of U_0 at {width} Å [e/Å^3]" for level in _LEVELS),
    )
)


def scattering_invariants(field: PeriodicField) -> np.ndarray:
    """Moments of U_l for each width and degree, and quantiles of U_0.

    Fields that are smooth on the scale of the grid are evaluated on every second point.

    Returns:
        float64 [NAMES].
    """
    found = []
    directions = _directions(field)
    for width in WIDTHS:
        while (coarse := field.halved()) is not None and coarse.cutoff * width >= _REACH:
            field, directions = coarse, _directions(coarse)
        scaled = field.wave_numbers * np.float32(width)
        smoothed = field.spectrum * np.exp(-np.square(scaled) / 2)
        quantiles = []
        for degree in DEGREES:
            filtered = smoothed * scaled**degree * (-1j) ** degree
            fields = field.evaluate(filtered * _harmonics(degree, directions))  # [2l+1, X, Y, Z]
            square = np.square(fields).sum(axis=0)
            found += _moments(square)
            if degree == 0:
                quantiles = np.quantile(np.sqrt(square), _LEVELS)
        found += [np.log(max(q, 1e-4)) for q in quantiles]
    return np.array(found)


def _moments(square: np.ndarray) -> list[float]:
    """ln <U^q> of U^2 [X, Y, Z] for each moment."""
    norm = np.sqrt(square)
    powers = (np.sqrt(norm), norm, square, norm * square)  # q = 1/2, 1, 2, 3
    return [float(np.log(power.mean(dtype=np.float64) + 1e-9)) for power in powers]


def _directions(field: PeriodicField) -> np.ndarray:
    """Unit vectors of the waves, [3, X, Y, Z // 2 + 1], 0 for k = 0."""
    return field.wave_vectors / np.maximum(field.wave_numbers, 1e-6)


def _harmonics(degree: int, directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics [2 l + 1, ...] of unit vectors, with a sum of squares of 1."""
    x, y, z = directions
    if degree == 0:
        return np.ones_like(x)[None]
    if degree == 1:
        return directions
    if degree == 2:
        root = np.float32(np.sqrt(3))
        return np.stack([
            root * x * y, root * y * z, root * z * x,
            root / 2 * (x * x - y * y), (3 * z * z - (x * x + y * y + z * z)) / 2,
        ])
    a, b, c = (np.float32(np.sqrt(n)) for n in (5 / 8, 15, 3 / 8))
    xx, yy, zz = x * x, y * y, z * z
    return np.stack([
        a * y * (3 * xx - yy), a * x * (xx - 3 * yy), b * x * y * z, b / 2 * z * (xx - yy),
        c * y * (4 * zz - xx - yy), c * x * (4 * zz - xx - yy),
        z * (2 * zz - 3 * xx - 3 * yy) / 2,
    ])
