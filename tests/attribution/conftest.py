"""Models that nobody trained, and crystals of Gaussian atoms."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from densityjax.attribution.question import Question, ask
from densityjax.configs import elastic
from densityjax.features.average_atoms import WIDTHS, AverageAtoms
from densityjax.features.descriptors import Descriptors, fit_descriptors
from densityjax.prediction.materials import Material
from densityjax.prediction.model import Model
from densityjax.results.applicability import Applicability
from densityjax.results.predictions import features_of
from densityjax.step import parallel
from densityjax.step.create_task import create_task, field_size
from densityjax.step.members import members_program
from densityjax.step.scalers import Statistics
from densityjax.step.train_state import create_train_state
from densityjax.targets import get_specs
from densityjax.training.trained_model import TrainedModel
from tests.small_model import SMALL_MODEL

GRID = 8
SPECS = get_specs(["bulk_modulus", "total_energy", "elastic_anisotropy", "is_metal"])
NUMBERS = np.array([11, 17])
ATOMS = AverageAtoms(
    NUMBERS, np.array([[1.0, 6.0], [2.0, 5.0]]) @ np.eye(len(WIDTHS))[[6, 7]]
)  # broad ones, which the grid carries


def crystal(edge: float = 4.0, shift: float = 0.0, number: int = 17) -> Material:
    """Caesium chloride's structure of two kinds of atom, or of one."""
    lattice = edge * np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], np.float32)
    species = np.array([11, number], np.int32)
    positions = (np.array([[0, 0, 0], [0.5, 0.5, 0.5]], np.float32) + shift) % 1.0
    return material(lattice, species, positions)


def material(lattice: np.ndarray, species: np.ndarray, positions: np.ndarray) -> Material:
    """Of superposed `ATOMS`."""
    density = ATOMS.superposition(lattice, species, positions, GRID)[..., None]
    volume = abs(np.linalg.det(lattice))
    return Material({
        "density": density.astype(np.float32), "lattice": lattice.astype(np.float32),
        "species": species, "positions": positions.astype(np.float32),
        "num_electrons": np.float32(density.mean() * volume), "formula": "NaCl",
        "chemical_system": "Cl-Na", "native_grid": np.array([GRID] * 3, np.int32),
        "negative_fraction": np.float32(0),
    }, "crystal", "code", ())


def untrained(invariants: int, seed: int = 0, **changes) -> TrainedModel:
    """A model with random parameters, which sees components of the density's invariants."""
    config = elastic.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(SMALL_MODEL | {"view.spacing": 0.5, "model.widths": (6,)})
        config.stack.learners, config.input.identified = (), 0
        config.input.invariants = invariants
        config.update_from_flattened_dict(changes)
    descriptors = Descriptors(None, {})
    if invariants:
        made = [crystal(edge).record for edge in (3.5, 4.0, 4.5, 5.0, 5.5)]
        descriptors, _ = fit_descriptors(
            features_of(made), [m["species"] for m in made], np.stack([m["lattice"] for m in made]),
            np.array([m["num_electrons"] for m in made]), {"invariants": invariants}, False,
        )
    size = 1 + invariants
    statistics = Statistics(
        np.array([100.0, -8.0, 0.5, 0.0]), np.array([50.0, 2.0, 0.3, 1.0]), np.array([-2.0, 0.3]),
        np.array([1.0, 0.3]), np.zeros(size), np.ones(size), {"is_metal": np.ones(2)},
    )
    task = create_task(config, SPECS, num_steps=1)
    state = create_train_state(
        task.model, task.tx, statistics.arrays(), seed, field_size(config, GRID)
    )
    width = 2 * 6 + size
    applicability = Applicability(
        GRID, np.array(["code 1"]), NUMBERS, np.array([7.0, 7.0]), 1.0, np.zeros(width),
        np.ones(width), np.zeros((2, width), np.float32), 1e9,
    )
    return TrainedModel(
        config, SPECS, descriptors, statistics, applicability, parallel.replicate(state),
        members_program(task, config.view.evaluation_views),
    )


def with_seed(model: TrainedModel, seed: int) -> TrainedModel:
    """The same with other random parameters."""
    task = create_task(model.config, SPECS, num_steps=1)
    state = create_train_state(
        task.model, task.tx, model.statistics.arrays(), seed, field_size(model.config, GRID)
    )
    return dataclasses.replace(model, state=parallel.replicate(state))


def question_of(
    model: TrainedModel, target: str = "bulk_modulus", made: Material | None = None,
    num_views: int = 2,
) -> Question:
    """Of a run of its own."""
    whole = Model(Path("nowhere"), ((model,),))
    return ask(whole, made or crystal(), target, num_views)


@pytest.fixture(scope="session")
def seeing_invariants() -> TrainedModel:
    return untrained(invariants=3)
