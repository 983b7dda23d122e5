"""Elements by their surroundings and the electrons of the cell, on costs and on real densities."""

import numpy as np
import pytest

from densityjax.features import atoms
from densityjax.features.field import make_field
from densityjax.features.identification import exchanged, fit_finder

VALENCE = np.array([1.0, 3.0, 3.0, 4.0, np.nan])


@pytest.mark.parametrize(
    ("electrons", "expected"),
    [
        (4.0, [0, 0, 1]),  # no exchange has as many
        (5.0, [0, 0, 1]),  # they agree
        (5.2, [0, 0, 1]),  # within what rounding may do
        (6.0, [0, 0, 3]),
        (9.0, [2, 2, 1]),  # the two atoms of one element change together
        (10.0, [2, 2, 3]),  # 3 + 3 + 4, or with the elements of place 1, which cost more
    ],
)
def test_the_cheapest_elements_with_the_electrons(electrons, expected):
    cost = np.array([
        [0.0, 2.0, 3.0, 9.0, 9.0],
        [0.0, 2.0, 0.5, 9.0, 9.0],
        [5.0, 0.0, 2.0, 1.0, 9.0],
    ])
    np.testing.assert_array_equal(exchanged(cost, VALENCE, electrons), expected)


def test_elements_without_a_valence_are_left():
    cost = np.array([[1.0, 2.0, 3.0, 4.0, 0.0]])
    np.testing.assert_array_equal(exchanged(cost, VALENCE, 3.0), [4])
    cost[0] = [0.0, 300.0, 300.0, 300.0, 1.0]
    np.testing.assert_array_equal(exchanged(cost, VALENCE, 3.0), [0])  # too unlike


def test_many_elements_are_left():
    valence = np.arange(1.0, 10.0)
    cost = np.where(np.eye(9, dtype=bool), 0.0, 1.0)
    np.testing.assert_array_equal(exchanged(cost, valence, 44.0), np.arange(9))


def test_electrons_decide_between_what_looks_alike():
    rng = np.random.default_rng(0)
    looks = {5: np.zeros(3), 6: np.full(3, 0.01), 8: np.ones(3)}
    species = [np.array([z, 8]) for z in (5, 6) * 10] + [np.array([z]) for z in (5, 6, 8)]
    around = [np.stack([looks[z] for z in s]) + 0.02 * rng.normal(size=(len(s), 3))
              for s in species]
    electrons = np.array([sum({5: 3, 6: 4, 8: 6}[z] for z in s) for s in species])
    finder = fit_finder(around, species, electrons)
    new = [looks[5][None] + 0.02 * rng.normal(size=(1, 3)) for _ in range(20)]
    for expected, count in ((5, 3.0), (6, 4.0)):
        found = finder(new, np.full(20, count))
        assert np.concatenate(found).tolist() == [expected] * 20


def test_surroundings_of_a_gaussian():
    """Of N (a / pi)^(3/2) exp(-a r^2): smoothed over sigma, a becomes a / (1 + 2 a sigma^2)."""
    size, length, electrons, a = 40, 9.0, 60.0, 1.6
    x = np.arange(size) / size * length
    line = np.exp(-a * np.minimum(x, length - x) ** 2)
    rho = electrons * (a / np.pi) ** 1.5 * np.einsum("i,j,k->ijk", line, line, line)
    field = make_field(rho, np.eye(3) * length)
    _, found = atoms.atom_invariants(field, np.zeros((1, 3)))
    found = dict(zip(atoms.SURROUNDINGS, found[0], strict=True))
    for width in (0.3, 0.5):
        wide = a / (1 + 2 * a * width**2)
        peak = electrons * (wide / np.pi) ** 1.5
        assert found[f"ln rho smoothed over {width} Å [e/Å^3]"] == pytest.approx(
            np.log(peak), abs=1e-3
        )
        name = f"arsinh of sigma^2 Laplacian smoothed over {width} Å [0.1 e/Å^3]"
        assert found[name] == pytest.approx(
            np.arcsinh(6 * wide * width**2 * peak / 0.1), abs=1e-3
        )
