import dataclasses

import numpy as np
import pytest
from ase.build import bulk, molecule

from densityjax.density import geometry, names, valence
from densityjax.density.density import Density
from densityjax.density.plausibility import warnings_of


def density_of(atoms, electrons, source="CHGCAR", **changes):
    volume = atoms.get_volume()
    return Density(
        np.full((2, 2, 2), electrons / volume), None, atoms.cell[:], atoms.numbers,
        atoms.get_scaled_positions(), "unknown", source, **changes,
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SPIN1_CHG.cube", "the density of one spin"), ("chgs1.cube", "the density of one spin"),
        ("mp-1_SPIN_UP.vasp", "the density of one spin"), ("SPIN_DW.vasp", "the density of one"),
        ("rho_down.xsf", "the density of one spin"), ("density-sp2.cube", "the density of one"),
        ("NiO-SPIN_DENSITY-1_0.cube", "a spin density"), ("x.spindens.cube", "a spin density"),
        ("CHGCAR_mag", "a spin density"), ("SPIN.vasp", "a spin density"),
        ("CHGDIFF.vasp", "a difference"), ("CHGCAR_diff.xz", "a difference"),
        ("ELFCAR.gz", "an electron localisation function"), ("ELF.cub", "an electron localisation"),
        ("LOCPOT", "a potential"), ("x-v_hartree-1_0.cube", "a potential"),
        ("AECCAR0", "the density of the core electrons alone"), ("AECCAR2.xz", "a part of the all"),
        ("PARCHG.0001.ALLK", "the density of chosen bands"), ("HOMO.cube", "orbitals"),
        ("down.xsf", "the density of one spin"), ("BaTiO3_up.cube.gz", "the density of one spin"),
        ("ChargeDiff.vasp", "a difference"), ("CHGDIFF2.vasp", "a difference"),
        ("spinden.cube", "a spin density"), ("TOTPOT", "a potential"), ("AECCAR01", "a part of"),
    ],
)
def test_names_that_are_not_of_densities(name, kind):
    assert kind in names.kind_of(name)[0]
    silicon = density_of(bulk("Si"), 8, f"/a/LOCPOT/{name}")
    assert any(w.startswith("by its name") and kind in w for w in warnings_of(silicon))
    assert not any("by its name" in w for w in warnings_of(silicon, "/a/LOCPOT/CHGCAR"))


@pytest.mark.parametrize(
    "name",
    ["CHGCAR", "CHG.xz", "mp-123.json.gz", "alpha-Sn.xsf", "potassium.cube", "chg.cube",
     "NaCl-ELECTRON_DENSITY-1_0.cube", "spinel.cube", "magnesium.CHGCAR", "different.cube",
     "downloads.CHGCAR", "up_down.cube", "scale_up_2.CHGCAR", "CHGCAR_tot.vasp"],
)
def test_names_of_densities(name):
    assert names.kind_of(name) is None


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Electrostatic potential from Total SCF Density", "a potential"),
        ("HARTREE POTENTIAL", "a potential"), ("SPIN DENSITY", "a spin density"),
        ("Electron density from Total SCF Density", None), ("Total energy -12.3 Hartree", None),
        ("valence density of the pseudo potential PBE", None), ("spin polarised PBE", None),
    ],
)
def test_titles(title, kind):
    notes = names.note_of_title(title)
    assert len(notes) == (kind is not None)
    assert kind is None or notes[0].startswith(f"by its title {kind}")


def test_a_file_with_both_spins_may_be_called_spin():
    iron = density_of(bulk("Fe"), 8, "CHGCAR.spin")
    assert "a spin density" in warnings_of(iron)[0]
    spin = dataclasses.replace(iron, magnetization=iron.values / 4)
    assert warnings_of(spin) == ()
    one = dataclasses.replace(iron, source="SPIN1_CHG.cube", stated_spins=1)
    assert warnings_of(one) == ()


@pytest.mark.parametrize(
    ("atoms", "electrons", "warning"),
    [
        (bulk("Si"), 8, None), (bulk("Si"), 24, None), (bulk("Si"), 4, "8 valence electrons at"),
        (bulk("Si"), 28, "24 valence electrons at most: an all-electron density"),
        (bulk("Si"), 54, "where the neutral atoms have 28"),
        (bulk("NaCl", "rocksalt", 5.64), 8, None),
        (bulk("NaCl", "rocksalt", 5.64), 4, "8 valence electrons at least: one spin"),
        (bulk("Si"), 1e-6, "electrons for 2 atoms: rho where rho * V_cell is expected"),
        (molecule("H2", vacuum=5.0, pbc=True), 2, None),
        (molecule("N2", vacuum=5.0, pbc=True), 10, None),
        (molecule("N2", vacuum=5.0, pbc=True), 9, None),  # an ion
        (bulk("Ar", "fcc", 5.26), 8, None), (bulk("Cs", "bcc", 6.14), 9, None),
        (bulk("Si", a=5.43 * 0.529), 8, "lengths in another unit"),
        (bulk("Si", a=5.43 / 0.529), 8, "where about 1.3 is the most: lengths in another unit"),
        (bulk("Ti"), 10, "half of what these atoms may have (20): one spin"),
        (bulk("Si", a=300.0), 8, "Å^3 for each atom, where solids have about 5 to 70"),
    ],
)
def test_electrons_and_lengths_of_real_materials(atoms, electrons, warning):
    found = warnings_of(density_of(atoms, electrons))
    assert len(found) == (warning is not None), found
    assert warning is None or warning in found[0]


def test_distances_agree_with_ase():
    rng = np.random.default_rng(0)
    for _ in range(20):
        atoms = bulk("NaCl", "rocksalt", 5.64).repeat((2, 1, 1))
        atoms.set_cell(atoms.cell[:] + rng.normal(0, 0.4, (3, 3)), scale_atoms=True)
        atoms.rattle(0.3, seed=int(rng.integers(100)))
        radii = geometry.covalent_radii[atoms.numbers]
        pairs = atoms.repeat(3).get_all_distances(mic=True)
        np.fill_diagonal(pairs, np.inf)
        sums = np.add.outer(np.tile(radii, 27), np.tile(radii, 27))
        found = geometry.nearest_ratio(
            atoms.cell[:], atoms.numbers, atoms.get_scaled_positions(wrap=False), 2.0
        )
        assert found == pytest.approx((pairs / sums).min(), rel=1e-9)


@pytest.mark.parametrize("repeat", [1, 12, 20])  # 20 makes 16,000 atoms
def test_large_cells_are_looked_at(repeat):
    atoms = bulk("NaCl", "rocksalt", 5.64).repeat(repeat)
    assert warnings_of(density_of(atoms, 4 * len(atoms))) == ()
    atoms.set_cell(atoms.cell[:] * 0.529, scale_atoms=True)
    assert "0.56 times the sum" in warnings_of(density_of(atoms, 4 * len(atoms)))[0]


def test_valences_of_cells():
    gallium_arsenide = np.array([31, 33])
    assert {8, 18, 26, 36, 64} <= valence.usual_sums(gallium_arsenide)
    assert 54 not in valence.usual_sums(gallium_arsenide)
    assert valence.valence_range(gallium_arsenide) == (8, 44)
    assert {24, 56} <= valence.usual_sums(np.array([74, 74]))  # W of PAW, and with 4f
    assert valence.usual_sums(np.array([0, 33])) == frozenset()
    assert valence.valence_range(np.array([0, 33])) is None


def test_strange_cells_are_not_searched_for_long():
    flat = np.array([[1e4, 0, 0], [1e4, 1e-3, 0], [0, 0, 1.0]])
    places = np.array([[0, 0, 0], [0.5] * 3])
    assert geometry.nearest_ratio(flat, np.array([6, 6]), places, 1.0) is None
