"""Tables and folders as people have them: each kind is read as it was meant, or named."""

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest

import tfds_builders
from densityjax.density.reader import read_density_bytes
from tests.tfds_builders.test_elastic_densities import SHIPPED
from tfds_builders.density_folder.bookkeeping import why_bookkeeping
from tfds_builders.density_folder.cells import number, with_points
from tfds_builders.density_folder.consistency import odd_ones
from tfds_builders.density_folder.folds import folds_of_words
from tfds_builders.density_folder.inventory import take_inventory
from tfds_builders.density_folder.labels import Settings, find_spec, is_mark, read_labels
from tfds_builders.density_folder.reading import read_table
from tfds_builders.density_folder.units import same_unit
from tfds_builders.errors import DatasetSourceError

NONE = Settings((), {})


def silicon(electrons: float = 8.0, edge: float = 5.43, points: int = 4) -> str:
    """A CHGCAR of two silicon atoms with as many electrons, of equal density everywhere."""
    half = edge / 2
    rows = [f"0 {half:.4f} {half:.4f}", f"{half:.4f} 0 {half:.4f}", f"{half:.4f} {half:.4f} 0"]
    values = " ".join([f"{electrons:.6f}"] * points**3)
    return "\n".join([
        "Si", "1.0", *rows, "Si", "2", "Direct", "0 0 0", "0.25 0.25 0.25", "",
        f"{points} {points} {points}", values, "",
    ])


def make(folder: Path, files: dict[str, str], table: str | bytes) -> Path:
    """A folder of files and its labels.csv."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    data = table if isinstance(table, bytes) else table.encode()
    (folder / "labels.csv").write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("found_as", "identity"),
    [
        ("mp-1/static/CHGCAR", "mp-1"), ("mp-1/CHGCAR", "mp-1"), ("a/b/mp-1/c/d/CHGCAR.gz", "mp-1"),
        ("CHGCAR.mp-1", "mp-1"), ("CHGCAR_mp-1", "mp-1"), ("mp-1_CHGCAR", "mp-1"),
        ("LiFe0.5.v2.CHGCAR", "LiFe0.5.v2"), ("CHGCAR.LiFe0.5", "LiFe0.5"),
        ("mp-1.CHGCAR", "mp-1.cif"), ("mp-1.cube", "mp-1.POSCAR"), ("MP-1.CHGCAR", "mp-1"),
        ("007.CHGCAR", "7"), ("7.CHGCAR", "007"), ("17/CHGCAR", "0017"),
    ],
)
def test_a_file_is_found_by_what_its_material_is_called(tmp_path, found_as, identity):
    make(tmp_path, {found_as: "x", "other.CHGCAR": "y"}, f"material_id,tau\n{identity},1\n")
    assert [row.file for row in take_inventory(tmp_path).rows] == [found_as]


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        (r"dens\mp-1.CHGCAR", "dens/mp-1.CHGCAR"), ("./mp-1.CHGCAR", "mp-1.CHGCAR"),
        ("Dens/mp-1.chgcar", "dens/mp-1.CHGCAR"), ("mp-1.CHGCAR", "mp-1.CHGCAR.xz"),
        ("mp-1.CHGCAR.gz", "mp-1.CHGCAR"),
    ],
)
def test_a_file_is_found_as_it_is_written_elsewhere(tmp_path, cell, file):
    make(tmp_path, {file: "x"}, f"file,tau\n{cell},1\n")
    assert [row.file for row in take_inventory(tmp_path).rows] == [file]


def test_run_folders_work_as_they_lie(tmp_path):
    """CHGCAR is taken; what VASP and its users leave beside it is neither taken nor a problem."""
    beside = ("CHG", "AECCAR0", "AECCAR1", "AECCAR2", "LOCPOT", "ELFCAR", "PARCHG", "CHGCAR.bak",
              "CHGCAR_old", "CHGCAR~", "CHGCAR_sum", "POSCAR", "OUTCAR", "vasprun.xml")
    files = {"mp-1/CHGCAR": "x", "mp-2/CHGCAR": "y", "mp-3/CHG": "z"}
    files |= {f"mp-1/{name}": "o" for name in beside}
    table = "material_id,tau\nmp-1,1\nmp-2,2\nmp-3,3\n"
    inventory = take_inventory(make(tmp_path, files, table))
    assert [row.file for row in inventory.rows] == ["mp-1/CHGCAR", "mp-2/CHGCAR", "mp-3/CHG"]
    assert not inventory.problems


def test_two_of_a_kind_are_named_and_not_chosen(tmp_path):
    files = {"mp-1/a/CHGCAR": "x", "mp-1/b/CHGCAR": "y", "mp-2/CHGCAR": "z"}
    inventory = take_inventory(make(tmp_path, files, "material_id,tau\nmp-1,1\nmp-2,2\n"))
    assert [row.material_id for row in inventory.rows] == ["mp-2"]
    problem = next(p for p in inventory.problems if p.kind == "missing file")
    assert (problem.row, problem.material_id) == (2, "mp-1")
    assert "mp-1/a/CHGCAR, mp-1/b/CHGCAR" in problem.message


@pytest.mark.parametrize(
    ("cells", "folds"),
    [
        (["train", "TEST", "Val", "train", "train", "train"], ["2", "0", "1", "3", "4", "2"]),
        (["training", "testing", "train", "train", "train", ""], ["1", "0", "2", "3", "4", ""]),
        (["train", "test", "banana"], None), (["0", "1"], None), (["train", "train"], None),
    ],
)
def test_words_for_folds(cells, folds):
    assert folds_of_words(cells) == folds


@pytest.mark.parametrize("name", ["fold", "split", "Subset"])
def test_a_split_in_words_is_the_split(tmp_path, name):
    words = ["train", "train", "train", "val", "test"]
    table = f"material_id,tau,{name}\n" + "".join(f"m{i},{i},{w}\n" for i, w in enumerate(words))
    inventory = take_inventory(make(tmp_path, {f"m{i}.CHGCAR": str(i) for i in range(5)}, table))
    assert [row.fold for row in inventory.rows] == [2, 3, 4, 1, 0]
    assert inventory.split == "fold"
    assert [column.spec.name for column in inventory.columns] == ["tau"]
    assert [p.kind for p in inventory.problems] == ["read as"]


TEXT = "Material_ID,Band Gap (eV)\nmp-1,1.5\nmp-2,2.5\n"


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (TEXT.encode("utf-8-sig"), ["material_id", "Band Gap (eV)"]),
        (TEXT.encode("utf-16"), ["material_id", "Band Gap (eV)"]),
        (TEXT.replace("\n", "\r\n").encode(), ["material_id", "Band Gap (eV)"]),
        ("mpid,volume (Å³),tä\na,1,2\n".encode("cp1252"), ["material_id", "volume (Å³)", "tä"]),
        (b"# made by hand\n# today\nmaterial_id,tau\na,1\n", ["material_id", "tau"]),
        (b"material_id,tau,\na,1,\nb,2,\n", ["material_id", "tau"]),
        (b",material_id,tau\n0,a,1\n1,b,2\n", ["Unnamed: 0", "material_id", "tau"]),
        (b"filename\ttau\na\t1\n", ["file", "tau"]),
    ],
)
def test_tables_are_read_as_spreadsheets_leave_them(tmp_path, data, header):
    (tmp_path / "labels.csv").write_bytes(data)
    table = read_table(tmp_path / "labels.csv")
    assert table.header == header
    assert {len(row) for row in table.rows} == {len(header)}


def test_blank_lines_and_line_separators_in_cells(tmp_path):
    (tmp_path / "labels.csv").write_text("material_id,remark\na,x\u2028y\n\nb,\"two\nlines\"\n\n")
    assert read_table(tmp_path / "labels.csv").rows == [
        ["a", "x\u2028y"], ["", ""], ["b", "two\nlines"]
    ]
    inventory = take_inventory(make(
        tmp_path, {"a.CHGCAR": "1", "b.CHGCAR": "2"}, "material_id,tau\na,1\n\nb,2\n"
    ))
    assert [(row.material_id, row.line) for row in inventory.rows] == [("a", 2), ("b", 4)]
    assert not inventory.problems


@pytest.mark.parametrize(
    ("texts", "separator", "values"),
    [
        (["0,5", "1,0", "", "1,5e-3"], ";", [0.5, 1.0, None, 0.0015]),
        (["0,5", "12,25"], ",", [0.5, 12.25]),  # in quotation marks
        (["3,071", "1,234"], ";", [3.071, 1.234]),
        (["3,071", "1,234"], ",", [None, None]),  # thousands, perhaps
        (["1,234.5", "2.5"], ";", [None, 2.5]),
        (["1.5", "2,5"], ";", [1.5, None]),
        (["1_000", "5"], ",", [None, 5.0]),
    ],
)
def test_decimal_commas(texts, separator, values):
    assert [number(text) for text in with_points(texts, separator)] == values


@pytest.mark.parametrize(
    "texts", [["0,5", "1,0", "1,5"] * 4, ["1,234.5", "2,345.5"] * 6, ["−1.5", "−2.5"] * 6]
)
def test_a_column_of_numbers_never_becomes_classes(texts):
    assert find_spec("moment", texts, {}).kind == "regression"


@pytest.mark.parametrize("missing", ["#N/A", "<NA>", "#NA", "NaT", "N/A", "NULL", "-"])
def test_missing_in_classes_and_numbers(missing):
    cells = {
        "kind": ["layered", missing, "chain"] * 4,
        "tau": ["1.5", missing, "2.5"] * 4,
    }
    columns, problems = read_labels(cells, NONE, [str(i) for i in range(12)])
    assert columns[0].spec.classes == ("chain", "layered")
    assert columns[0].labels.tolist()[:3] == [1, -1, 0]
    assert np.isnan(columns[1].labels[1])
    assert not problems


@pytest.mark.parametrize("mark", [-999.0, -9999.0, 9999.0, 1e30])
def test_marks_of_missing_labels(mark):
    labels = np.array([1.5, 2.5, mark, np.nan, 0.5, mark])
    assert is_mark(labels).tolist() == [False, False, True, False, False, True]
    columns, problems = read_labels(
        {"tau": ["1.5", "2.5", f"{mark:g}", "0.5"]}, NONE, list("abcd")
    )
    assert np.isnan(columns[0].labels[2])
    assert [(p.kind, p.row, p.material_id) for p in problems] == [("impossible label", 4, "c")]
    assert not is_mark(np.array([-999.0, -500.0, -1500.0])).any()  # a value among others
    assert not is_mark(np.array([9999.0, np.nan])).any()


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("Unnamed_0", ["0", "1", "2"]), ("index", ["5", "6"]), ("formula_pretty", ["NaCl", "Si"]),
        ("nsites", ["2", "4"]), ("split", ["a", "b"]), ("when", ["2024-01-11", "2024-02-11"]),
        ("spacegroup", ["225", "62"]),
    ],
)
def test_bookkeeping_is_no_target_unless_asked_for(name, texts):
    assert why_bookkeeping(name, texts)
    rows = [str(i) for i in range(len(texts) * 3)]
    columns, problems = read_labels({name: texts * 3}, NONE, rows)
    assert not columns
    assert [p.kind for p in problems] == ["column not a target"]
    assert f"[{name}]" in problems[0].message
    asked = Settings((), {name: {"kind": "classification"}})
    assert [c.spec.name for c in read_labels({name: texts * 3}, asked, rows)[0]] == [name]


def test_one_reason_is_said_once(tmp_path):
    table = "material_id,band_gap\n" + "".join(f"m{i},{i}.5 eV\n" for i in range(24))
    files = {f"m{i}.CHGCAR": str(i) for i in range(24)}
    message = take_inventory(make(tmp_path, files, table)).unusable()
    assert message.count("without its unit") == 1
    assert "'0.5 eV'" in message
    assert "23 more" in message


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("A^3", "Å³", True), ("Ang^3", "Å³", True), ("ų", "Å³", True), ("µB", "μB", True),
     ("g/cm^3", "g/cm³", True), ("muB", "μB", True), ("kbar", "GPa", False), ("nm³", "Å³", False)],
)
def test_units(a, b, same):
    assert same_unit(a, b) == same


def test_the_shipped_densities_agree_on_their_electrons():
    """840 real materials: none is odd; halved, or in another unit, each one that can be is."""
    with tarfile.open(SHIPPED) as archive:
        rows = list(csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines()))
        small = sorted(rows, key=lambda row: archive.getmember(row["file"]).size)[:150]
        densities = [
            read_density_bytes(archive.extractfile(row["file"]).read(), row["file"])
            for row in small
        ]
    species = [density.species for density in densities]
    electrons = np.array([density.num_electrons for density in densities])
    assert odd_ones(electrons, species) == []
    spoilt = electrons.copy()
    spoilt[[10, 40]] *= 0.5
    spoilt[70] /= 0.529177**3
    found = {odd.place: odd for odd in odd_ones(spoilt, species)}
    judged = {10, 40, 70} - {
        place for place in (10, 40, 70)
        if any(sum(z in s for s in species) < 3 for z in species[place])
    }
    assert judged
    assert set(found) == judged
    for place in judged:
        assert found[place].expected == pytest.approx(electrons[place], rel=1e-3)


def test_one_spin_among_full_densities_is_listed(tmp_path):
    files = {f"m{i}.CHGCAR": silicon(4.0 if i == 3 else 8.0, 5.4 + i / 100) for i in range(10)}
    table = "material_id,tau,fold\n" + "".join(f"m{i},{i},{i % 5}\n" for i in range(10))
    folder = make(tmp_path / "folder", files, table)
    builder = tfds_builders.load_builder("density_folder/grid24", tmp_path / "d", source=folder)
    builder.download_and_prepare()
    with builder.problems_path.open() as file:
        found = list(csv.DictReader(file))
    assert {row["material_id"] for row in found} == {"m3"}
    assert all(row["kind"] == "doubtful density" for row in found)
    expected = "4 electrons, where its atoms have 8 in the other"
    assert any(expected in row["message"] for row in found)


def test_names_of_other_files_and_warnings_reach_the_table(tmp_path):
    """A potential or one spin named in `file` is said, as `inspect` says it."""
    files = {f"m{i}.CHGCAR": silicon(8.0, 5.4 + i / 100) for i in range(8)}
    files |= {"SPIN_UP.vasp": silicon(8.0, 5.6), "LOCPOT.x": silicon(8.0, 5.7)}
    table = "material_id,file,tau,fold\n" + "".join(
        f"m{i},{name},{i},{i % 5}\n" for i, name in enumerate(files)
    )
    folder = make(tmp_path / "folder", files, table)
    builder = tfds_builders.load_builder("density_folder/grid24", tmp_path / "d", source=folder)
    builder.download_and_prepare()
    with builder.problems_path.open() as file:
        found = {row["file"]: row["message"] for row in csv.DictReader(file)}
    assert set(found) == {"SPIN_UP.vasp", "LOCPOT.x"}
    assert "one spin" in found["SPIN_UP.vasp"]


def test_what_targets_toml_cannot_say(tmp_path):
    for text in ("[tau]\nminimum = true\n", "[tau]\nminimum = " + "9" * 5000 + "\n"):
        make(tmp_path, {"a.CHGCAR": "1"}, "material_id,tau\na,1\n")
        (tmp_path / "targets.toml").write_text(text)
        with pytest.raises(DatasetSourceError, match=r"targets\.toml"):
            take_inventory(tmp_path)
