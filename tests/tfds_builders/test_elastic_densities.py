import csv
import hashlib
import io
import pickle
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import tfds_builders
from densityjax import targets
from densityjax.density.reader import read_density_bytes
from tfds_builders import __main__ as command
from tfds_builders.elastic_densities.elastic_densities_dataset_builder import (
    TARGET_NAMES,
    Builder,
)
from tfds_builders.errors import DatasetSourceError, UnknownDatasetError

SHIPPED = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
NAME = "elastic_densities/grid24"


@pytest.fixture(scope="module")
def shipped() -> dict[str, bytes]:
    """The files in the archive of 1.0 that ships with the repository."""
    with tarfile.open(SHIPPED) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}


@pytest.fixture(scope="module")
def rows(shipped) -> list[dict[str, str]]:
    return list(csv.DictReader(shipped["labels.csv"].decode().splitlines()))


@pytest.fixture(scope="module")
def chosen(rows) -> list[dict[str, str]]:
    """Of each fold one material with spin and one without, the 14 x 14 x 122 cell among them."""
    found = {(row["fold"], float(row["magnetic_moment"]) > 0.5): row for row in reversed(rows)}
    long_cell = next(row for row in rows if row["material_id"] == "mp-606949")
    found[long_cell["fold"], False] = long_cell
    assert len(found) == 10
    return list(found.values())


def pack(path: Path, rows: list[dict[str, str]], files: dict[str, bytes]) -> Path:
    """Writes an archive of these rows, taking the density files from `files` if they are there."""
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0].keys())
    table.writeheader()
    table.writerows(rows)
    members = {row["file"]: files[row["file"]] for row in rows if row["file"] in files}
    members["labels.csv"] = text.getvalue().encode()
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def archive(chosen, shipped, tmp_path_factory) -> Path:
    return pack(tmp_path_factory.mktemp("archive") / "sample.tar", chosen, shipped)


@pytest.fixture(scope="module")
def builder(archive, tmp_path_factory) -> Builder:
    builder = tfds_builders.load_builder(NAME, tmp_path_factory.mktemp("data"), archive)
    builder.download_and_prepare()
    return builder


def records(builder: Builder) -> dict[str, dict]:
    sources = builder.as_data_source()
    return {record["material_id"].decode(): record for s in sources.values() for record in s}


def test_shipped_archive_is_whole(shipped, rows):
    info = Builder.url_infos[SHIPPED.name]
    data = SHIPPED.read_bytes()
    assert (info.size, info.checksum) == (len(data), hashlib.sha256(data).hexdigest())
    assert len(rows) == 840
    assert {row["file"] for row in rows} == set(shipped) - {"labels.csv", "README.md"}
    for row in rows:
        assert hashlib.sha256(shipped[row["file"]]).hexdigest() == row["sha256"]
    fold_of = {}
    for row in rows:
        assert fold_of.setdefault(row["chemical_system"], row["fold"]) == row["fold"]


def test_records_agree_with_files_and_labels(builder, chosen, shipped):
    found = records(builder)
    assert set(found) == {row["material_id"] for row in chosen}
    for index, row in enumerate(chosen):
        record = found[row["material_id"]]
        density = read_density_bytes(shipped[row["file"]], row["file"])
        volume = abs(np.linalg.det(record["lattice"].astype(float)))
        assert volume == pytest.approx(float(row["volume"]), rel=1e-5)

        integrals = record["density"].mean((0, 1, 2), dtype=float) * volume
        spin = density.magnetization is not None
        assert record["density"].shape == (24, 24, 24, 2 if spin else 1)
        assert record["density"].dtype == np.float32
        assert integrals[0] == pytest.approx(density.num_electrons, rel=1e-4)
        assert integrals[0] == pytest.approx(float(row["num_electrons"]), rel=1e-4)
        if spin:
            assert abs(integrals[1]) == pytest.approx(float(row["magnetic_moment"]), abs=1e-3)
        assert record["num_electrons"] == np.float32(density.num_electrons)
        assert record["negative_fraction"] == pytest.approx((record["density"][..., 0] < 0).mean())

        assert tuple(record["native_grid"]) == density.values.shape
        assert record["species"].tolist() == density.species.tolist()
        np.testing.assert_array_equal(record["positions"], density.positions.astype(np.float32))
        for name in ("formula", "chemical_system"):
            assert record[name].decode() == row[name] == getattr(density, name)
        assert (record["index"], record["fold"]) == (index, int(row["fold"]))
        assert (record["code"], record["functional"]) == (b"GPAW 22.8", b"PBE")

        assert set(record["targets"]) == set(TARGET_NAMES)
        for name, label in record["targets"].items():
            if name == "crystal_system":
                assert targets.CRYSTAL_SYSTEMS[label] == row[name]
            elif not row.get(name):  # this archive is of 1.0, with six targets fewer
                assert np.isnan(label)
            else:
                assert label == pytest.approx(float(row[name]), rel=1e-6)
    assert any(np.isnan(record["targets"]["debye_temperature"]) for record in found.values())
    assert {record["density"].shape[-1] for record in found.values()} == {1, 2}
    assert tuple(found["mp-606949"]["native_grid"]) == (14, 14, 122)


def test_density_is_sampled_where_the_record_says(builder, shipped, chosen):
    """The long cell's stored voxels against the trigonometric sum of its file's frequencies."""
    row = next(row for row in chosen if row["material_id"] == "mp-606949")
    stored = records(builder)["mp-606949"]["density"][..., 0]
    density = read_density_bytes(shipped[row["file"]], row["file"])
    spectrum = np.fft.fftn(density.values) / density.values.size
    for point in [(0, 0, 0), (5, 7, 3), (23, 1, 12)]:
        waves = []
        for axis, size in enumerate(density.values.shape):
            k = np.fft.fftfreq(size, 1 / size)
            wave = np.exp(2j * np.pi * k * point[axis] / 24)
            wave[2 * abs(k) == size] = np.cos(np.pi * size * point[axis] / 24)
            waves.append(np.where(abs(k) <= 12, wave, 0))
        expected = np.einsum("ijk,i,j,k->", spectrum, *waves).real
        assert stored[point] == pytest.approx(expected, abs=1e-5)


def test_each_fold_is_a_split_of_several_shards(builder, chosen):
    assert set(builder.info.splits) == {f"fold{fold}" for fold in range(5)}
    for fold in range(5):
        source = builder.as_data_source(split=f"fold{fold}")
        assert len(source) == 2
        assert {record["fold"] for record in source} == {fold}
        assert len(builder.info.splits[f"fold{fold}"].filenames) > 1


def test_no_tensorflow_and_pickles(builder):
    again = pickle.loads(pickle.dumps(builder))
    assert tfds_builders.fingerprint(again) == tfds_builders.fingerprint(builder)
    assert again.archives == builder.archives
    assert len(again.as_data_source(split="fold3")) == 2
    assert "tensorflow" not in sys.modules


def test_card_metadata(builder):
    assert "10.1038/sdata.2015.9" in builder.info.citation
    assert "1,151 real inorganic crystals" in builder.info.description
    assert (Path(builder.data_dir) / "LICENSE").read_text() == "CC BY 4.0"


def test_fingerprint_tells_archive_and_config(builder, archive, tmp_path):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    assert tfds_builders.fingerprint(builder).startswith(f"{NAME}:2.0.0 archive {digest} features ")
    reader = tfds_builders.load_builder(NAME, builder.data_dir_root)  # knows no archive
    assert tfds_builders.fingerprint(reader) == tfds_builders.fingerprint(builder)
    message = f"{NAME}:2.0.0 is not in .*; build it with python -m"
    with pytest.raises(DatasetSourceError, match=message):
        tfds_builders.fingerprint(tfds_builders.load_builder(NAME, tmp_path))


def test_rebuilding_returns_at_once_and_a_killed_build_is_cleared(chosen, shipped, tmp_path):
    sample = pack(tmp_path / "sample.tar", chosen, shipped)
    parent = tmp_path / "data" / NAME
    stale = parent / "incomplete.ABCDEF_2.0.0"  # as TFDS names the directory it works in
    stale.mkdir(parents=True)
    (stale / "shard").write_bytes(b"half")
    tfds_builders.load_builder(NAME, tmp_path / "data", sample).download_and_prepare()
    assert not stale.exists()
    sample.unlink()
    again = tfds_builders.load_builder(NAME, tmp_path / "data", sample)
    again.download_and_prepare()  # needs no archive any more
    assert len(records(again)) == 10


def test_a_killed_build_leaves_a_directory_of_that_name(archive, tmp_path, monkeypatch):
    builder = tfds_builders.load_builder(NAME, tmp_path, archive)
    seen = []

    def spy(fold, rows):
        seen.extend(path.name for path in (tmp_path / NAME).glob("incomplete.*_2.0.0"))
        raise KeyboardInterrupt

    monkeypatch.setattr(builder, "_generate_examples", spy)
    with pytest.raises(KeyboardInterrupt):
        builder.download_and_prepare()
    assert len(seen) == 1


def _flip(data: bytes) -> bytes:
    return data[:500] + bytes([data[500] ^ 1]) + data[501:]


def _spoil(kind: str, chosen: list[dict], shipped: dict[str, bytes], path: Path) -> None:
    """Writes an archive that is wrong in one way; the material concerned is the last."""
    row = dict(chosen[-1])
    files = {**shipped, row["file"]: _flip(shipped[row["file"]])}
    if kind == "damaged":
        pass
    elif kind == "damaged, sum right":
        row["sha256"] = hashlib.sha256(files[row["file"]]).hexdigest()
    elif kind == "electrons":
        files, row["num_electrons"] = shipped, str(int(row["num_electrons"]) + 1)
    elif kind == "absent":
        del files[row["file"]]
    elif kind == "cut":
        files = shipped
    pack(path, [*chosen[:-1], row], files)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:9000])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("damaged", "is damaged: its sha256 is not the one in labels.csv; replace"),
        ("damaged, sum right", "compressed data are damaged"),
        ("electrons", "electrons; expected"),
        ("absent", "not found"),
        ("cut", "is damaged or incomplete"),
    ],
)
def test_damaged_sources_are_named(kind, message, chosen, shipped, tmp_path):
    path = tmp_path / "sample.tar"
    _spoil(kind, chosen, shipped, path)
    builder = tfds_builders.load_builder(NAME, tmp_path, path)
    with pytest.raises(DatasetSourceError, match=message) as error:
        builder.download_and_prepare()
    assert str(path) in str(error.value)
    if kind != "cut":
        assert chosen[-1]["file"] in str(error.value)
    assert not builder.is_prepared()
    pack(path, chosen, shipped)
    tfds_builders.load_builder(NAME, tmp_path, path).download_and_prepare()  # repaired
    assert builder.is_prepared()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elastic_densites/grid24", "unknown dataset 'elastic_densites': did you mean elastic"),
        ("qm9/grid24", "unknown dataset 'qm9'; known: density_folder, elastic_densities, lemat"),
        ("elastic_densities/grid33", "has no config 'grid33': did you mean grid32"),
        ("elastic_densities", "has no config ''; known: grid32, grid24, grid48"),
        (f"{NAME}:3.0.0", "has no version '3.0.0'; known: 2.0.0, 1.0.0"),
        ("lemat_rho/grid32:1.0.0", "has no version '1.0.0'; known: 2.0.0$"),
    ],
)
def test_unknown_names_list_close_ones(name, message, tmp_path):
    with pytest.raises(UnknownDatasetError, match=message):
        tfds_builders.load_builder(name, tmp_path)


def test_command_line(archive, tmp_path, monkeypatch, capsys):
    arguments = ["tfds_builders", NAME, f"--data_dir={tmp_path}", f"--archive={archive}"]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()
    assert f"{NAME}:2.0.0 archive" in capsys.readouterr().out
    arguments[2:] = [f"--data_dir={tmp_path}/b", "--archive=no.tar"]
    with pytest.raises(DatasetSourceError, match=r"^no.tar: No such file or directory; replace no"):
        command.main()


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
@pytest.mark.parametrize("content", [None, "", "half", "{}", "[1]"])
def test_damaged_small_files_are_named_with_the_remedy(builder, tmp_path, name, content):
    root = shutil.copytree(builder.data_dir_root, tmp_path / "data")
    path = root / NAME / "2.0.0" / name
    text = path.read_text()
    path.unlink()
    if content is not None:
        path.write_text(text[: len(text) // 2] if content == "half" else content)
    with pytest.raises(DatasetSourceError, match="delete the folder") as error:
        tfds_builders.load_builder(NAME, root)
    assert str(error.value).startswith(f"{path} is damaged (")
    assert f"python -m tfds_builders {NAME} --data_dir={root}" in str(error.value)


def test_options_are_declared(tmp_path):
    with pytest.raises(DatasetSourceError, match=r"takes no split \('id'\).* it takes archive"):
        tfds_builders.load_builder(NAME, tmp_path, split="id")
    with pytest.raises(DatasetSourceError, match=r"takes no archive .* it takes source"):
        tfds_builders.load_builder("lemat_rho/grid32", tmp_path, "x.tar")
    assert not tfds_builders.find_builder(NAME).OWN_TARGETS
    assert tfds_builders.find_builder("density_folder/grid32").OWN_TARGETS


def test_a_full_disk_is_one_line(archive, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("write() failed: No space left on device; writing /x; at byte 1")

    monkeypatch.setattr(tfds.core.GeneratorBasedBuilder, "download_and_prepare", full)
    builder = tfds_builders.load_builder(NAME, tmp_path, archive)
    with pytest.raises(DatasetSourceError, match=r"No space left .* make room"):
        builder.download_and_prepare()
