"""Invariants of the values of the density: how it is spread over volume and electrons.

rho is the density, e/Å^3; V the volume and N the electrons of the cell; <f> = (1/V) integral of f.
A floor of 1e-3 e/Å^3 stands under every logarithm: below is vacuum, or ringing of the low-pass.
"""

import numpy as np

from densityjax.features.field import FLOOR, PeriodicField
from densityjax.features.histogram import soft_histogram

_NODES = np.linspace(np.log(FLOOR), np.log(20.0), 17)  # ln(rho / (e/Å^3))
_LEVELS = (0.002, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.998)
_TINY = np.float32(1e-30)  # e/Å^3, whose root is nothing
_POWERS = (1 / 3, 2 / 3, 4 / 3, 5 / 3, 2.0, 3.0)
_SPIN = (
    "|integral m| per electron [μB/e]", "integral |m| per electron [μB/e]",
    "|integral m| per volume [μB/Å^3]", "<m^2> / <rho^2> [μB^2/e^2]",
)

NAMES = (
    "ln(V / N) [Å^3/e]",
    *(f"share of volume at rho = {np.exp(x):.3g} e/Å^3" for x in _NODES),
    *(f"share of electrons at rho = {np.exp(x):.3g} e/Å^3" for x in _NODES),
    *(f"ln quantile {level:g} of rho [e/Å^3]" for level in _LEVELS),
    *(f"ln(<rho^{p:.3g}> / <rho>)" for p in _POWERS),
)
SPIN_NAMES = _SPIN


def local_invariants(field: PeriodicField) -> np.ndarray:
    """Shares, quantiles and moments of the values.

    - Share of volume per bin of ln rho: the distribution function of rho, as in histogram-based
      descriptors of densities; share of electrons: the same weighted with rho.
    - <rho^p> / <rho>: p = 4/3 is the exchange energy of the uniform gas per electron (Dirac), 5/3
      its kinetic energy (Thomas-Fermi), each but for its constant.

    Returns:
        float64 [NAMES].
    """
    rho = np.sort(field.values, axis=None)  # the order of points is of no matter, quantiles want it
    mean = rho.mean(dtype=np.float64)
    positive = np.maximum(rho, 0)
    logarithm = np.log(np.maximum(rho, FLOOR))
    moments = [np.log(power.mean(dtype=np.float64) / mean) for power in _powers(positive)]
    return np.concatenate([
        [-np.log(mean)],
        soft_histogram(logarithm, _NODES, np.ones_like(rho), positive, ascending=True),
        _quantiles(logarithm),
        moments,
    ])


def _quantiles(ascending: np.ndarray) -> np.ndarray:
    """Quantiles at `_LEVELS` of sorted values, linear between two of them."""
    ranks = np.array(_LEVELS) * (ascending.size - 1)
    lower = ranks.astype(int)
    upper = np.minimum(lower + 1, ascending.size - 1)
    return ascending[lower] + (ranks - lower) * (ascending[upper] - ascending[lower])


def _powers(values: np.ndarray) -> list[np.ndarray]:
    """`values ** p` for each of `_POWERS`, by one cube root and products."""
    # By a logarithm, which NumPy vectorises, as it does not its cube root.
    root = np.exp(np.log(np.maximum(values, _TINY)) * np.float32(1 / 3))
    square, third = values * values, root * values
    return [root, root * root, third, root * third, square, square * values]


def spin_invariants(values: np.ndarray, magnetization: np.ndarray | None) -> np.ndarray:
    """How much spin there is and how it cancels; zeros for a density without magnetisation.

    Args:
        values: [X, Y, Z] e/Å^3.
        magnetization: [X, Y, Z] μB/Å^3, or None.

    Returns:
        float64 [SPIN_NAMES].
    """
    if magnetization is None:
        return np.zeros(len(SPIN_NAMES))
    m, rho = np.asarray(magnetization, np.float64), np.asarray(values, np.float64)
    net, total = abs(m.mean()), np.abs(m).mean()
    squares = np.square(m).mean() / np.square(rho).mean()
    return np.array([net / rho.mean(), total / rho.mean(), net, squares])
