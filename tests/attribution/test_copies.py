"""Occlusion and Shapley's shares, of functions whose answer is known."""

import dataclasses

import numpy as np
import pytest

from densityjax.attribution import copies
from densityjax.attribution.occlusion import hann_windows, occlusion, window_counts
from densityjax.attribution.partition import atom_weights
from densityjax.attribution.references import reference_density
from densityjax.attribution.shapley import shapley_shares
from densityjax.runtime.errors import UserError
from tests.attribution.conftest import crystal, material, question_of


@dataclasses.dataclass
class Black:
    """Stands for a question: a function of the density of each copy."""

    material: object
    function: object

    def answer(self, materials):
        return np.array([self.function(m.record["density"][..., 0]) for m in materials])


def test_a_window_loses_structure_and_no_charge():
    density = crystal().record["density"]
    windows = hann_windows(8, (2, 3, 2))
    assert len(windows) == 12
    assert windows.sum(0) == pytest.approx(1)
    changed = copies.mixed(density, np.ones_like(density), windows[0])
    assert changed.sum(dtype=float) == pytest.approx(density.sum(dtype=float), rel=1e-6)
    assert changed.min() > 0
    far = windows[0] == 0
    assert np.array_equal(changed[far], density[far])
    centre = np.isclose(windows[0], 1)
    assert np.ptp(changed[centre]) == pytest.approx(0, abs=1e-6)
    assert window_counts(np.diag([1.0, 4.0, 30.0]), 1.5) == (2, 3, 6)


def test_occlusion_finds_where_a_function_looks():
    made = crystal()
    peak = lambda density: float(np.square(density)[:2, :2, :2].sum())  # noqa: E731
    found = occlusion(Black(made, peak), reference_density(made.record, None), width=1.0)
    corner = np.zeros((8, 8, 8), bool)
    corner[:2, :2, :2] = True
    assert found.values[corner].mean() > 5 * found.values[~corner].mean() > 0


@pytest.mark.parametrize("count", [2, 6])
def test_shares_of_any_function_add_up_and_equal_atoms_get_the_same(count):
    lattice = np.diag([3.0 * count / 2, 3.0, 3.0])
    places = np.zeros((count, 3))
    places[:, 0] = np.arange(count) / count
    made = material(lattice, np.full(count, 17, np.int32), places)
    reference = reference_density(made.record, None)
    weights = atom_weights(lattice, places, 8)

    def jumps(density):
        return float(np.square(density).mean() + (density.max() > 2 * density.mean()))

    shares, full, empty = shapley_shares(Black(made, jumps), reference, weights, orders=40)
    assert full == pytest.approx(jumps(made.record["density"]))
    assert shares.sum() == pytest.approx(full - empty, rel=1e-9)
    if count == 2:
        assert shares[0] == pytest.approx(shares[1], rel=1e-3)


def test_what_answers_is_asked_about_each_copy(seeing_invariants):
    question = question_of(seeing_invariants)
    density = question.material.record["density"]
    said = copies.answers_to_copies(question, [density, density * 0 + density.mean(), density])
    assert said[0] == pytest.approx(said[2])
    assert abs(said[0] - said[1]) > 1e-3


def test_a_question_names_its_faults(seeing_invariants):
    with pytest.raises(UserError, match="not among the model's: bulk_modulus"):
        question_of(seeing_invariants, "band_gap")
    nameless = crystal()
    nameless.record["species"][0] = 0
    with pytest.raises(UserError, match="name the elements"):
        question_of(seeing_invariants, made=nameless)
