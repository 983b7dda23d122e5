"""Invariants of the surroundings of each atom, pooled over the atoms.

Everything is an exact sum over the waves of the density, no directions are sampled. With p the
position of an atom and f_k the coefficients of a field f:

- mean over the sphere of radius R: sum_k f_k exp(i k p) sin(kR) / (kR), for f = rho, rho^2 (which
  gives the spread), ln rho, and the potential, whose coefficients are those of rho times
  4 pi e^2 / k^2 (Poisson's equation; of the electrons alone, its mean over the cell is 0);
- integral over the ball of radius R: sum_k f_k exp(i k p) 4 pi R^3 j_1(kR) / (kR);
- U_l = sqrt(sum_m u_lm^2), the angular power of degree l about p at width sigma; u_lm is the
  density convolved with a solid harmonic times a Gaussian, whose transform is (sigma |k|)^l
  exp(-sigma^2 k^2 / 2) Y_lm(k / |k|) (solid-harmonic wavelets, Eickenberg et al., arXiv
  1805.00571). U_l^2 are diagonal elements of the power spectrum of Bartok, Kondor and Csanyi, PRB
  87, 184115 (2013), with the electron density in the place of the neighbours'.

Species are not read.
"""

import numpy as np

from densityjax.features.energies import COULOMB
from densityjax.features.field import FLOOR, PeriodicField
from densityjax.features.harmonics import real_harmonics
from densityjax.features.histogram import soft_histograms

_STEP = 0.2  # Å
RADII = np.arange(16) * _STEP  # Å
WIDTHS = (0.4, 0.6, 0.9, 1.3)  # sigma of the harmonics, Å
DEGREES = (1, 2, 3)
POOLS = ("mean", "minimum", "maximum", "poor", "rich")
# 'poor' and 'rich' are means with the weights q^-6 and q^6, q the charge within 1 Å.
_CORE, _SHARPNESS = 1.0, 6.0
# Of the mean, added to the spread, which at sites of high symmetry is a difference of equals.
_ROUND = 0.05
# exp(-40) is nothing; smaller numbers cost ten times the time where float32 has few digits left.
_NIL = 40.0
_HISTOGRAM_RADII = (0.4, 0.6, 1.0, 1.4, 2.0)  # Å
_HISTOGRAM = np.linspace(-4.0, 3.0, 22)  # ln(charge / volume of the ball / (e/Å^3))

_ATOM = (
    *(f"ln mean of rho at {r:.1f} Å [e/Å^3]" for r in RADII),
    *(f"ln(spread of rho + 0.05 mean) at {r:.1f} Å [e/Å^3]" for r in RADII[1:]),
    *(f"mean of ln rho at {r:.1f} Å [e/Å^3]" for r in RADII[3:]),
    *(f"ln charge within {r:.1f} Å [e]" for r in RADII[1:]),
    *(f"potential at {r:.1f} Å [eV]" for r in RADII[::3]),
    *(f"ln U_{degree} at {width} Å [e/Å^3]" for width in WIDTHS for degree in DEGREES),
)
NAMES = (
    "ln(V / atoms) [Å^3]", "ln(electrons / atoms) [e]",
    *(f"{pool} over atoms of {name}" for pool in POOLS for name in _ATOM),
    *(
        f"share of atoms with {np.exp(x):.3g} e/Å^3 within {radius} Å"
        for radius in _HISTOGRAM_RADII for x in _HISTOGRAM
    ),
)


# What tells an element: the charge in the innermost balls, and the density at the nucleus and its
# Laplacian, both smoothed by Gaussians of these sigma, Å. Narrower ones depend on the resolution of
# the grid, wider ones on the bonds.
_INNER = tuple(range(len(RADII) * 3 - 4, len(RADII) * 3))
_SMOOTH = (0.3, 0.35, 0.4, 0.5, 0.6)
_LAPLACIAN = 0.1  # e/Å^3, where its logarithm begins
SURROUNDINGS = (
    *(_ATOM[place] for place in _INNER),
    *(f"ln rho smoothed over {width} Å [e/Å^3]" for width in _SMOOTH),
    *(f"arsinh of sigma^2 Laplacian smoothed over {width} Å [0.1 e/Å^3]" for width in _SMOOTH),
)


def atom_invariants(
    field: PeriodicField, cartesian: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Density, potential and charge about each atom, pooled over the atoms.

    Pools: mean, minimum and maximum over the atoms, means weighted towards the atoms with least
    and most charge about them, and histograms of the mean density in balls.

    Args:
        field: the density.
        cartesian: float64 [N, 3] Å.

    Returns:
        (float64 [NAMES], NaN without atoms; float32 [N, SURROUNDINGS] of each atom).
    """
    if not len(cartesian):
        return np.full(len(NAMES), np.nan), np.zeros((0, len(SURROUNDINGS)), np.float32)
    spheres, log_charge, smooth = _per_atom(field, cartesian)  # [N, _ATOM], [N, R - 1]
    core = log_charge[:, round(_CORE / _STEP) - 1]
    rich = np.exp(_SHARPNESS * np.clip(core - core.mean(), -5, 5))  # [N]
    pooled = (
        spheres.mean(axis=0), spheres.min(axis=0), spheres.max(axis=0),
        (1 / rich) @ spheres / (1 / rich).sum(), rich @ spheres / rich.sum(),
    )
    volume = field.volume / len(cartesian)
    electrons = volume * field.values.mean(dtype=np.float64)
    vector = np.concatenate([
        [np.log(volume), np.log(electrons)], *pooled, _histograms(log_charge),
    ])
    return vector, np.concatenate([spheres[:, _INNER], smooth], axis=1).astype(np.float32)


def _histograms(log_charge: np.ndarray) -> np.ndarray:
    """Shares of atoms per mean density in a ball, one histogram a radius, after one another."""
    radii = np.array(_HISTOGRAM_RADII)
    own = log_charge[:, np.rint(radii / _STEP).astype(int) - 1]  # [N, radii]
    return soft_histograms((own - np.log(4 / 3 * np.pi * radii**3)).T, _HISTOGRAM).ravel()


def _per_atom(field: PeriodicField, cartesian: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of each atom features [N, _ATOM], of them ln of the charge in balls [N, R - 1], `_smooth`."""
    k = field.wave_numbers  # [K] rad/Å
    turns = (cartesian / (2 * np.pi)) @ field.wave_vectors.astype(np.float64)  # [N, K]
    phases = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    waves = np.cos(phases), np.sin(phases)  # [N, K] each
    twice = field.multiplicity  # [K]
    # Real parts suffice for what is even about the atom, imaginary ones for what is odd.
    even, odd = _about(waves, twice * field.spectrum)  # [N, K] e/Å^3
    squares, _ = _about(waves, twice * field.transform(np.square(field.values)))
    logarithms, _ = _about(waves, twice * field.transform(field.logarithm))
    shells, balls = _kernels(k)
    coulomb = 4 * np.pi * COULOMB * np.where(k > 0, 1 / np.square(np.maximum(k, 1e-3)), 0)
    # [N, R] each
    mean, charge = even @ shells.T, even @ balls[1:].T
    spread = np.sqrt(np.maximum(squares @ shells.T - np.square(mean), 0))
    potential = (even * coulomb.astype(np.float32)) @ shells[::3].T
    log_charge = np.log(np.maximum(charge, FLOOR))
    features = np.concatenate([
        np.log(np.maximum(mean, FLOOR)),
        np.log((spread + _ROUND * np.maximum(mean, 0))[:, 1:] + FLOOR),
        logarithms @ shells[3:].T,
        log_charge,
        potential,
        _angular(even, odd, k, field.wave_vectors),
    ], axis=1)
    return features.astype(np.float64), log_charge.astype(np.float64), _smooth(even, k)


def _smooth(even: np.ndarray, k: np.ndarray) -> np.ndarray:
    """[N, 2 * _SMOOTH]: smoothed density at the nuclei and its Laplacian, see `SURROUNDINGS`."""
    square = np.square(np.multiply.outer(np.array(_SMOOTH, np.float32), k))  # [W, K]
    gaussian = np.exp(-np.minimum(square / 2, _NIL))
    density, laplacian = even @ gaussian.T, even @ (gaussian * square).T
    return np.concatenate(
        [np.log(np.maximum(density, FLOOR)), np.arcsinh(laplacian / _LAPLACIAN)], axis=1
    )


def _about(
    waves: tuple[np.ndarray, np.ndarray], coefficients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of coefficients [K] times waves [N, K], each contiguous."""
    cosine, sine = waves
    real, imaginary = coefficients.real.copy(), coefficients.imag.copy()
    return cosine * real - sine * imaginary, sine * real + cosine * imaginary


def _angular(
    even: np.ndarray, odd: np.ndarray, k: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """ln U_l about each atom, [N, widths * degrees].

    Args:
        even, odd: [N, K] real and imaginary part of rho_k exp(i k p), opposite waves counted in
          one; the other part of a harmonic sums to 0.
        k: [K] rad/Å.
        vectors: [3, K] rad/Å, of which a harmonic is |k|^l times that of their directions.
    """
    square = np.multiply.outer(np.square(np.array(WIDTHS, np.float32)), np.square(k))  # [W, K]
    gaussian = np.exp(-np.minimum(square / 2, _NIL))
    powers = []
    for degree in DEGREES:
        part, harmonics = odd if degree % 2 else even, real_harmonics(degree, vectors)
        u = _products(part, gaussian, harmonics)  # [N, W, 2 l + 1]
        u *= np.array(WIDTHS, np.float32)[:, None] ** degree
        powers.append(np.square(u).sum(axis=2))  # [N, W]
    return np.log(np.sqrt(np.stack(powers, axis=2)) + FLOOR).reshape(len(even), -1)


def _products(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Sums over k of a [N, K] b [W, K] c [M, K], [N, W, M], by the smaller product of two."""
    if len(a) < len(c):
        return ((a[:, None] * b).reshape(-1, a.shape[1]) @ c.T).reshape(len(a), len(b), len(c))
    return (a @ (b[:, None] * c).reshape(-1, a.shape[1]).T).reshape(len(a), len(b), len(c))


def _kernels(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of waves [K]: mean over a sphere [R, K] and integral over a ball [R, K] Å^3."""
    k = np.maximum(k, np.float32(1e-3))
    radii = RADII[1:].astype(np.float32)
    x = np.multiply.outer(radii, k)  # [R - 1, K]
    shells, balls = np.empty((2, len(RADII), len(k)), np.float32)
    shells[0], balls[0] = 1, 0
    np.sin(x, out=shells[1:])
    shells[1:] *= np.multiply.outer(1 / radii, 1 / k)
    # 4 pi R^3 j_1(x) / x, j_1(x) / x = (sin(x) / x - cos(x)) / x^2
    np.subtract(shells[1:], np.cos(x), out=balls[1:])
    balls[1:] *= np.multiply.outer(np.float32(4 * np.pi) * radii, 1 / np.square(k))
    long = np.flatnonzero(k < 0.1 / radii[0])  # waves, where the difference is of equals
    x = x[:, long]
    series = np.float32(4 * np.pi) * radii[:, None] ** 3 * (1 / 3 - np.square(x) / 30)
    balls[1:, long] = np.where(x < 0.1, series, balls[1:, long])
    return shells, balls
