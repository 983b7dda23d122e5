"""Bonds of known crystals, by hand, and what must not change them."""

import numpy as np
import pytest
from ase.build import bulk, make_supercell

from densityjax.features.bonds import BOND_PROPERTIES, NAMES, POOLS, bond_features
from densityjax.features.composition import PROPERTIES, element_table


def _features(atoms) -> np.ndarray:
    return bond_features(atoms.numbers, atoms.cell.array, atoms.get_scaled_positions())


def _named(atoms) -> dict[str, float]:
    return dict(zip(NAMES, _features(atoms).tolist(), strict=True))


CRYSTALS = {
    "NaCl": bulk("NaCl", "rocksalt", a=5.64), "ZnS": bulk("ZnS", "wurtzite", a=3.81, c=6.23),
    "Fe": bulk("Fe", "bcc", a=2.87), "MgO": bulk("MgO", "rocksalt", a=4.21, cubic=True),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_no_choice_of_description_changes_them(name):
    atoms = CRYSTALS[name]
    expected = _features(atoms)
    assert expected.shape == (len(NAMES),)
    assert np.isfinite(expected).all()
    moved = atoms.copy()
    moved.set_scaled_positions(moved.get_scaled_positions() + np.array([0.31, 0.17, 0.83]))
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    others = [
        moved, turned, atoms.repeat((2, 1, 3)), atoms[::-1],
        make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, 0, 1]]),
    ]
    for other in others:
        np.testing.assert_allclose(_features(other), expected, rtol=2e-4, atol=2e-4)


def test_sodium_chloride_by_hand():
    found = _named(CRYSTALS["NaCl"])
    table = element_table()[[11, 17]]
    radius = table[:, PROPERTIES.index("CovalentRadius")] / 100
    shortest = 5.64 / 2
    assert found["mean over atoms: shortest bond [Å]"] == pytest.approx(shortest)
    assert found["maximum over atoms: shortest bond [radii]"] == pytest.approx(
        shortest / radius.sum()
    )
    # Shells around an ion: 6 of the other kind at a/2, 12 of its own at a/sqrt(2), 8 others, ...
    shells = [(6, 1, 1.0), (12, 0, 2.0), (8, 1, 3.0), (6, 0, 4.0), (24, 1, 5.0), (24, 0, 6.0)]
    total, differences = 0.0, 0.0
    for ion in range(2):
        weights = {
            square: count * np.exp(-((shortest * np.sqrt(square) / (
                radius.sum() if other else 2 * radius[ion]) / 1.2) ** 4))
            for count, other, square in shells
        }
        ours = sum(weights.values())
        theirs = sum(weights[square] for _, other, square in shells if other)
        total += np.log(ours) / 2
        differences += theirs / ours / 2
    assert found["mean over atoms: ln(sum of bond weights)"] == pytest.approx(total, abs=5e-3)
    apart = abs(np.diff(table[:, PROPERTIES.index("Electronegativity")])[0])
    assert found["mean over atoms: mean |difference| of Electronegativity"] == pytest.approx(
        apart * differences, rel=5e-3
    )


def test_an_element_has_no_differences():
    found = _named(CRYSTALS["Fe"])
    for pool in POOLS:
        for name in BOND_PROPERTIES:
            assert found[f"{pool} over atoms: mean |difference| of {name}"] == 0
    share = found["mean over atoms: share of bonds to the same element"]
    assert share == pytest.approx(1, abs=1e-4)


def test_lonely_and_unknown_atoms():
    alone = bond_features(np.array([18]), 30 * np.eye(3), np.zeros((1, 3)))
    assert np.isfinite(alone).all()
    for species in ([0], [120], []):
        positions = np.zeros((len(species), 3))
        assert np.isnan(bond_features(np.array(species, int), 4 * np.eye(3), positions)).all()
    thin = bond_features(np.array([18]), np.diag([1e-4, 1e-4, 5.0]), np.zeros((1, 3)))
    assert np.isnan(thin).all()  # at once, without looking at 10^10 images
