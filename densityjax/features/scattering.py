"""Solid-harmonic scattering of first order: structure of the density per scale and angular degree.

u_lm(r) is the density convolved with a solid harmonic times a Gaussian, whose transform is
(sigma |k|)^l exp(-sigma^2 k^2 / 2) Y_lm(k / |k|). U_l = sqrt(sum_m u_lm^2) does not change with a
rotation about r, and the means <U_l^q> over the cell change with nothing that a cell is free to
choose. After Hirn, Mallat and Poilvert, arXiv 1605.04654, and Eickenberg et al., arXiv 1805.00571.

Fewer widths than there: on fold 1 more of them added nothing to what the atoms' surroundings tell.
"""

import numpy as np

from densityjax.features.field import PeriodicField
from densityjax.features.harmonics import real_harmonics

WIDTHS = (0.4, 0.7, 1.2)  # sigma, Å
DEGREES = (0, 1, 2, 3)
# Not 1: U_l has kinks at its zeros, and their mean depends on where the grid points fall.
_MOMENTS = (2, 3, 4)
# Beyond |k| = 5.5 / sigma the filters are below 1e-4 of their largest value.
_REACH = 5.5

NAMES = tuple(
    f"ln <U_{degree}^{q:g}> at {width} Å [(e/Å^3)^{q:g}]"
    for width in WIDTHS for degree in DEGREES for q in _MOMENTS
)


def scattering_invariants(field: PeriodicField) -> np.ndarray:
    """Moments of U_l for each width and degree.

    Fields that are smooth on the scale of the grid are evaluated on every second point.

    Returns:
        float64 [NAMES].
    """
    found = []
    for width in WIDTHS:
        while (coarse := field.halved()) is not None and coarse.cutoff * width >= _REACH:
            field = coarse
        scaled = field.wave_numbers * np.float32(width)
        smoothed = field.spectrum * np.exp(-np.square(scaled) / 2)
        for degree in DEGREES:
            filtered = smoothed * scaled**degree * (-1j) ** degree
            fields = field.evaluate(filtered * real_harmonics(degree, field.directions))
            square = np.square(fields).sum(axis=0)  # [X, Y, Z] (e/Å^3)^2
            found += _moments(square)
    return np.array(found)


def _moments(square: np.ndarray) -> list[float]:
    """ln <U^q> of U^2 [X, Y, Z] for each moment."""
    norm = np.sqrt(square)
    powers = (square, norm * square, square * square)  # q = 2, 3, 4
    return [float(np.log(power.mean(dtype=np.float64) + 1e-9)) for power in powers]
