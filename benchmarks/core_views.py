"""Ways to see a density without its cores, and copies of densities with other cores."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ase.data import covalent_radii

from densityjax.attribution.smoothing import gaussian_smooth
from densityjax.density.core import charges_alone, core_window, voxels_near

Array = np.ndarray
# density [G, G, G, C] e/Å^3, lattice [3, 3] Å, positions [N, 3] -> density
View = Callable[[Array, Array, Array], Array]
Record = Mapping[str, Any]


def by_value(function: Callable[[Array], Array]) -> View:
    """A view that maps the charge by its values alone."""
    return lambda density, lattice, positions: np.concatenate(
        [function(density[..., :1]), density[..., 1:]], axis=-1
    )


def cap(limit: float) -> View:
    """min(rho, limit)."""
    return by_value(lambda rho: np.minimum(rho, limit))


def soft_cap(limit: float) -> View:
    """rho / (1 + (rho / limit)^4)^(1/4): rho where it is low, the limit where it is high."""
    return by_value(lambda rho: rho / (1 + (np.maximum(rho, 0) / limit) ** 4) ** 0.25)


def low_pass(sigma: float) -> View:
    """Convolution with a Gaussian of sigma Å."""

    def smooth(density: Array, lattice: Array, positions: Array) -> Array:
        channels = np.moveaxis(density, -1, 0)
        return np.moveaxis(gaussian_smooth(channels, lattice, sigma), 0, -1)

    return smooth


def shell(radius: float) -> View:
    """About each atom the mean of the outer part of a sphere: nothing of the core, nor its charge.

    The window is that of `density.core`; the mean has the weights w (1 - w).
    """

    def covered(density: Array, lattice: Array, positions: Array) -> Array:
        seen = density.astype(np.float64)
        flat, kept = seen.reshape(-1, seen.shape[-1]), density.reshape(-1, seen.shape[-1])
        for position in np.asarray(positions, np.float64) % 1:
            voxels, _, away = voxels_near(density.shape[:3], lattice, position[None], radius)
            window = core_window(away, radius)
            rim = window * (1 - window) + 1e-9
            mean = rim @ kept[voxels] / max(rim.sum(), 1e-9)
            flat[voxels] += window[:, None] * (mean - flat[voxels])
        return seen

    return covered


def charge(radius: float) -> View:
    """`density.core.charges_alone`."""
    return lambda density, lattice, positions: charges_alone(density, lattice, positions, radius)


def chain(*views: View) -> View:
    """One view after the other."""

    def chained(density: Array, lattice: Array, positions: Array) -> Array:
        for view in views:
            density = view(density, lattice, positions)
        return density

    return chained


VIEWS: dict[str, tuple[str, View]] = {
    "all": ("as stored (`all`)", lambda density, lattice, positions: density),
    "cap_0.6": ("capped at 0.6 e/Å³", cap(0.6)),
    "cap_1.0": ("capped at 1.0 e/Å³", cap(1.0)),
    "soft_cap_0.6": ("smoothly capped at 0.6 e/Å³", soft_cap(0.6)),
    "soft_cap_1.0": ("smoothly capped at 1.0 e/Å³", soft_cap(1.0)),
    "soft_cap_1.5": ("smoothly capped at 1.5 e/Å³", soft_cap(1.5)),
    "low_pass_0.20": ("low-pass of 0.2 Å", low_pass(0.2)),
    "low_pass_0.35": ("low-pass of 0.35 Å", low_pass(0.35)),
    "low_pass_0.50": ("low-pass of 0.5 Å", low_pass(0.5)),
    "soft_cap_then_low_pass": (
        "smoothly capped at 1.0 e/Å³, then low-pass of 0.35 Å",
        chain(soft_cap(1.0), low_pass(0.35)),
    ),
    "shell_0.9": ("mean of the shell within 0.9 Å", shell(0.9)),
    "charge_0.60": ("charge alone within 0.6 Å", charge(0.6)),
    "charge_0.75": ("charge alone within 0.75 Å", charge(0.75)),
    "charge_0.90": ("charge alone within 0.9 Å", charge(0.9)),
    "charge_1.10": ("charge alone within 1.1 Å (`charge`)", charge(1.1)),
    "charge_1.30": ("charge alone within 1.3 Å", charge(1.3)),
}


def _moved(share: float, radius: float | None) -> Callable[[Record], Array]:
    """The density after a share of each core's charge went outwards (inwards if negative).

    Between the shapes (1 - x^2)^3 and (1 - x^2)^8, x = r / R, so none leaves the radius R; of the
    charge that a core has in the weight (1 - x^2)^2.

    Args:
        radius: R, Å; None for 0.75 covalent radii, within 0.45 and 1.1 Å.
    """

    def altered(record: Record) -> Array:
        density, lattice = record["density"], record["lattice"].astype(np.float64)
        charge = density[..., 0].astype(np.float64).ravel()
        before = charge.copy()
        for number, position in zip(record["species"], record["positions"], strict=True):
            own = radius or float(np.clip(0.75 * covalent_radii[number], 0.45, 1.1))
            place = position.astype(np.float64) % 1
            voxels, _, away = voxels_near(density.shape[:3], lattice, place[None], own)
            inside = 1 - np.square(away / own)
            wide, narrow = inside**3, inside**8
            if narrow.sum() > 1e-6:
                held = before[voxels] @ inside**2
                change = wide / wide.sum() - narrow / narrow.sum()
                np.add.at(charge, voxels, share * held * change)
        return np.concatenate(
            [charge.reshape(*density.shape[:3], 1), density[..., 1:]], axis=-1
        ).astype(np.float32)

    return altered


ALTERED = {
    f"{'outwards' if share > 0 else 'inwards'} {100 * abs(share):.0f} % within "
    f"{f'{radius} Å' if radius else '0.75 covalent radii'}": _moved(share, radius)
    for radius, shares in (
        (0.6, (-0.3, 0.3)), (0.9, (-0.3, -0.1, 0.1, 0.3)), (None, (-0.3, -0.1, 0.1, 0.3))
    )
    for share in shares
}
