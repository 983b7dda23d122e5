"""What a model was trained on, and in which respects a new density differs from it."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from densityjax.data.records import Records
from densityjax.density.density import symbol
from densityjax.features.reduction import rounded
from densityjax.features.valences import fit_valence
from densityjax.runtime.files import replaced

UNLIKE = "unlike the training materials"  # begins the warning that depends on the embedding
_PERCENTILE = 99  # of the distances among training materials
_STEPS = 64  # of an embedding in a standard deviation; distances are of several of these
_CHUNK = 500  # materials whose distances to all training materials are in memory at once
# Electron counts of one potential agree to 1e-4 of the count (rounding of the file, charge lost on
# a coarse grid); another valence of an element changes them by 1 or more per atom.
_ELECTRONS, _ELECTRONS_RELATIVE = 0.1, 1e-3


@dataclasses.dataclass(frozen=True)
class Applicability:
    """What the training materials have in common.

    Attributes:
        grid: points along each axis of the stored densities.
        codes: [K] str, what made the training densities, 'GPAW 22.8'.
        elements: [Z] atomic numbers, ascending.
        valence: [Z] electrons that an atom of each element brings, NaN = not determined.
        max_spacing: Å per stored point along the longest cell vector, 99th percentile in training.
        embedding_mean, embedding_std: [E].
        embedding: [n, E] float32, standardised by the two above, in steps of 1 / 64.
        max_distance: 99th percentile of the Euclidean distance from a training material to the
          nearest other one, in standardised embeddings.
    """

    grid: int
    codes: np.ndarray
    elements: np.ndarray
    valence: np.ndarray
    max_spacing: float
    embedding_mean: np.ndarray
    embedding_std: np.ndarray
    embedding: np.ndarray
    max_distance: float

    def save(self, path: Path) -> None:
        """Replaces a NumPy archive in one step."""
        with replaced(path) as partial, partial.open("wb") as file:
            fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
            fields["embedding"] = self.embedding.astype(np.float16)
            np.savez_compressed(file, **fields)

    @classmethod
    def load(cls, path: Path) -> "Applicability":
        """Reads what `save` wrote; `RunDirectory.load` says what is wrong with a damaged one."""
        with np.load(path) as content:
            fields = {k: v if v.ndim else v.item() for k, v in content.items()}
        return cls(**fields | {"embedding": fields["embedding"].astype(np.float32)})

    def distances(self, embedding: np.ndarray) -> np.ndarray:
        """Distance [m] of embeddings [m, E] to the nearest training material."""
        standardised = (embedding - self.embedding_mean) / self.embedding_std
        points = standardised.astype(np.float32).astype(np.float64)
        training, lengths = self._doubles
        # By a product, in a tenth of the time that differences take; rounding stays below 1e-6.
        squares = lengths - 2 * (points @ training.T)  # [m, n]
        return np.sqrt(np.maximum(squares.min(axis=1) + np.square(points).sum(axis=1), 0))

    @functools.cached_property
    def _doubles(self) -> tuple[np.ndarray, np.ndarray]:
        """The training embeddings float64 [n, E] and their squared lengths [n]."""
        training = self.embedding.astype(np.float64)
        return training, np.square(training).sum(axis=1)

    @functools.cached_property
    def _known(self) -> dict[int, float]:
        """{atomic number: electrons} of the elements of training."""
        return dict(zip(self.elements.tolist(), self.valence.tolist(), strict=True))

    def other_electrons(self, record: Mapping[str, Any]) -> list[str]:
        """A sentence if a material has other valence electrons than training gives its elements.

        Nothing is said of elements absent from training, or whose valence is not determined.
        """
        species = record["species"].tolist()
        if not self._known.keys() >= set(species):
            return []
        expected = sum(self._known[number] for number in species)
        electrons = float(record["num_electrons"])
        # NaN compares as False: no statement where the training data determine no valence.
        if abs(electrons - expected) > _ELECTRONS + _ELECTRONS_RELATIVE * expected:
            return [
                f"{electrons:.6g} valence electrons where the potentials of the training data "
                f"give {expected:.6g}: other pseudopotentials or a charged cell"
            ]
        return []

    def other_code(self, code: str) -> list[str]:
        """A sentence if a density is known to be of a code that training had none of.

        'unknown' is no reason to warn: most codes leave no trace in such a file (the training
        files have none), and what matters to the model, the valence, is compared.
        """
        known = {code.split()[0] for code in self.codes}
        if code != "unknown" and code not in known:
            return [f"density from {code}, training densities from {', '.join(self.codes)}"]
        return []

    def warnings_for(self, record: Mapping[str, Any], code: str, distance: float) -> list[str]:
        """Reasons to distrust predictions for one material, a sentence each; none is no promise.

        Args:
            record: of the material, see `density.record.make_record`.
            code: what made its density, see `Density.code`.
            distance: of its embedding to the training data, see `distances`.
        """
        absent = set(record["species"].tolist()) - self._known.keys()
        found = []
        if absent:
            names = ", ".join(symbol(z) for z in sorted(absent))
            found.append(
                f"elements absent from the training data, so the valence is not checked: {names}"
            )
        found += [*self.other_electrons(record), *self.other_code(code)]
        edge = np.linalg.norm(record["lattice"].astype(np.float64), axis=1).max()  # Å
        if edge / self.grid > self.max_spacing:
            limit = self.max_spacing * self.grid  # Å
            found.append(
                f"cell too large for the stored grid: {edge:.1f} Å on {self.grid} points, "
                f"{_PERCENTILE} % of the training data are within {limit:.1f} Å"
            )
        if distance > self.max_distance:
            found.append(
                f"{UNLIKE}: distance {distance:.3g}, {_PERCENTILE} % of them "
                f"are within {self.max_distance:.3g} of another"
            )
        return found


def join_warnings(members: Sequence[Sequence[str]]) -> list[str]:
    """Warnings of an ensemble for one material, from those of its members.

    Each kind once, in the words of the first member that has it; a kind is what precedes the
    colon, since members that were trained on other rows give other limits. What depends on the
    embedding must be said by more than half of the members.
    """
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for warnings in members:
        for warning in warnings:
            kind = warning.partition(":")[0]
            found.setdefault(kind, warning)
            counts[kind] = counts.get(kind, 0) + 1
    return [
        text for kind, text in found.items() if kind != UNLIKE or 2 * counts[kind] > len(members)
    ]


def fit_applicability(records: Records, embedding: np.ndarray) -> Applicability:
    """Summarises the training records.

    Args:
        embedding: [n, E] of the trained model for these records.
    """
    elements, valence = fit_valence(records.species, records.num_electrons)
    mean, std = embedding.mean(0), embedding.std(0) + 1e-6
    standardised = _in_steps((embedding - mean) / std)
    longest = np.linalg.norm(records.lattice, axis=2).max(1)  # [n] Å, longest edge of each cell
    stored = records.grid * records.coarsening  # voxels
    return Applicability(
        grid=stored,
        codes=np.unique(records.code),
        elements=elements,
        valence=valence,
        max_spacing=float(np.percentile(longest, _PERCENTILE) / stored),
        embedding_mean=mean,
        embedding_std=std,
        embedding=standardised,
        max_distance=float(np.percentile(leave_one_out_distances(standardised), _PERCENTILE)),
    )


def _in_steps(standardised: np.ndarray) -> np.ndarray:
    """Rounded before it is used, and packed to half of what float16 would take."""
    return rounded(np.round(standardised * _STEPS) / _STEPS)


def leave_one_out_distances(points: np.ndarray) -> np.ndarray:
    """Distance [n] from each of the points [n, E] to the nearest other one."""
    found = []
    for start in range(0, len(points), _CHUNK):
        apart = cdist(points[start : start + _CHUNK], points)
        rows = np.arange(len(apart))
        apart[rows, start + rows] = np.inf
        found.append(apart.min(axis=1))
    return np.concatenate(found)
