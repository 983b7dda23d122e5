"""Files as people have them, with the right answer found by ASE, pymatgen and electron counts."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from densityjax.density.plausibility import warnings_of
from densityjax.density.reader import DensityFormatError, read_density

FOLDER = Path(__file__).parent / "field_cases"

# Name -> formula, electrons, Å^3, and a part of each warning.
READ = {
    "c01_CHGCAR_vasp642_hash": ("GaReSN", 31, 140.608, ()),
    "c03b_CHG_g11_tiny_positive_only": ("MgO", 8, 64, ()),
    "c06_CHG_relax_three_steps": ("C", 8, 48.284, ("3 structures in the file",)),
    "c08_CHGCAR_crlf": ("Si", 8, 160.103, ()),
    "c09_CHGCAR_gbk_comment": ("Si", 8, 160.103, ()),
    "c09b_CHGCAR_latin1_comment": ("Si", 8, 160.103, ()),
    "c11_CHGCAR_rho_without_volume": ("H2O", 0.00463, 1728, ("rho where rho * V_cell is",)),
    "c13b_GaAs_e_per_bohr3.cube": ("GaAs", 8, 45.162, ()),
    "c14_siesta_rho2xsf_two_spins.XSF": ("NiO", 64, 72.512, ("grids of both spins are added",)),
    "c17_vaspkit_CHGCAR.xsf": ("Si", 8, 40.026, ("do not repeat", "taken as e/Å^3: 8")),
    "c19_latin1_comment.xsf": ("Si", 8, 40.026, ()),
    "c20_alphaSn_e_per_A3.xsf": ("Sn", 8, 68.340, ("taken as e/Å^3: 8",)),
    "c21_cppaw.cub": ("Si", 8, 40.026, ("taken as Bohr", "it holds 8.00003")),
    "c21b_cppaw_new.cub": ("Si", 8, 40.026, ("the last planes repeat",)),
    "c22_rmg_angstrom.cube": ("Si", 8, 40.026, ("lengths are in Å, as the title says",)),
    "c23_pymatgen2022_to_cube.cube": (
        "Si", 8, 40.026, ("vectors of the voxels are taken as those of", "taken as rho * V_cell"),
    ),
    "c25_cp2k_centred_ghost.cube": ("NaCl", 64, 179.406, ("1 of 9 atoms are ghosts",)),
    "c27_cp2k_SPIN_DENSITY-1_0.cube": (
        "NiO", 8, 72.512, ("by its title a spin density", "have 64 valence electrons at least"),
    ),
    "c28b_exponent_header.cube": ("Si", 8, 160.103, ()),
    "c29_d_exponent.cube": ("Si", 8, 160.103, ()),
    "c30_LOCPOT": (
        "Al", 2.55271, 180, ("(LOCPOT) a potential", "far from", "6 valence", "below zero"),
    ),
    "c30b_slab_pot.vasp": (
        "Al", 2.55271, 180, ("(POT) a potential", "far from", "6 valence", "below zero"),
    ),
    "c44_SPIN_UP.vasp": ("C", 8, 126.859, ("the density of one spin", "16 valence electrons at")),
    "c47_d_exponent.xsf": ("Si", 8, 40.026, ()),
    "c48_qe_pp.cube": ("Si", 8, 40.026, ()),
    "c50_CHGCAR_zero_count": ("MgO", 8, 64, ()),
    "c51_CHGCAR_vasp4_numbers_in_comment": ("X", 8, 64, ("does not name all its elements",)),
    "c52_CHGCAR_symbols_with_labels": ("MgO", 8, 64, ()),
    "c53_CHGCAR_comment_tail": ("MgO", 8, 64, ()),
    "c54_CHGCAR_one_per_line": ("MgO", 8, 64, ()),
    "c55_CHGCAR_all_on_one_line": ("MgO", 8, 64, ()),
    "c56_CHGCAR_no_final_newline": ("MgO", 8, 64, ()),
    "c62_CHGCAR_bare_decimals": ("MgO", 8, 64, ()),
    "c63_cp2k_no_E.cube": ("N2", 10, 216, ()),
    "c64_cp2k_E13.5E3_glued.cube": ("N2", 10, 216, ()),
    "c65_cp2k_ES12.4E3.cube": ("N2", 10, 216, ()),
    "c70_vaspkit_molecule_in_box.xsf": ("N2", 10, 512, ("hold nothing and are", "holds 10 elec")),
    "c70b_molecule_in_box_ase_like.xsf": ("N2", 10, 512, ()),
    "c70c_molecule_in_box_general.xsf": ("N2", 10, 512, ()),
    "c70d_molecule_in_box_e_per_A3.xsf": ("N2", 10, 512, ("hold nothing and", "taken as e/Å^3")),
    "c72_CHGCAR_aug_then_text": ("NiO", 16, 72.512, ()),
    "mp-104.chgcar.lz4": ("CaCl", 9, 85.184, ()),
    "w01_pmg_CHGCAR": ("NiO", 64, 72.512, ()),
    "w04_pmg.cube": ("NiO", 64, 72.512, ("taken as rho * V_cell: 64",)),
    "w05_pmg_oxi_CHGCAR": ("NiO", 64, 72.512, ()),
    "w08_mp_zlib_blob": ("NiO", 64, 72.512, ()),
    "w09_pmg_seldyn_CHGCAR": ("NiO", 64, 72.512, ()),
    "w10_ase_CHG": ("NiO", 64, 72.512, ()),
    "w10_ase_CHGCAR": ("NiO", 64, 72.512, ()),
    "w11_ase_CHG_nospin": ("NiO", 64, 72.512, ()),
    "w12_ase_eA3.cube": ("NiO", 64, 72.512, ("taken as e/Å^3: 64",)),
    "w13_ase_eA3.xsf": ("NiO", 64, 72.512, ("taken as e/Å^3: 64",)),
    "w14_ase_bohr.xsf": ("NiO", 64, 72.512, ()),
}
# Name -> a part of the error.
REFUSED = {
    "c04_PARCHG.0486.0001": "after 202 found '***********",
    "c07_CHGCAR_lfs": "a Git LFS pointer that stands for the file: fetch the file with `git lfs",
    "c18_aims_box.xsf": "expected a grid that spans the cell",
    "c24_cp2k_two_frames.cube": "after them found '-Quickstep-'",
    "c32_vaspwave.h5": "HDF5",
    "c33_density.npy": "a NumPy array (.npy), which has no cell and no atoms",
    "c34_CHGCAR.zip": "a zip archive (or .npz): unpack it",
    "c35_CHGCAR.tar.gz": "a tar archive: unpack it",
    "c43_CHGDIFF.vasp": "is this a potential or a difference?",
    "c49_cp2k_minus.cube": "is this a potential or a difference?",
    "c57_CHGCAR_utf16": "text in UTF-16: convert it",
    "c58_POSCAR_only": "a POSCAR or CONTCAR alone has no density",
    "c59_html_error_page.json.gz": "an HTML page, such as a server's error or login page",
    "c60_s3_error.json.gz": "an XML document, such as a server's error message",
    "c61_trailing_garbage_CHGCAR": "found 'written by my_script.py'",
    "c71_calculation.tar.gz": "a tar archive: unpack it",
}


def _path(name: str) -> Path:
    """Most are compressed with xz, which is taken away for their names."""
    plain = FOLDER / name
    return plain if plain.exists() else FOLDER / f"{name}.xz"


def test_each_file_has_an_answer():
    names = {path.name.removesuffix(".xz") for path in FOLDER.iterdir()}
    assert names == {*READ, *REFUSED}


@pytest.mark.parametrize("name", READ)
def test_a_file_of_people_is_read(name):
    formula, electrons, volume, parts = READ[name]
    with warnings.catch_warnings(action="error"):
        density = read_density(_path(name))
        found = [*density.notes, *warnings_of(density)]
    assert density.formula == formula
    assert density.num_electrons == pytest.approx(electrons, rel=1e-3)
    assert density.volume == pytest.approx(volume, rel=1e-4)
    assert len(found) == len(parts), found
    for part, warning in zip(parts, found):
        assert part in warning


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_density_is_named_with_the_remedy(name):
    with pytest.raises(DensityFormatError) as error:
        read_density(_path(name))
    assert str(error.value).startswith(str(_path(name)))
    assert REFUSED[name] in str(error.value)


def test_spins_of_two_grids_keep_their_difference():
    density = read_density(_path("c14_siesta_rho2xsf_two_spins.XSF"))
    assert density.values.shape == (12, 12, 12)
    assert density.magnetization.mean() * density.volume == pytest.approx(8, rel=1e-4)
    assert (abs(density.magnetization) <= density.values + 1e-9).all()


def test_doubled_planes_are_left_out_where_they_are():
    plain = read_density(_path("c70c_molecule_in_box_general.xsf"))
    kept = read_density(_path("c70_vaspkit_molecule_in_box.xsf"))
    assert plain.values.shape == kept.values.shape == (16, 16, 16)
    np.testing.assert_allclose(plain.values, kept.values, rtol=1e-4)
