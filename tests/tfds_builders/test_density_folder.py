"""The builder of a folder: what it makes of real densities, and of everything that is wrong."""

import csv
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

import tfds_builders
from densityjax import predict
from densityjax.configs import folder as folder_config
from densityjax.data.dataset import resolve_targets
from densityjax.density.reader import read_density
from densityjax.report.run_files import read_run
from densityjax.runtime.errors import UserError
from densityjax.targets import TARGETS, dataset_targets, specs_from_json
from densityjax.training import grouped_training
from densityjax.training.grouped_training import train_groups
from tests.tfds_builders.test_elastic_densities import SHIPPED
from tfds_builders import __main__ as command
from tfds_builders.density_folder import density_folder_dataset_builder as module
from tfds_builders.density_folder.folds import assign_folds
from tfds_builders.density_folder.headers import split_header
from tfds_builders.density_folder.inventory import take_inventory
from tfds_builders.density_folder.labels import find_spec, read_labels
from tfds_builders.density_folder.settings import read_settings
from tfds_builders.errors import DatasetSourceError

NUM_FILES = 30
NAME = "density_folder/grid24"


def write_table(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory) -> Path:
    """30 small real densities with labels: known targets, a custom one, classes."""
    root = tmp_path_factory.mktemp("source")
    with tarfile.open(SHIPPED) as archive:
        rows = list(csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines()))
        rows = sorted(rows, key=lambda row: archive.getmember(row["file"]).size)
        cubic = [row for row in rows if row["crystal_system"] == "cubic"][: NUM_FILES // 2]
        others = [row for row in rows if row["crystal_system"] != "cubic"][: NUM_FILES // 2]
        rows = sorted(cubic + others, key=lambda row: row["material_id"])
        for row in rows:
            (root / row["file"]).parent.mkdir(exist_ok=True)
            (root / row["file"]).write_bytes(archive.extractfile(row["file"]).read())
    table = [
        {name: row[name] for name in ("material_id", "formula", "bulk_modulus", "crystal_system")}
        | {"Fermi level (meV)": str(1000 * float(row["fermi_energy"]))}
        | {"heavy": "yes" if float(row["density"]) > 8 else "no"}
        for row in rows
    ]
    write_table(root, table)
    return root


@pytest.fixture
def folder(real_folder, tmp_path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(real_folder, tmp_path / "folder")


@pytest.fixture(scope="module")
def built(real_folder, tmp_path_factory):
    builder = tfds_builders.load_builder(
        NAME, tmp_path_factory.mktemp("data"), source=real_folder, workers=2
    )
    builder.download_and_prepare()
    return builder


def records(builder) -> dict[str, dict]:
    return {r["material_id"].decode(): r for s in builder.as_data_source().values() for r in s}


def listed(builder) -> list[tuple[str, str]]:
    """(kind, id or file or column) of each problem."""
    with builder.problems_path.open(newline="") as file:
        return [
            (row["kind"], row["material_id"] or row["file"] or row["column"])
            for row in csv.DictReader(file)
        ]


def test_records_agree_with_files_and_labels(built, real_folder):
    found, rows = records(built), read_rows(real_folder)
    assert set(found) == {row["material_id"] for row in rows}
    assert listed(built) == []
    known = dataset_targets(built)
    assert [*known] == ["bulk_modulus", "crystal_system", "Fermi_level", "heavy"]
    assert known["bulk_modulus"] == TARGETS["bulk_modulus"]
    assert known["crystal_system"] == TARGETS["crystal_system"]
    assert (known["Fermi_level"].unit, known["Fermi_level"].kind) == ("meV", "regression")
    assert known["heavy"].classes == ("no", "yes")
    for index, row in enumerate(rows):
        record = found[row["material_id"]]
        density = read_density(real_folder / "densities" / f"{row['material_id']}.CHGCAR.xz")
        volume = abs(np.linalg.det(record["lattice"].astype(float)))
        integral = record["density"][..., 0].mean(dtype=float) * volume
        assert integral == pytest.approx(density.num_electrons, rel=1e-4)
        assert record["formula"].decode() == row["formula"]
        assert record["index"] == index
        targets = record["targets"]
        assert targets["Fermi_level"] == np.float32(row["Fermi level (meV)"])
        assert known["crystal_system"].classes[targets["crystal_system"]] == row["crystal_system"]
        assert known["heavy"].classes[targets["heavy"]] == row["heavy"]
    folds = [len(source) for source in built.as_data_source().values()]
    assert len(folds) == 5
    assert max(folds) - min(folds) <= 2
    assert "tensorflow" not in sys.modules


def test_one_process_builds_the_same(built, real_folder, tmp_path):
    """Two processes or one, and on from where a build was killed."""
    again = tfds_builders.load_builder(NAME, tmp_path, source=real_folder, workers=1)
    calls = []
    original = module.staging.process

    def killed_at_ten(path: str, size: int):
        calls.append(path)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return original(path, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.staging, "process", killed_at_ten)
        with pytest.raises(KeyboardInterrupt):
            again.download_and_prepare()
        assert not again.is_prepared()
        again.download_and_prepare()
    assert len(calls) == 1 + NUM_FILES
    assert tfds_builders.fingerprint(again) == tfds_builders.fingerprint(built)
    for name, record in records(again).items():
        np.testing.assert_array_equal(record["density"], records(built)[name]["density"])
        break
    assert not list(tmp_path.rglob("staging"))


def test_opens_without_the_folder(built):
    config = f"density_folder/{built.builder_config.name}"
    reader = tfds_builders.load_builder(config, built.data_dir_root)
    assert tfds_builders.fingerprint(reader) == tfds_builders.fingerprint(built)
    assert dataset_targets(reader) == dataset_targets(built)
    with pytest.raises(DatasetSourceError, match=r"--config\.data\.source"):
        tfds_builders.load_builder("density_folder/grid24-0123456789ab", built.data_dir_root)
    with pytest.raises(DatasetSourceError, match=r"config\.data\.source is empty"):
        tfds_builders.load_builder(NAME, built.data_dir_root)


def test_everything_wrong_is_listed_and_nothing_else_is_lost(folder, tmp_path, capsys):
    rows = read_rows(folder)
    densities = folder / "densities"
    ids = [row["material_id"] for row in rows]
    (densities / f"{ids[0]}.CHGCAR.xz").unlink()
    (densities / f"{ids[1]}.CHGCAR.xz").unlink()
    (densities / f"{ids[1]}.CHGCAR").write_text("not a density\n")
    same = lzma.decompress((densities / f"{ids[3]}.CHGCAR.xz").read_bytes())
    (densities / f"{ids[2]}.CHGCAR.xz").unlink()
    (densities / f"{ids[2]}.CHGCAR.gz").write_bytes(gzip.compress(same))
    (densities / "alone.CHGCAR.xz").write_bytes((densities / f"{ids[4]}.CHGCAR.xz").read_bytes())
    rows[5]["bulk_modulus"] = "-3"
    rows[6]["bulk_modulus"] = "inf"
    rows[7]["bulk_modulus"] = "1e9"
    rows[8]["bulk_modulus"] = "high"
    rows[9]["crystal_system"] = "cubical"
    rows[10] |= dict.fromkeys(("bulk_modulus", "crystal_system", "Fermi level (meV)", "heavy"), "")
    rows = [row | {"note": f"text {place}"} for place, row in enumerate(rows)]
    rows += [rows[4] | {"bulk_modulus": "1"}, rows[4] | {"material_id": ""}]
    write_table(folder, rows)

    builder = tfds_builders.load_builder(NAME, tmp_path / "data", source=folder)
    builder.download_and_prepare()
    assert listed(builder) == [
        ("bookkeeping", "note"),
        ("density without labels", "densities/alone.CHGCAR.xz"),
        ("duplicate content", ids[3]),
        ("duplicate id", ids[4]),
        ("exploding label", ids[7]),
        *(("impossible label", ids[place]) for place in (5, 6, 8, 9)),
        ("missing file", ids[0]),
        ("no density named", ""),
        ("unreadable file", ids[1]),
    ]
    printed = capsys.readouterr().err
    assert str(builder.problems_path) in printed
    assert "4 impossible label" in printed
    found = records(builder)
    assert set(found) == set(ids) - {ids[0], ids[1], ids[3]}
    for place in (5, 6, 7, 8, 10):
        assert np.isnan(found[ids[place]]["targets"]["bulk_modulus"])
    assert found[ids[9]]["targets"]["crystal_system"] == -1
    assert found[ids[4]]["targets"]["bulk_modulus"] == np.float32(rows[4]["bulk_modulus"])

    for place in ("data", "elsewhere"):  # built before, or not
        strict = tfds_builders.load_builder(NAME, tmp_path / place, source=folder, strict=True)
        with pytest.raises(DatasetSourceError, match=r"1 duplicate id.*problems\.csv"):
            strict.download_and_prepare()
    assert not strict.is_prepared()


def test_one_odd_entry_is_a_row_of_the_table(folder, tmp_path):
    """Links to nothing, names no file can have, folds no record can hold, a link to the root."""
    rows = [row | {"fold": str(n % 3)} for n, row in enumerate(read_rows(folder))]
    densities = folder / "densities"
    for row in rows:
        row["file"] = f"densities/{row['material_id']}.CHGCAR.xz"
    (folder / rows[0]["file"]).unlink()
    (folder / rows[0]["file"]).symlink_to("/nowhere/annex/object")  # of a row
    (densities / "alone.CHGCAR.xz").symlink_to(densities / "no")  # of none
    (folder / "deep").mkdir()
    (folder / "deep" / "all").symlink_to("/")
    (folder / "deep" / "processes").symlink_to("/proc")
    (folder / "deep" / "circle").symlink_to("..")
    (folder / "more").symlink_to(tmp_path / "more")  # a link to nothing that is no density
    rows[1]["file"] = "x" * 300
    rows[2]["file"] = "a\0b"
    rows[3]["fold"], rows[4]["fold"], rows[5]["fold"] = "99999999999", "3000000000", "9" * 5000
    rows[6]["fold"] = "-1"
    os.mkfifo(densities / "pipe.CHGCAR")
    write_table(folder, rows)
    builder = tfds_builders.load_builder(NAME, tmp_path / "data", source=folder)
    builder.download_and_prepare()
    ids = [row["material_id"] for row in rows]
    found = listed(builder)
    assert set(records(builder)) == set(ids[7:])
    assert {row for row in found if row[0] == "missing file"} == {
        *(("missing file", ids[n]) for n in (0, 1, 2)),
        ("missing file", rows[0]["file"]), ("missing file", "densities/alone.CHGCAR.xz"),
    }
    assert [name for kind, name in found if kind == "no fold"] == ids[3:7]
    assert {name for kind, name in found if kind == "link not followed"} == {
        "deep/all", "deep/processes"
    }
    # Once the content is there it is another dataset.
    before = take_inventory(folder).digest
    shutil.copy(folder / rows[10]["file"], densities / "no")
    assert take_inventory(folder).digest != before


def test_memory_and_disk_errors_of_one_file_are_its_own(folder, tmp_path, monkeypatch):
    ids = [row["material_id"] for row in read_rows(folder)]
    original = module.staging.read_density

    def read(path):
        if ids[3] in path:
            raise MemoryError
        if ids[4] in path:
            raise OSError(5, "Input/output error", path)
        return original(path)

    monkeypatch.setattr(module.staging, "read_density", read)
    builder = tfds_builders.load_builder(NAME, tmp_path / "data", source=folder)
    builder.download_and_prepare()
    assert set(records(builder)) == {*ids[:3], *ids[5:]}
    assert listed(builder) == [("unreadable file", ids[3]), ("unreadable file", ids[4])]


def test_columns_in_any_script(folder, tmp_path):
    rows = read_rows(folder)
    names = ("密度", "硬度", "α", "β", "Härte", "Hürte (GPa)", "плотность")
    write_table(folder, [
        row | {name: str(n * 1.5 + len(name)) for name in names} for n, row in enumerate(rows)
    ])
    inventory = take_inventory(folder)
    found = [column.spec.name for column in inventory.columns]
    assert found[4:] == ["密度", "硬度", "α", "β", "Härte", "Hürte", "плотность"]
    builder = tfds_builders.load_builder(NAME, tmp_path / "data", source=folder)
    builder.download_and_prepare()
    record = records(builder)[rows[3]["material_id"]]
    assert record["targets"]["密度"] == np.float32(3 * 1.5 + 2)
    reader = tfds_builders.load_builder(
        f"density_folder/{builder.builder_config.name}", tmp_path / "data"
    )
    assert tfds_builders.fingerprint(reader) == tfds_builders.fingerprint(builder)
    for pair in (("a b", "a-b"), ("§", "$"), ("Ha\u0308rte", "H\u00e4rte")):  # ä in two ways
        write_table(folder, [
            row | {name: str(n + 0.5) for name in pair} for n, row in enumerate(rows)
        ])
        with pytest.raises(DatasetSourceError) as error:
            take_inventory(folder)
        assert all(f"'{name}'" in str(error.value) for name in pair)


def test_the_digest_is_of_table_files_and_format(tmp_path):
    """Of the digest as it always was: an existing data/ is found again."""
    (tmp_path / "a.CHGCAR").write_text("x")
    (tmp_path / "labels.csv").write_text("file,tau\na.CHGCAR,1\n")
    os.utime(tmp_path / "a.CHGCAR", ns=(5, 7))
    content = b"4 system\n" + (tmp_path / "labels.csv").read_bytes()
    content += b"\0none\0a.CHGCAR\0" + b"1\0" + b"7\n"
    assert take_inventory(tmp_path).digest == hashlib.sha256(content).hexdigest()[:12]


def test_a_header_of_blanks_takes_no_time():
    start = time.perf_counter()
    assert split_header("tau" + " " * 131_000 + "x") == ("tau_x", None)
    assert split_header("tau" + " " * 100_000 + "(ps)" + " " * 30_000) == ("tau", "ps")
    assert time.perf_counter() - start < 0.5
    assert split_header("a (b) (c)") == ("a_b", "c")
    assert split_header("a (b) c") == ("a_b_c", None)
    assert split_header("a ((b)") == ("a", "b")
    assert split_header("a (b))") == ("a_b", None)
    assert split_header("(ps)") == ("target_", "ps")


def test_formulas_in_the_table_are_not_run(folder, tmp_path):
    rows = read_rows(folder)
    rows[1]["material_id"] = "=HYPERLINK(1)"
    rows[2]["bulk_modulus"], rows[3]["bulk_modulus"] = "-2+3", "-17"
    write_table(folder, rows)
    builder = tfds_builders.load_builder(NAME, tmp_path / "data", source=folder)
    builder.download_and_prepare()
    with builder.problems_path.open(newline="") as file:
        cells = [cell for row in csv.DictReader(file) for cell in row.values()]
    assert {"'=HYPERLINK(1)", "'-2+3", "-17"} <= set(cells)


def test_a_build_without_a_terminal_logs_plain_lines(folder, tmp_path):
    command_line = [
        sys.executable, "-m", "tfds_builders", NAME, f"--data_dir={tmp_path / 'a[1]*'}",
        f"--source={folder}",
    ]
    done = subprocess.run(command_line, capture_output=True, check=True)
    assert not re.search(rb"[\r\x1b]", done.stderr + done.stdout)
    assert f"packed {NUM_FILES} of {NUM_FILES}".encode() in done.stderr
    assert len(done.stderr.splitlines()) < 20
    # A folder whose name is a glob pattern: found again.
    built = tfds_builders.load_builder(NAME, tmp_path / "a[1]*", source=folder)
    assert built.is_prepared()
    assert len(records(built)) == NUM_FILES


def test_changed_folder_is_another_dataset(folder):
    before = take_inventory(folder).digest
    assert take_inventory(folder).digest == before
    assert take_inventory(folder, "id").digest != before
    path = next((folder / "densities").iterdir())
    os.utime(path, ns=(1, 1))
    touched = take_inventory(folder).digest
    path.rename(path.with_name("renamed.CHGCAR.xz"))
    renamed = take_inventory(folder).digest
    rows = read_rows(folder)
    rows[20]["bulk_modulus"] = "11"
    write_table(folder, rows)
    relabelled = take_inventory(folder).digest
    (folder / "targets.toml").write_text("[heavy]\nlabel = 'Heavy or not'\n")
    found = {before, touched, renamed, relabelled, take_inventory(folder).digest}
    assert len(found) == 5


def test_copied_folder_has_the_same_fingerprint(built, real_folder, tmp_path):
    copy = shutil.copytree(real_folder, tmp_path / "copy", copy_function=shutil.copy)  # new times
    again = tfds_builders.load_builder(NAME, tmp_path, source=copy)
    again.download_and_prepare()
    assert again.builder_config.name != built.builder_config.name
    assert tfds_builders.fingerprint(again) == tfds_builders.fingerprint(built)


def test_files_are_found_by_id(folder):
    rows, densities = read_rows(folder)[:4], folder / "densities"
    ids = [row["material_id"] for row in rows]
    (densities / f"{ids[0]}.CHGCAR.xz").rename(densities / f"CHGCAR_{ids[0]}.xz")
    (folder / ids[1]).mkdir()
    (densities / f"{ids[1]}.CHGCAR.xz").rename(folder / ids[1] / "CHGCAR.xz")
    (densities / f"{ids[2]}.CHGCAR.xz").rename(folder / f"{ids[2]}.vasp.xz")
    shutil.copy(densities / f"{ids[3]}.CHGCAR.xz", densities / f"{ids[3]}.AECCAR0.xz")  # a part
    shutil.copy(densities / f"{ids[3]}.CHGCAR.xz", densities / f"CHGCAR_{ids[3]}.xz")
    write_table(folder, rows)
    inventory = take_inventory(folder)
    assert [row.file for row in inventory.rows] == [
        f"densities/CHGCAR_{ids[0]}.xz", f"{ids[1]}/CHGCAR.xz", f"{ids[2]}.vasp.xz"
    ]
    (ambiguous,) = [p for p in inventory.problems if p.kind == "missing file"]
    assert ambiguous.material_id == ids[3]
    assert "several files fit" in ambiguous.message


def test_column_file_alone_and_semicolons(folder):
    rows = read_rows(folder)
    lines = ["\ufefffile;tau"]
    lines += [f"densities/{row['material_id']}.CHGCAR.xz;{n}" for n, row in enumerate(rows)]
    lines += [lines[1]]
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    inventory = take_inventory(folder)
    ids = [line.split(";")[0] for line in lines[1:-1]]
    assert [row.material_id for row in inventory.rows] == ids
    assert [p.kind for p in inventory.problems] == ["duplicate id"]
    assert inventory.columns[0].labels.tolist() == [*range(NUM_FILES), 0]


def test_folds():
    systems = [f"s{n // 3}" for n in range(60)]
    ids = [f"m{n}" for n in range(60)]
    folds = assign_folds("system", ids, systems, [None] * 60)
    assert all(len({f for f, s in zip(folds, systems) if s == name}) == 1 for name in systems)
    assert [folds.count(fold) for fold in range(5)] == [12] * 5
    backwards = assign_folds("system", ids[::-1], systems[::-1], [None] * 60)
    assert backwards == folds[::-1]
    by_id = assign_folds("id", ids, systems, [None] * 60)
    assert assign_folds("id", ids[:50], systems[:50], [None] * 50) == by_id[:50]
    assert assign_folds("fold", ids, systems, list(range(60))) == list(range(60))
    with pytest.raises(DatasetSourceError, match=r"leave fold 1, 2, 3, 4 of 5 .*split=id"):
        assign_folds("system", ids, ["Na-Cl"] * 60, [None] * 60)


def test_fold_column(folder):
    rows = read_rows(folder)
    rows = [row | {"fold": str(place % 3)} for place, row in enumerate(rows)]
    rows[4]["fold"] = "train"
    write_table(folder, rows)
    inventory = take_inventory(folder)
    assert inventory.split == "fold"
    assert [row.fold for row in inventory.rows] == [n % 3 for n in range(NUM_FILES) if n != 4]
    assert [(p.kind, p.row) for p in inventory.problems] == [("no fold", 6)]


@pytest.mark.parametrize(
    ("texts", "fields", "expected"),
    [
        (["1.5", "2", "", "x"], {}, ("regression", ())),
        (["0", "1", "1.0", "nan"], {}, ("classification", ("0", "1"))),
        (["a", "b", "a", "b"], {}, ("classification", ("a", "b"))),
        (["10", "2", "10", "2"], {"kind": "classification"}, ("classification", ("2", "10"))),
        (["b", "a"], {"classes": ["b", "a"]}, ("classification", ("b", "a"))),
        (["0", "1", "0"], {"kind": "regression"}, ("regression", ())),
        (["a", "b", "c", "a"], {}, "3 different texts in 4 rows"),
        (["", "NaN"], {}, "empty"),
    ],
)
def test_inference(texts, fields, expected):
    spec = find_spec("tau", texts, fields)
    if isinstance(expected, str):
        assert expected in spec
    else:
        assert (spec.kind, spec.classes) == expected


def test_headers_and_known_targets():
    assert split_header("Band Gap (eV)") == ("band_gap", "eV")
    assert split_header("2nd peak [1/Å]") == ("target_2nd_peak", "1/Å")
    assert find_spec("Volume", ["1", "2"], {}) == TARGETS["volume"]
    other = find_spec("volume (nm³)", ["1", "2"], {})
    assert (other.unit, other.identity, other.per) == ("nm³", None, "electron")
    assert find_spec("is_metal", ["0", "1"], {}) == TARGETS["is_metal"]
    custom = find_spec("tau", ["1"], {"unit": "s", "transform": "log", "per": "volume"})
    assert (custom.unit, custom.transform, custom.per) == ("s", "log", "volume")


def test_labels_that_explode_are_judged_on_the_trained_scale(tmp_path):
    texts = [str(10.0**n) for n in range(-10, 10)]
    rows = [str(n) for n in range(20)]
    (tmp_path / "targets.toml").write_text("[tau]\ntransform = 'log'\n[kept]\nkeep_outliers=true\n")
    cells = {"tau": [*texts, "-1"], "kept": [*rows, "1e9"], "plain": [*rows, "1e9"]}
    columns, problems = read_labels(cells, read_settings(tmp_path, list(cells)), range(21))
    assert [(p.kind, p.column, p.value) for p in problems] == [
        ("impossible label", "tau", "-1"), ("exploding label", "plain", "1e9"),
    ]
    assert [int(np.isfinite(column.labels).sum()) for column in columns] == [20, 21, 20]


@pytest.mark.parametrize(
    ("toml", "hint"),
    [
        ("[heavi]\nunit = 'g'", "did you mean heavy"),
        ("[heavy]\nunits = 'g'", "did you mean unit"),
        ("[heavy]\nkind = 'class'", "one of regression, classification"),
        ("[heavy]\nclasses = ['no']", "two or more names"),
        ("heavy = 3", "must be a section"),
        ("ignore = 'heavy'", "must be a list"),
        ("[heavy", "TOML"),
    ],
)
def test_bad_targets_toml(folder, toml, hint):
    (folder / "targets.toml").write_text(toml)
    with pytest.raises(DatasetSourceError, match=hint) as error:
        take_inventory(folder)
    assert "targets.toml" in str(error.value)


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        (None, "put a table there"),
        ("", "neither"),
        ("name,tau\n1,2\n", "neither a column 'file' nor 'material_id'"),
        ("file,tau\n", "no rows"),
        ("file,tau\na,1,2\n", "row 2 has 3 cells"),
        ("file,tau,tau\na,1,2\n", "'tau' twice"),
    ],
)
def test_bad_table(folder, table, hint):
    (folder / "labels.csv").unlink()
    if table is not None:
        (folder / "labels.csv").write_text(table)
    with pytest.raises(DatasetSourceError, match=hint):
        take_inventory(folder)


@pytest.mark.parametrize(
    ("table", "reason", "problem"),
    [
        (
            "file,tau\nno.CHGCAR,1\nnot.CHGCAR,2\n", "no row of labels.csv has a density",
            ("missing file", "no.CHGCAR"),
        ),
        ("file\nno.CHGCAR\n", "no column that is a target", ("missing file", "no.CHGCAR")),
        (
            "file,note\nno.CHGCAR,a\nnot.CHGCAR,b\n", "no column that is a target",
            ("bookkeeping", "note"),
        ),
    ],
)
def test_a_folder_of_which_nothing_is_left_has_its_table_of_problems(
    folder, tmp_path, table, reason, problem
):
    (folder / "labels.csv").write_text(table)
    builder = tfds_builders.load_builder(NAME, tmp_path / "data", source=folder)
    with pytest.raises(DatasetSourceError, match=rf"{reason}.*problems\.csv"):
        builder.download_and_prepare()
    assert problem in listed(builder)
    assert not builder.is_prepared()


@pytest.mark.slow
def test_trains_and_predicts_with_nothing_else_written(built, real_folder, tmp_path):
    """The command of the README, small: custom targets reach groups, report and prediction."""
    config = folder_config.get_config()
    config.data.name, config.data.data_dir = NAME, str(built.data_dir_root)
    config.data.source, config.data.strict = str(real_folder), True
    config.view.size, config.view.spacing = 8, 0.8
    config.view.validation_views = config.view.evaluation_views = 1
    config.model.widths, config.model.blocks, config.model.head_width = (8,), (1,), 8
    config.model.attention, config.model.dilations = (), (1,)
    config.train.epochs = config.train.evaluate_every_epochs = 1
    metrics = train_groups(config, tmp_path)
    targets = list(dataset_targets(built))
    assert json.loads((tmp_path / "config.json").read_text())["targets"] == targets
    assert list(metrics["test"]) == targets
    assert specs_from_json(json.loads((tmp_path / "targets.json").read_text())) == dataset_targets(
        built
    )
    assert read_run(tmp_path).specs == tuple(dataset_targets(built).values())
    file = next((real_folder / "densities").iterdir())
    out = tmp_path / "table.csv"
    assert predict.main([f"--workdir={tmp_path}", f"--out={out}", str(file)]) == 0
    with out.open() as table:
        rows = {row["target"]: row for row in csv.DictReader(table)}
    assert [*rows] == targets
    assert rows["Fermi_level"]["unit"] == "meV"
    assert np.isfinite(float(rows["Fermi_level"]["prediction"]))
    assert rows["heavy"]["prediction"] in ("no", "yes")


def test_targets_of_a_folder_are_checked_before_training(built, real_folder):
    config = folder_config.get_config()
    config.data.name, config.data.data_dir = NAME, str(built.data_dir_root)
    with pytest.raises(DatasetSourceError, match=r"config\.data\.source is empty"):
        resolve_targets(config)
    config.data.source = str(real_folder)
    config.targets = ("heavi",)
    with pytest.raises((ValueError, UserError), match="did you mean heavy"):
        resolve_targets(config)
    config.targets = ("heavy",)
    assert resolve_targets(config).targets == ("heavy",)
    # Built, and read where the folder is not, as on the hosts of a pod.
    config.data.source, config.data.build = "", False
    config.data.name = f"density_folder/{built.builder_config.name}"
    assert grouped_training.resolve(resolve_targets(config)) == (("heavy",),)
    config.targets = ("heavi",)
    with pytest.raises((ValueError, UserError), match="did you mean heavy"):
        resolve_targets(config)
    config.data.name, config.data.source = "elastic_densities/grid32", str(real_folder)
    with pytest.raises(DatasetSourceError, match="'elastic_densities' takes no source"):
        resolve_targets(config)


def test_command_builds(real_folder, built, tmp_path, monkeypatch, capsys):
    arguments = ["tfds_builders", NAME, f"--data_dir={built.data_dir_root}"]
    monkeypatch.setattr(sys, "argv", [*arguments, f"--source={real_folder}", "--strict"])
    command.main()
    assert tfds_builders.fingerprint(built) in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "--source=/nowhere"])
    with pytest.raises(DatasetSourceError, match="/nowhere is not a folder"):
        command.main()
    monkeypatch.setattr(sys, "argv", ["x", "lemat_rho/grid32", "--source=/nowhere", "--beam", "x"])
    with pytest.raises(DatasetSourceError, match="'lemat_rho' is built without Apache Beam"):
        command.main()


@pytest.mark.slow
def test_beam_builds_the_same(built, real_folder, tmp_path):
    """Two workers of Apache Beam's local runner; needs the extra `beam`."""
    pytest.importorskip("apache_beam")
    options = (
        "runner=DirectRunner", "direct_running_mode=multi_processing", "direct_num_workers=2",
    )
    builder = tfds_builders.load_builder(NAME, tmp_path, source=real_folder)
    builder.download_and_prepare(download_config=command.beam_config(options))
    assert tfds_builders.fingerprint(builder) == tfds_builders.fingerprint(built)
    found, expected = records(builder), records(built)
    assert found.keys() == expected.keys()
    for name, record in expected.items():
        for field in ("density", "lattice", "fold", "index"):
            np.testing.assert_array_equal(found[name][field], record[field])
    assert "tensorflow" not in sys.modules
    with pytest.raises(DatasetSourceError, match="knows no option direct_num_worker"):
        command.beam_config(["direct_num_worker=2"])
