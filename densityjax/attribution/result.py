"""A map, and what its numbers add up to."""

import dataclasses

import numpy as np

TOLERANCE = 0.05  # completeness error above which a map is warned of


@dataclasses.dataclass(frozen=True)
class Attribution:
    """A map of one target over the cell of one material.

    Attributes:
        method: 'integrated_gradients', 'occlusion' or 'grad_cam'.
        values: [G, G, G] in the unit of the question, per voxel.
        by_view: [K, G, G, G] the same for each view of each network; K may be 0.
        prediction, reference: of the material and of the reference density, by what the map is of;
          None where the method has no reference.
        through_descriptors: what the descriptors beside the trunk add, which has no place.
        through_magnetisation: part of the sum of `values` that is of the second channel.
        adds_up: whether the sum of the map means anything.
    """

    method: str
    values: np.ndarray
    by_view: np.ndarray
    prediction: float
    reference: float | None
    through_descriptors: float = 0.0
    through_magnetisation: float = 0.0
    adds_up: bool = False

    @property
    def difference(self) -> float:
        """f(x) - f(x0)."""
        return self.prediction - (self.reference or 0.0)

    @property
    def total(self) -> float:
        """All that the map and the descriptors account for."""
        return float(self.values.sum()) + self.through_descriptors

    @property
    def error(self) -> float | None:
        """|total - (f(x) - f(x0))| over |f(x) - f(x0)|; None where the map adds up to nothing."""
        if not self.adds_up:
            return None
        return abs(self.total - self.difference) / max(abs(self.difference), 1e-12)


def of_atoms(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums [..., N] of maps [..., G, G, G] over atoms with weights [N, G, G, G]."""
    return np.tensordot(values, weights, axes=((-3, -2, -1), (1, 2, 3)))
