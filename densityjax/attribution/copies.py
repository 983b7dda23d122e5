"""Everything that answers, asked about changed copies of a density."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from densityjax.attribution.question import Question

_AT_A_TIME = 32


def answers_to_copies(question: Question, densities: Sequence[np.ndarray]) -> np.ndarray:
    """[n] answers to densities [G, G, G, C] in the cell of the material, in the unit.

    Features of each copy are computed anew, so that networks, kernels on invariants and elements
    that the density tells all see the change; what the file names (composition, bonds) stays.
    """
    material, found = question.material, []
    for start in range(0, len(densities), _AT_A_TIME):
        chosen = list(densities[start : start + _AT_A_TIME])
        # As many each time, so that one program is compiled.
        filled = chosen + chosen[-1:] * (min(_AT_A_TIME, len(densities)) - len(chosen))
        copies = [
            dataclasses.replace(material, record={**material.record, "density": density})
            for density in filled
        ]
        found.append(question.answer(copies)[: len(chosen)])
    return np.concatenate(found)


def mixed(density: np.ndarray, reference: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`share` of the reference, the rest of the density, and the electrons of the density.

    Args:
        density, reference: [G, G, G, C].
        share: [G, G, G], 0 to 1.
    """
    kept = density.astype(np.float64)
    taken = share[..., None] * reference.astype(np.float64)
    kept = (1 - share)[..., None] * kept
    lost = float((share * density[..., 0]).sum())  # what must be given back where it was taken
    scale = lost / max(float(taken[..., 0].sum()), 1e-30)
    taken[..., 0] *= scale
    return (kept + taken).astype(np.float32)
