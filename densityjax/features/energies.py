"""Invariants of derivatives and of the spectrum: gradient, Laplacian, energies, power per |k|."""

import numpy as np

from densityjax.features.field import FLOOR, PeriodicField
from densityjax.features.histogram import soft_histogram

HBAR2_OVER_M = 7.619964  # eV Å^2, of the electron
COULOMB = 14.399645  # eV Å, e^2 / (4 pi epsilon_0)

# Wide bins: what lies in narrower ones depends on where the grid points fall.
_GRADIENT = np.linspace(-2.5, 2.0, 13)  # ln s
_LAPLACIAN = np.linspace(-5.0, 5.0, 13)  # sign(l) ln(1 + |l| / (e/Å^5))
_SHELLS = np.linspace(0.5, 12.0, 24)  # |k|, rad/Å

NAMES = (
    *(f"share of electrons at s = {np.exp(x):.3g}" for x in _GRADIENT),
    *(
        f"share of electrons at Laplacian {np.sign(x) * np.expm1(abs(x)):.3g} e/Å^5"
        for x in _LAPLACIAN
    ),
    "ln(Weizsaecker energy per electron) [eV]",
    "ln(Hartree energy per electron) [eV]",
    *(f"ln(power of rho / <rho> at |k| = {k:.3g} rad/Å)" for k in _SHELLS),
)


def derivative_invariants(field: PeriodicField) -> np.ndarray:
    """Electron-weighted histograms of reduced gradient and Laplacian, energies, power spectrum.

    - Reduced gradient s = |grad rho| / (2 (3 pi^2)^(1/3) rho^(4/3)), the variable of generalised
      gradient approximations (Perdew, Burke, Ernzerhof, PRL 77, 3865, 1996), dimensionless.
    - Laplacian of rho: negative where charge gathers (Bader, Atoms in Molecules, 1990).
    - Weizsaecker energy (hbar^2 / 8 m) integral |grad rho|^2 / rho, per electron (von Weizsaecker,
      Z. Phys. 96, 431, 1935).
    - Hartree energy of the density with a uniform background, (e^2 / 4 pi epsilon_0) 2 pi V
      sum_(k != 0) |rho_k|^2 / k^2, per electron.
    - Power |rho_k|^2 / <rho>^2 summed over the waves near |k|, each shared by two nodes: the
      variance of rho / <rho> that waves of this length make.

    Returns:
        float64 [NAMES].
    """
    rho = field.values.ravel()
    mean = rho.mean(dtype=np.float64)
    floored, weights = np.maximum(rho, FLOOR), np.maximum(rho, 0)
    derivatives = field.derivatives().reshape(4, -1)
    slope2 = np.einsum("ax,ax->x", derivatives[:3], derivatives[:3])  # |grad rho|^2, e^2/Å^8
    # rho^(4/3) by the logarithm, which NumPy vectorises, as it does not its cube root.
    reduced = np.sqrt(slope2) * np.exp(field.logarithm.ravel() * np.float32(-4 / 3))
    reduced *= np.float32(0.5 * (3 * np.pi**2) ** (-1 / 3))
    curvature = derivatives[3]  # e/Å^5
    weizsaecker = HBAR2_OVER_M / 8 * (slope2 / floored).mean(dtype=np.float64) / mean  # eV
    k, power = _waves(field)
    hartree = 2 * np.pi * COULOMB * (power / k**2).sum() / mean  # eV per electron
    return np.concatenate([
        soft_histogram(np.log(reduced + 1e-6), _GRADIENT, weights),
        soft_histogram(np.copysign(np.log1p(np.abs(curvature)), curvature), _LAPLACIAN, weights),
        [np.log(weizsaecker + 1e-6), np.log(hartree + 1e-6)],
        _power_spectrum(k, power / mean**2),
    ])


def _waves(field: PeriodicField) -> tuple[np.ndarray, np.ndarray]:
    """Lengths [n] rad/Å and |rho_k|^2 [n] of the waves but k = 0, opposite ones as one."""
    coefficients = field.spectrum[1:]  # the first is k = 0
    power = np.square(coefficients.real) + np.square(coefficients.imag)
    return field.wave_numbers[1:], power.astype(np.float64) * field.multiplicity[1:]


def _power_spectrum(k: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Logarithm of the power near each node, [shells]."""
    width = _SHELLS[1] - _SHELLS[0]
    near = k < _SHELLS[-1] + width
    shares = soft_histogram(k[near], np.append(_SHELLS, _SHELLS[-1] + width), power[near])
    return np.log(shares[:-1] * power[near].sum() + 1e-6)
