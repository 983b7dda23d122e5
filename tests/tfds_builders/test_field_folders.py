"""Folders of labels and densities in the flavour of public bug reports: each ends as it should.

The archives hold 24 made-up densities each.
"""

import collections
import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest

import tfds_builders
from tfds_builders.density_folder.inventory import Inventory, take_inventory

CASES = Path(__file__).parent / "field_cases"
WHOLE = 24


def unpack(name: str, to: Path) -> Path:
    """The folder that an archive holds."""
    with tarfile.open(CASES / f"{name}.tar.xz") as archive:
        archive.extractall(to, filter="data")
    return next(path.parent for path in to.rglob("labels.csv"))


def labels(inventory: Inventory, name: str) -> np.ndarray:
    return next(column.labels for column in inventory.columns if column.spec.name == name)


@pytest.mark.parametrize(
    ("name", "targets", "problems"),
    [
        ("L01_decimal_comma", {"band_gap": (), "hardness": (), "moment": ()}, {}),
        (
            "L03_excel_na", {"kind": ("insulator", "metal"), "my_gap": ()}, {"labels missing": 2},
        ),
        ("L08_cp1252", {"volume": (), "band_gap": ()}, {"read as": 1}),
        ("L10_typed_numbers", {"my_property": ()}, {"impossible label": 10}),
        ("L13_atomate_nested", {"band_gap": ()}, {}),
        ("L24_group_and_names", {"band_gap": ()}, {"bookkeeping": 3}),
        ("L28_backups", {"band_gap": ()}, {}),
        (
            "L32_mp_summary_export",
            {
                "band_gap": (), "is_gap_direct": ("False", "True"),
                "symmetry_crystal_system": ("Cubic", "Hexagonal"),
            },
            {"bookkeeping": 3},
        ),
        ("L34_line_separator_in_cell", {"band_gap": ()}, {"bookkeeping": 1}),
        ("L35_fold_train_test", {"band_gap": ()}, {"read as": 1}),
        ("L36_split_column", {"band_gap": ()}, {"read as": 1}),
        ("L37_fold_from_one", {"band_gap": ()}, {"read as": 1}),
        ("L38_metal_words", {"is_metal": ("insulator", "metal")}, {}),
        ("L40_only_some_ambiguous", {"band_gap": ()}, {}),
    ],
)
def test_a_folder_is_read_as_it_was_meant(tmp_path, name, targets, problems):
    inventory = take_inventory(unpack(name, tmp_path))
    assert len(inventory.rows) == WHOLE
    assert {Path(row.file).name.upper().partition(".")[0] for row in inventory.rows} != {"CHG"}
    assert {column.spec.name: column.spec.classes for column in inventory.columns} == targets
    assert collections.Counter(problem.kind for problem in inventory.problems) == problems
    assert inventory.unusable() == ""


def test_values_are_those_of_the_tables(tmp_path):
    decimal = take_inventory(unpack("L01_decimal_comma", tmp_path / "a"))
    np.testing.assert_allclose(labels(decimal, "band_gap")[:3], [3.071, 5.703, 0.865], rtol=1e-6)
    np.testing.assert_allclose(labels(decimal, "moment")[:3], [0.5, 1.0, 1.5])
    missing = take_inventory(unpack("L03_excel_na", tmp_path / "b"))
    assert np.isnan(labels(missing, "my_gap")[0])
    assert labels(missing, "kind")[:3].tolist() == [1, 0, -1]
    volume = take_inventory(unpack("L08_cp1252", tmp_path / "c")).columns[0].spec
    assert (volume.unit, volume.identity) == ("Å³", "volume")
    words = take_inventory(unpack("L38_metal_words", tmp_path / "d"))
    assert labels(words, "is_metal")[:4].tolist() == [1, 0, 1, 0]


def test_words_and_numbers_of_folds(tmp_path):
    for name in ("L35_fold_train_test", "L36_split_column"):
        inventory = take_inventory(unpack(name, tmp_path / name))
        found = collections.Counter(row.fold for row in inventory.rows)
        assert found == {0: 6, 1: 6, 2: 4, 3: 4, 4: 4}
    (note,) = take_inventory(unpack("L37_fold_from_one", tmp_path / "one")).problems
    assert "--config.data.test_fold=1" in note.message


def test_units_in_all_cells_are_said_once(tmp_path):
    reason = take_inventory(unpack("L10b_unit_in_all_cells", tmp_path)).unusable()
    assert reason.count("put the unit into the header") == 1
    assert "'3.071 eV'" in reason
    assert "23 more" in reason
    assert len(reason) < 600


def test_one_spin_among_full_densities(tmp_path, capsys):
    """Al is in two of the materials: usual valences tell which of them is odd."""
    folder = unpack("L30_one_spin_among_24", tmp_path / "folder")
    builder = tfds_builders.load_builder("density_folder/grid24", tmp_path / "d", source=folder)
    builder.download_and_prepare()
    with builder.problems_path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert builder.info.metadata["materials"] == WHOLE
    odd = [row for row in rows if "in the other materials" in row["message"]]
    assert [row["material_id"] for row in odd] == ["mp-105"]
    assert "5 electrons, where its atoms have 10 in the other" in odd[0]["message"]
    assert "row 7, mp-105: 5 electrons" in capsys.readouterr().err
