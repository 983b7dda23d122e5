"""More of what tables and folders hold: each kind is read, or the row and the reason are named."""

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

import tfds_builders
from tests.tfds_builders.test_elastic_densities import SHIPPED
from tests.tfds_builders.test_folder_tables import make, silicon
from tfds_builders.density_folder.consistency import odd_ones
from tfds_builders.density_folder.folds import from_one
from tfds_builders.density_folder.inventory import take_inventory
from tfds_builders.density_folder.labels import find_spec, read_labels
from tfds_builders.density_folder.problems import Problem, describe
from tfds_builders.density_folder.reading import read_table
from tfds_builders.density_folder.settings import Settings
from tfds_builders.errors import DatasetSourceError

NONE = Settings((), {})
TABLE = "material_id,tau\nmp-1,1\nmp-2,2\n"


def read(texts: list[str], separator: str = ","):
    columns, problems = read_labels(
        {"tau": texts}, NONE, [str(n) for n in range(len(texts))], separator
    )
    return (columns[0] if columns else None), problems


@pytest.mark.parametrize(
    "beside",
    ["CHG", "CHGCAR.1", "CHGCAR_2", "CHGCAR.relax1.gz", "Copy of CHGCAR", "CHGCAR (1)",
     "bak_CHGCAR",
     "old/CHGCAR", "LOCPOT.vasp", "AECCAR0.gz", "CHGCAR.xz"],
)
@pytest.mark.parametrize("name", ["CHGCAR", "CHGCAR.gz"])
def test_the_charge_density_of_a_run_is_taken(tmp_path, name, beside):
    """Compressed or not, and of one of the two in both forms the plain one."""
    files = {f"mp-1/{name}": "x", f"mp-1/{beside}": "y", "mp-2/CHGCAR": "z"}
    inventory = take_inventory(make(tmp_path, files, TABLE))
    found = {row.material_id: row.file for row in inventory.rows}
    if {name, beside} == {"CHGCAR.gz", "CHGCAR.xz"}:
        assert set(found) == {"mp-2"}
        assert "several files fit" in inventory.problems[0].message
    else:
        assert found == {"mp-1": f"mp-1/{name}", "mp-2": "mp-2/CHGCAR"}


@pytest.mark.parametrize("other", ["AECCAR0", "LOCPOT.vasp", "PARCHG.gz", "CHGDIFF.vasp"])
def test_a_part_is_not_taken_for_the_density(tmp_path, other):
    files = {f"mp-1/{other}": "x", "mp-2/CHGCAR": "z"}
    inventory = take_inventory(make(tmp_path, files, TABLE))
    assert [row.material_id for row in inventory.rows] == ["mp-2"]
    problem = inventory.problems[0]
    assert (problem.kind, problem.row, problem.material_id) == ("missing file", 2, "mp-1")
    assert f"mp-1/{other}" in problem.message
    # Named, it is taken, and what it holds is judged.
    make(tmp_path, {}, f"file,tau\nmp-1/{other},1\nmp-2,2\n")
    assert [row.file for row in take_inventory(tmp_path).rows] == [f"mp-1/{other}", "mp-2/CHGCAR"]


@pytest.mark.parametrize(
    ("identity", "file"),
    [
        ("mp-1", "mp-0001.CHGCAR"), ("mat_0012", "mat_12/CHGCAR"), ("1.0", "001.CHGCAR"),
        ("mp\u20131", "mp-1.CHGCAR"), ("LiFe0.05", "LiFe0.05.CHGCAR"), ("x", "CHGCAR.x.gz"),
        ("Ha\u0308", "H\u00e4.CHGCAR"), ("mp-1.extxyz", "mp-1.CHGCAR"), ("mp-1", "chgcar-mp-1.XZ"),
    ],
)
def test_spellings_of_ids(tmp_path, identity, file):
    make(tmp_path, {file: "x"}, f"material_id,tau\n{identity},1\n")
    assert [row.file for row in take_inventory(tmp_path).rows] == [file]


def test_a_number_is_not_another_number(tmp_path):
    make(tmp_path, {"LiFe0.05.CHGCAR": "x"}, "material_id,tau\nLiFe0.5,1\n")
    assert not take_inventory(tmp_path).rows


def test_a_file_without_a_row_beside_numbered_ones_is_listed(tmp_path):
    """CHGCAR_3 is a material of its own here, not a backup."""
    files = {f"CHGCAR_{n}": str(n) for n in (1, 2, 3)}
    inventory = take_inventory(make(tmp_path, files, "material_id,tau\n1,1\n2,2\n"))
    assert [row.file for row in inventory.rows] == ["CHGCAR_1", "CHGCAR_2"]
    assert [(p.kind, p.file) for p in inventory.problems] == [
        ("density without labels", "CHGCAR_3")
    ]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("material_id;gap (eV, PBE)\na;1,5\n", ["material_id", "gap (eV, PBE)"]),
        ("sep=;\nmaterial_id;tau\na;1,5\n", ["material_id", "tau"]),
        ("material_id|tau\na|1.5\n", ["material_id", "tau"]),
        ("My results, 2024\n\nmaterial_id,tau\na,1.5\n", ["material_id", "tau"]),
        ("material_id,tau\ra,1.5\r", ["material_id", "tau"]),
        ("material_id,tau\na,1.5,,\n", ["material_id", "tau"]),
        ("material_id,Fold,Formula,tau\na,0,Si,1\n", ["material_id", "fold", "formula", "tau"]),
        ("material_id,path,tau\na,/x/y,1\n", ["material_id", "path", "tau"]),
        ("material_id,v (ų)\na,1\n", ["material_id", "v (Å³)"]),  # Å³ saved by Windows
    ],
)
def test_quirks_of_tables(tmp_path, text, header):
    (tmp_path / "labels.csv").write_text(text, newline="")
    table = read_table(tmp_path / "labels.csv")
    assert table.header == header
    assert len(table.rows) == 1
    assert table.rows[0][0] == "a"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("material_id,密度 (g/cm³)\na,1\n".replace("³", "3"), "gb18030"),
        ("material_id,硬度,导电\na,1,是\n", "gb18030"),
        ("material_id,Härte,tä\na,1,2\n", "cp1252"),
        ("material_id,v (Å³),gap±\na,1,2\n", "cp1252"),
        ("material_id,v (Å³)\na,µ\n", "cp1252"),
    ],
)
def test_encodings(tmp_path, text, encoding):
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    table = read_table(tmp_path / "labels.csv")
    assert table.header == text.partition("\n")[0].split(",")
    assert "save it as UTF-8" in table.notes[0].message


def test_rows_of_another_length_are_named(tmp_path):
    text = "material_id,gap\na,1.5\nb,2,5\nc,3.5\nd\ne,4.5\n"
    files = {f"{name}.CHGCAR": name for name in "abcde"}
    inventory = take_inventory(make(tmp_path, files, text))
    assert [(row.material_id, row.line) for row in inventory.rows] == [("a", 2), ("c", 4), ("e", 6)]
    odd = [problem for problem in inventory.problems if problem.kind == "row not read"]
    assert [problem.row for problem in odd] == [3, 5]
    assert odd[0].value == "b, 2, 5"
    make(tmp_path, {}, "material_id,gap\n" + "".join(f"{n},1,5\n" for n in "abcde"))
    with pytest.raises(DatasetSourceError, match="row 2 has 3 cells"):
        take_inventory(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mp-1,1.5\nmp-2,2.5\n", "first line looks like data"),
        ('material_id,tau\na,"1" x\n', "line 2"),
        ('material_id,tau\na,1\nb,"2\nc,3\n', "quotation marks"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DatasetSourceError, match=message):
        read_table(tmp_path / "labels.csv")


def test_a_table_under_another_name_is_pointed_at(tmp_path):
    (tmp_path / "id_prop.csv").write_text("a,1\n")
    with pytest.raises(DatasetSourceError, match=r"there is id_prop\.csv: save it as"):
        read_table(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("texts", "separator", "values"),
    [
        (["1.234,5", "2.345", "900,5"], ";", [1234.5, 2345.0, 900.5]),
        (["1.5D+01", "2d0", ".5D-1"], ",", [15.0, 2.0, 0.05]),
        (["74.088", "125.000", "76.766"], ";", [74.088, 125.0, 76.766]),
        (["3,071", "1,234"], ";", [3.071, 1.234]),
    ],
)
def test_numbers(texts, separator, values):
    column, problems = read(texts, separator)
    np.testing.assert_allclose(column.labels, values, rtol=1e-6)
    assert not problems


def test_points_that_may_separate_thousands(tmp_path):
    """1.234 may be 1,234 in a table that elsewhere has decimal commas."""
    cells = {"a": ["0,5", "1,5"], "b": ["1.234", "2.345"]}
    columns, problems = read_labels(cells, NONE, ["x", "y"], ";")
    assert [column.column for column in columns] == ["a"]
    assert [problem.column for problem in problems] == ["b"]
    assert "thousands" in problems[0].message


@pytest.mark.parametrize(
    "texts",
    [
        ["0.5 eV", "1.0 eV"], ["300K", "200K"], ["5 %", "10 %"], ["0.5±0.1", "0.7±0.1"],
        ["> 1.0", "> 2.0"], ["2.5(3)", "2.7(1)"], ["~1", "~2"], ["1.5x10^3", "2×10⁻³"],
    ],
)
def test_marked_numbers_never_become_classes(texts):
    column, problems = read(texts * 6)
    assert column is None
    assert {problem.kind for problem in problems} == {"impossible label", "column not a target"}


def test_names_that_hold_numbers_are_classes():
    column, problems = read(["2H", "3R", "1T"] * 4)
    assert column.spec.classes == ("1T", "2H", "3R")
    assert not problems


def test_a_mixture_is_asked_about():
    column, problems = read(["TBD", "TBD", "1.5"] * 4)
    assert column is None
    assert "4 of its 12 cells are numbers" in problems[0].message


def test_marks_among_classes_and_repeated_ones():
    column, problems = read(["0", "1", "-999"] * 4)
    assert column.spec.classes == ("0", "1")
    assert column.labels.tolist() == [0, 1, -1] * 4
    assert len(problems) == 4
    column, _ = read(["a", "b", "-999"] * 4)
    assert column.spec.classes == ("a", "b")
    column, problems = read([*"123412", "999", "999"])
    assert np.isnan(column.labels[-2:]).all()
    assert [problem.row for problem in problems] == [8, 9]
    column, problems = read([*"123412", "999"])  # once: a label, as far as can be told
    assert not problems
    assert find_spec("tau", ["-999"] * 4, {}) == "it holds nothing but marks of missing numbers"


@pytest.mark.parametrize(
    ("cells", "labels"),
    [(["metal", "non-metal"], [1, 0]), (["nonmetal", "Metal"], [0, 1]), (["yes", "no"], [1, 0])],
)
def test_the_other_of_two_classes(cells, labels):
    columns, problems = read_labels({"is_metal": cells}, NONE, ["a", "b"])
    assert columns[0].labels.tolist() == labels
    assert not problems


def test_folds_from_one():
    assert from_one([0, 1, 2]) == ""
    assert from_one([]) == ""
    assert "there are 1 to 5" in from_one([1, 2, 3, 4, 5])


def test_reasons_are_said_once():
    problems = [
        Problem(
            "unreadable file", "", f"/x/{n}.CHGCAR: after {n} numbers", row=n, file=f"{n}.CHGCAR"
        )
        for n in range(2, 26)
    ] + [Problem("bookkeeping", "", f"by its name: [{n}]", column=n) for n in ("a", "b")]
    first, second = describe(problems)
    assert "row 2, 2.CHGCAR" in first
    assert "24 such, rows 2 to 25" in first
    assert "2 such, a, b" in second


def test_electrons_of_all_shipped_densities_agree():
    with tarfile.open(SHIPPED) as archive:
        rows = list(csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines()))
    species = []
    for row in rows:
        formula = Composition(row["formula"])
        units = round(int(row["nsites"]) / formula.num_atoms)
        atoms = [[element.Z] * round(number * units) for element, number in formula.items()]
        species.append(np.concatenate(atoms).astype(int))
    electrons = np.array([float(row["num_electrons"]) for row in rows])
    assert len(rows) == 840
    assert odd_ones(electrons, species) == []
    draw = np.random.default_rng(0)
    for factor in (0.5, 1 / 0.529177**3, 0.529177**3):
        odd = draw.choice(len(rows), 8, replace=False)
        spoilt = electrons.copy()
        spoilt[odd] *= factor
        assert {found.place for found in odd_ones(spoilt, species)} <= set(odd)
        assert len(odd_ones(spoilt, species)) >= 7


def test_elements_that_occur_once_are_not_judged():
    species = [np.array([14, 14]), np.array([32]), np.array([14])]
    assert odd_ones([8.0, 2.0, 4.0], species) == []
    assert odd_ones([], []) == []


def test_certain_cases_are_left_out_and_said(tmp_path):
    """Next to no electrons, or a potential by name that is no density by number."""
    files = {f"m{n}.CHGCAR": silicon(8.0, 5.4 + n / 100) for n in range(6)}
    files |= {"diff.CHGCAR": silicon(1e-3, 5.6), "LOCPOT.x": silicon(33.7, 5.7)}
    files |= {"ELFCAR.y": silicon(8.0, 5.8)}
    table = "material_id,file,tau,fold\n" + "".join(
        f"m{n},{name},{n},{n % 5}\n" for n, name in enumerate(files)
    )
    folder = make(tmp_path / "folder", files, table)
    builder = tfds_builders.load_builder("density_folder/grid24", tmp_path / "d", source=folder)
    builder.download_and_prepare()
    with Path(builder.problems_path).open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "read as"]
    kinds = {row["file"]: (row["kind"], row["consequence"]) for row in rows}
    assert kinds == {
        "diff.CHGCAR": ("no density", "row left out"), "LOCPOT.x": ("no density", "row left out"),
        "ELFCAR.y": ("doubtful density", "kept"),
    }
    assert builder.info.metadata["materials"] == 7


def test_without_labels_every_material_is_taken_once(tmp_path):
    """Rows of a table keep their ids; of other runs and files the density alone is taken."""
    files = {
        "mp-1/CHGCAR": "a", "mp-1/AECCAR0": "b", "mp-1/CHG": "c", "mp-2.cube.gz": "d",
        "mp-2.cube": "e", "deep/mp-3/CHG": "f", "CHGCAR_mp-4": "g", "x/mp-5.cube": "h",
        "y/mp-5.cube": "i", "mp-6/CHGDIFF.vasp": "j", "mp-6/LOCPOT.vasp": "k", "old/CHGCAR~": "l",
    }
    inventory = take_inventory(make(tmp_path, files, "file,tau\nmp-2.cube,\n"), labels="none")
    found = {row.material_id: (row.file, row.line) for row in inventory.rows}
    assert found == {
        "mp-2.cube": ("mp-2.cube", 2), "mp-1": ("mp-1/CHGCAR", None), "mp-4": ("CHGCAR_mp-4", None),
        "deep/mp-3": ("deep/mp-3/CHG", None), "x/mp-5.cube": ("x/mp-5.cube", None),
        "y/mp-5.cube": ("y/mp-5.cube", None),
    }
    assert not inventory.columns
    assert not inventory.problems
    assert inventory.unusable() == ""
    (tmp_path / "labels.csv").unlink()
    alone = take_inventory(tmp_path, labels="optional")
    assert "mp-2" in {row.material_id for row in alone.rows}
    with pytest.raises(DatasetSourceError, match="needs a table"):
        take_inventory(tmp_path, "fold", "none")
    with pytest.raises(DatasetSourceError, match="labels='no' is not one of"):
        take_inventory(tmp_path, labels="no")
