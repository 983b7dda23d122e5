"""A map at the resolution that its views have."""

import numpy as np
import scipy.fft


def gaussian_smooth(values: np.ndarray, lattice: np.ndarray, width: float) -> np.ndarray:
    """Periodic convolution with a normalised Gaussian, which keeps sums.

    Args:
        values: [..., G, G, G].
        lattice: [3, 3] Å.
        width: Å, standard deviation; 0 for the values as they are.
    """
    if not width:
        return values
    grid = values.shape[-1]
    full = scipy.fft.fftfreq(grid, 1 / grid)
    waves = np.stack(np.meshgrid(full, full, np.arange(grid // 2 + 1), indexing="ij"), -1)
    waves = waves @ (2 * np.pi * np.linalg.inv(np.asarray(lattice, np.float64)).T)  # rad/Å
    damping = np.exp(-np.square(waves).sum(-1) * width**2 / 2)
    axes = (-3, -2, -1)
    return scipy.fft.irfftn(
        scipy.fft.rfftn(values, axes=axes) * damping, values.shape[-3:], axes=axes
    )
