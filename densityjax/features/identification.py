"""Which elements a density is of, told by the density about each atom.

A density determines the nuclei (Hohenberg and Kohn, Phys. Rev. 136, B864, 1964), and near them it
is nearly that of the free atom. So what a composition tells is learned from the density alone: an
atom is the element of the training atom whose surroundings are the most similar. The species of a
new file are not read. Between codes it fails, for pseudopotentials differ inside the core.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

# Of an element at most so many training atoms, drawn at random, bound time and memory.
MAX_ATOMS = 200
_SOFT = 1e-3  # added to a spread, so that a feature that hardly varies does not decide alone


@dataclasses.dataclass(frozen=True)
class ElementFinder:
    """Nearest training atom.

    Attributes:
        scale: float32 [S], spread of each feature among atoms of the same element.
        surroundings: float32 [A, S] of training atoms, see `atoms.SURROUNDINGS`, over `scale`.
        numbers: uint8 [A] their atomic numbers.
        materials: int32 [A] the rows of the training materials that they belong to.
    """

    scale: np.ndarray
    surroundings: np.ndarray
    numbers: np.ndarray
    materials: np.ndarray

    def __call__(
        self, surroundings: Sequence[np.ndarray], training: bool = False
    ) -> list[np.ndarray]:
        """Atomic numbers of the atoms of m materials.

        Args:
            surroundings: m arrays [N, S].
            training: they are the training materials, in order; the atoms of a material are then
              compared with those of all others.
        """
        return [
            self._nearest(np.asarray(values, np.float32) / self.scale, row if training else -1)
            for row, values in enumerate(surroundings)
        ]

    def _nearest(self, values: np.ndarray, material: int) -> np.ndarray:
        """[N] of atoms [N, S], as if the training material were not there."""
        apart = np.square(values[:, None] - self.surroundings).sum(axis=2)  # [N, A]
        apart[:, self.materials == material] = np.inf
        return self.numbers[apart.argmin(axis=1)]


def fit_finder(
    surroundings: Sequence[np.ndarray], species: Sequence[np.ndarray]
) -> ElementFinder:
    """Remembers the atoms of training materials.

    Args:
        surroundings: n arrays [N, S].
        species: n arrays [N] of atomic numbers.
    """
    values = np.concatenate(surroundings).astype(np.float64)  # [A, S]
    numbers = np.concatenate(species)
    materials = np.repeat(np.arange(len(species)), [len(atoms) for atoms in species])
    generator, kept, deviations = np.random.default_rng(0), [], []
    for number in np.unique(numbers):
        own = np.flatnonzero(numbers == number)
        deviations.append(values[own] - values[own].mean(axis=0))
        if len(own) > MAX_ATOMS:
            own = generator.choice(own, MAX_ATOMS, replace=False)
        kept.append(own)
    # The median, because a few atoms of an element may have another valence.
    spread = np.sqrt(np.median(np.square(np.concatenate(deviations)), axis=0)) + _SOFT  # [S]
    rows = np.sort(np.concatenate(kept))
    return ElementFinder(
        spread.astype(np.float32), (values[rows] / spread).astype(np.float32),
        numbers[rows].astype(np.uint8), materials[rows].astype(np.int32),
    )
