"""Invariants of the surroundings of each atom, pooled over the atoms.

The mean of a field over the sphere of radius R around a point p is, exactly,
sum_k f_k exp(i k p) sin(kR) / (kR), and its integral over the ball
sum_k f_k exp(i k p) 4 pi R^3 j_1(kR) / (kR); no directions are sampled. Species are not read.
"""

import numpy as np

from densityjax.features.field import PeriodicField
from densityjax.features.local import FLOOR

RADII = np.arange(0.0, 3.01, 0.2)  # Å
POOLS = ("mean", "spread", "minimum", "maximum")
_FROM = {"mean": 0, "spread": 1, "ln": 3, "charge": 1}  # first radius of each kind

_ATOM = (
    *(f"ln mean of rho at {r:.1f} Å [e/Å^3]" for r in RADII),
    *(f"ln spread of rho at {r:.1f} Å [e/Å^3]" for r in RADII[1:]),
    *(f"mean of ln rho at {r:.1f} Å [e/Å^3]" for r in RADII[3:]),
    *(f"ln charge within {r:.1f} Å [e]" for r in RADII[1:]),
)
NAMES = (
    "ln(V / atoms) [Å^3]", "ln(electrons / atoms) [e]",
    *(f"{pool} over atoms of {name}" for pool in POOLS for name in _ATOM),
)


def atom_invariants(field: PeriodicField, cartesian: np.ndarray) -> np.ndarray:
    """Mean and spread of the density on spheres around each atom, and the charge in them.

    Pooled by mean, spread (standard deviation), minimum and maximum over the atoms.

    Args:
        field: the density.
        cartesian: float64 [N, 3] Å.

    Returns:
        float64 [NAMES]; NaN without atoms.
    """
    if not len(cartesian):
        return np.full(len(NAMES), np.nan)
    inside = field.inside
    k = field.wave_numbers[inside]  # [K] rad/Å
    phases = field.wave_vectors[:, inside].astype(np.float64).T @ cartesian.T  # [K, N]
    waves = np.exp(1j * phases.astype(np.float32)) * field.multiplicity[inside][:, None]
    rho = field.values
    spectra = (
        field.spectrum,
        field.transform(np.square(rho)),
        field.transform(np.log(np.maximum(rho, FLOOR))),
    )
    shells, balls = _kernels(k)
    # [N, R] each: mean of rho, rho^2 and ln rho on spheres; then charge in balls
    weights = [(waves * spectrum[inside][:, None]).real.T for spectrum in spectra]
    mean, square, logarithm = (weight @ shells for weight in weights)
    charge = weights[0] @ balls[:, 1:]
    spread = np.sqrt(np.maximum(square - np.square(mean), 0))
    per_atom = np.concatenate([
        np.log(np.maximum(mean, FLOOR)), np.log(spread[:, 1:] + FLOOR), logarithm[:, 3:],
        np.log(np.maximum(charge, FLOOR)),
    ], axis=1)  # [N, _ATOM]
    volume = field.volume / len(cartesian)
    electrons = volume * rho.mean(dtype=np.float64)
    pooled = (per_atom.mean(0), per_atom.std(0), per_atom.min(0), per_atom.max(0))
    return np.concatenate([[np.log(volume), np.log(electrons)], *pooled])


def _kernels(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of waves [K]: mean over a sphere [K, R] and integral over a ball [K, R] Å^3."""
    x = np.maximum(k[:, None] * RADII.astype(np.float32), 1e-3)  # sin(x)/x is 1 to 2e-7 there
    sinc = np.sin(x) / x
    bessel = np.where(x < 0.1, 1 / 3 - x * x / 30, (sinc - np.cos(x)) / np.square(x))  # j_1(x)/x
    return sinc, (4 * np.pi * RADII**3 * bessel).astype(np.float32)
