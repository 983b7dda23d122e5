import csv
import dataclasses
import tarfile
from pathlib import Path

import numpy as np
import pytest

from densityjax.density.reader import Density, read_density_bytes
from densityjax.density.record import make_record
from densityjax.results.applicability import (
    Applicability,
    fit_valence,
    join_warnings,
    leave_one_out_distances,
)

SHIPPED = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"

VASP = """Ni, as VASP writes it
   3.5
     0.5 0.5 0.0
     0.0 0.5 0.5
     0.5 0.0 0.5
   Ni
     1
Direct
  0.0 0.0 0.0

   2   2   2
 10 10 10 10 10
 10 10 10
augmentation occupancies   1   2
  0.1 0.2
"""


@pytest.fixture(scope="module")
def known(smoke_run) -> Applicability:
    return Applicability.load(smoke_run / "applicability.npz")


@pytest.fixture(scope="module")
def shipped() -> dict[str, Density]:
    """By formula, the first materials of the training folds 2 to 4 and the test fold 0."""
    with tarfile.open(SHIPPED) as archive:
        rows = csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines())
        # Without the first row, Hf2S: its cell is among the 1 % longest, which get a warning.
        rows = [row for row in rows if row["fold"] in "0234"][1:13]
        files = [(row["formula"], row["file"]) for row in rows]
        return {k: read_density_bytes(archive.extractfile(v).read(), v) for k, v in files}


def warnings(known: Applicability, density: Density, distance: float) -> list[str]:
    return known.warnings_for(make_record(density, known.grid), density.code, distance)


def test_what_is_saved_is_what_is_loaded(known, tmp_path):
    known.save(tmp_path / "a.npz")
    again = Applicability.load(tmp_path / "a.npz")
    for name, value in dataclasses.asdict(known).items():
        np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)


def test_valences_are_those_of_the_data_sets(known):
    valence = dict(zip(known.elements.tolist(), known.valence.tolist()))
    assert len(valence) == 63
    # H, Li, O, Al, Ti, Fe, Ni, Ga, Pb: numbers of valence electrons of GPAW's PBE data sets 0.9
    expected = {1: 1, 3: 1, 8: 6, 13: 3, 22: 12, 26: 8, 28: 16, 31: 3, 82: 14}
    assert {z: valence[z] for z in expected} == expected


def test_densities_of_the_dataset_give_no_warning(known, shipped):
    assert {name: warnings(known, d, 0.0) for name, d in shipped.items()} == {
        name: [] for name in shipped
    }


def test_vasp_density_gives_warnings_of_electrons_and_code(known):
    density = read_density_bytes(VASP.encode(), "CHGCAR")
    electrons, code = warnings(known, density, 0.0)
    assert electrons.startswith("10 valence electrons")
    assert "give 16" in electrons
    assert code == "density from VASP, training densities from GPAW 22.8"


def test_electrons_within_the_tolerance_and_a_charged_cell(known, shipped):
    density = next(iter(shipped.values()))
    for change, warned in ((0.05, False), (1.0, True), (-1.0, True)):
        scale = 1 + change / density.num_electrons
        changed = dataclasses.replace(density, values=density.values * scale)
        assert bool(warnings(known, changed, 0.0)) == warned


def test_element_never_seen(known, shipped):
    density = next(iter(shipped.values()))
    species = np.array([54, *density.species[1:]])
    assert warnings(known, dataclasses.replace(density, species=species), 0.0) == [
        "elements absent from the training data, so the valence is not checked: Xe"
    ]


def test_large_cell(known, shipped):
    density = next(iter(shipped.values()))
    longest = known.max_spacing * known.grid  # Å
    assert longest < 24.2  # one training cell of 24.2 Å (mp-606949) does not set the limit
    repeats = int(longest / np.linalg.norm(density.lattice[0])) + 1
    large = dataclasses.replace(
        density,
        lattice=density.lattice * [[repeats], [1], [1]],
        species=np.tile(density.species, repeats),
    )
    (warning,) = warnings(known, large, 0.0)
    assert warning.startswith("cell too large for the stored grid")


def test_distance_beyond_the_percentile(known, shipped):
    density = next(iter(shipped.values()))
    assert warnings(known, density, known.max_distance) == []
    (warning,) = warnings(known, density, known.max_distance * 1.01)
    assert warning.startswith("unlike the training materials")


def test_warnings_of_an_ensemble():
    """Each kind once; that of the distance where most members say so."""
    far, other = "unlike the training materials: distance 3", "unlike the training materials: 4"
    cell = "cell too large for the stored grid: 20 Å on 24 points, 99 % within {} Å"
    members = [["note", cell.format(18), far], [cell.format(19)], ["note", other]]
    assert join_warnings(members) == ["note", cell.format(18), far]
    assert join_warnings([*members, []]) == ["note", cell.format(18)]
    assert join_warnings([[], []]) == []


def test_distances_leave_the_point_itself_out(known):
    points = np.array([[0.0], [1.0], [1.5], [9.0]])
    np.testing.assert_allclose(leave_one_out_distances(points), [1.0, 0.5, 0.5, 7.5])
    # By brute force on the embeddings of the run:
    points = known.embedding.astype(np.float64)
    squares = np.square(points[:, None] - points).sum(-1)
    np.fill_diagonal(squares, np.inf)
    expected = np.percentile(np.sqrt(squares.min(1)), 99)
    assert known.max_distance == pytest.approx(expected, rel=1e-3)
    # To the training data as a whole, each of its members is at distance 0.
    raw = points[:3] * known.embedding_std + known.embedding_mean
    np.testing.assert_allclose(known.distances(raw), 0, atol=1e-2)


def test_valence_from_compositions():
    nacl, na, water = [11, 17], [11], [1, 1, 8]
    elements, valence = fit_valence(
        tuple(map(np.array, (nacl, na, water, nacl * 2))), np.array([8.0, 1.0, 8.0, 16.0])
    )
    assert elements.tolist() == [1, 8, 11, 17]
    # H and O occur in one proportion only: 2 H + O = 8 has many solutions.
    np.testing.assert_array_equal(valence, [np.nan, np.nan, 1, 7])


def test_contradicting_electron_counts_give_no_valence():
    _, valence = fit_valence((np.array([31]), np.array([31]), np.array([13])), np.array([3, 14, 3]))
    np.testing.assert_array_equal(valence, [3, np.nan])
