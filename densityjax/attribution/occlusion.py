"""What flattening the density somewhere changes.

In a window the density is replaced by the reference, scaled to the electrons that the window had:
no charge appears or vanishes. Nothing needs a gradient, so everything that answers is asked, the
mixture with its kernels included.
"""

import itertools

import numpy as np

from densityjax.attribution.copies import answers_to_copies, mixed
from densityjax.attribution.question import Question
from densityjax.attribution.result import Attribution

_MOST = 6  # windows along an axis


def occlusion(question: Question, reference: np.ndarray, width: float = 1.5) -> Attribution:
    """Answer to the density minus answer to the density without structure in a window.

    The difference of each window is spread over its voxels; a positive value says that structure
    there raises the answer. Windows interact, so the map's sum is not f(x) - f(x0).

    Args:
        reference: [G, G, G, C] e/Å^3, see `references.reference_density`.
        width: Å between centres of windows, or more in large cells.
    """
    record = question.material.record
    density, lattice = record["density"], np.asarray(record["lattice"], np.float64)
    shape = window_counts(lattice, width)
    windows = hann_windows(density.shape[0], shape)
    copies = [mixed(density, reference, window) for window in windows]
    said = answers_to_copies(question, [density, reference, *copies])
    values = sum(
        (said[0] - without) * window / window.sum()
        for window, without in zip(windows, said[2:], strict=True)
    )
    return Attribution(
        "occlusion", np.asarray(values), np.zeros((0, *values.shape)), float(said[0]),
        float(said[1]),
    )


def window_counts(lattice: np.ndarray, width: float) -> tuple[int, int, int]:
    """Windows along each axis of a cell [3, 3] Å."""
    lengths = np.linalg.norm(lattice, axis=1)
    counts = np.clip(np.rint(lengths / width), 2, _MOST).astype(int)
    return tuple(counts.tolist())


def hann_windows(grid: int, counts: tuple[int, int, int]) -> np.ndarray:
    """[M, G, G, G] smooth windows on a periodic grid, whose sum is 1 everywhere."""
    axes = []
    for count in counts:
        centres = np.arange(count) * grid / count
        away = (np.arange(grid) - centres[:, None] + grid / 2) % grid - grid / 2  # [M, G] voxels
        away = np.abs(away) * count / grid  # in distances between centres
        axes.append(np.where(away < 1, np.cos(np.pi / 2 * away) ** 2, 0.0))
    return np.stack([
        x[:, None, None] * y[:, None] * z for x, y, z in itertools.product(*axes)
    ])
