"""What is fitted to the features of training rows: who the atoms are, and what a network sees."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.features.identification import ElementFinder, fit_finder
from densityjax.features.record_features import structure_features
from densityjax.features.reduction import Reduction, fit_reduction
from densityjax.features.standardiser import Standardiser
from densityjax.runtime.files import replaced

# Blocks [n, F] of a material that may enter a network: its density, the structure of the elements
# that the density tells, the composition and the structure of those that its file names.
BLOCKS = ("invariants", "identified", "composition", "structure")
Features = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Descriptors:
    """From features of records to the numbers that enter a network beside the density.

    Attributes:
        finder: what tells elements by their density; None if no block needs it.
        reductions: {block: its components}; empty for a network that sees the density alone.
    """

    finder: ElementFinder | None
    reductions: Mapping[str, Reduction]

    @property
    def size(self) -> int:
        """Numbers per material that enter the network."""
        return sum(reduction.components.shape[1] for reduction in self.reductions.values())

    def complete(
        self, features: Features, lattice: np.ndarray, num_electrons: np.ndarray,
        training: bool = False,
    ) -> Features:
        """Features with the block 'identified', if it is needed.

        Args:
            features: see `Records.features`.
            lattice: [n, 3, 3] Å.
            num_electrons: [n] valence electrons per cell.
            training: they are those of the training rows, in order.
        """
        if self.finder is None:
            return features
        species = self.finder(features["surroundings"], num_electrons, training)
        found = [
            structure_features(*cell)
            for cell in zip(species, lattice, features["positions"], strict=True)
        ]
        return {**features, "identified": np.stack(found)}

    def __call__(self, features: Features, rows: int) -> np.ndarray:
        """[rows, size] float32 of complete features."""
        found = [np.zeros((rows, 0), np.float32)]
        found += [reduction(features[block]) for block, reduction in self.reductions.items()]
        return np.concatenate(found, axis=1)

    def save(self, path: Path) -> None:
        """Replaces a NumPy archive in one step."""
        arrays = {"blocks": np.array(list(self.reductions), np.str_)}
        for block, reduction in self.reductions.items():
            arrays |= {f"{block}/{k}": v for k, v in vars(reduction.scaler).items()}
            arrays[f"{block}/components"] = reduction.components.astype(np.float16)
        if self.finder is not None:
            arrays |= {f"finder/{k}": v for k, v in vars(self.finder).items()}
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Descriptors":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as content:
            reductions = {
                str(block): Reduction(
                    Standardiser(*(content[f"{block}/{k}"] for k in ("kept", "mean", "std"))),
                    content[f"{block}/components"].astype(np.float32),
                )
                for block in content["blocks"]
            }
            names = [field.name for field in dataclasses.fields(ElementFinder)]
            finder = None
            if "finder/scale" in content:
                finder = ElementFinder(*(content[f"finder/{name}"] for name in names))
            return cls(finder, reductions)


def descriptor_sizes(settings: Mapping[str, Any]) -> dict[str, int]:
    """{block of features: components of it that enter the network} of config.input."""
    return {block: settings[block] for block in BLOCKS}


def fit_descriptors(
    features: Features, species: Sequence[np.ndarray], lattice: np.ndarray,
    num_electrons: np.ndarray, sizes: Mapping[str, int], identify: bool,
) -> tuple[Descriptors, Features]:
    """Fits to training rows.

    Args:
        features: of the training rows, see `Records.features`.
        species: n arrays of atomic numbers, which an element is learned from.
        lattice: [n, 3, 3] Å.
        num_electrons: [n] valence electrons per cell.
        sizes: {block of `BLOCKS`: components}; a block of 0 is left out.
        identify: make the block 'identified', whether or not it enters the network.

    Returns:
        (descriptors, complete features of the training rows).
    """
    finder = None
    if identify or sizes.get("identified"):
        finder = fit_finder(features["surroundings"], species, num_electrons)
    whole = Descriptors(finder, {}).complete(features, lattice, num_electrons, training=True)
    reductions = {
        block: fit_reduction(whole[block], size) for block, size in sizes.items() if size
    }
    return Descriptors(finder, reductions), whole
