"""elastic_densities from its two archives, and its older version from the first alone."""

import csv
import dataclasses
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

import tfds_builders
from densityjax.targets import TARGETS, from_intensive, to_intensive
from tests.tfds_builders.test_elastic_densities import NAME, SHIPPED, _flip, pack, records
from tfds_builders.elastic_densities.archives import Archives
from tfds_builders.elastic_densities.elastic_densities_dataset_builder import (
    FIRST_TARGET_NAMES,
    TARGET_NAMES,
    Builder,
)
from tfds_builders.errors import DatasetSourceError

ADDED = SHIPPED.with_name("elastic_densities-2.0.0.tar")
NEW_TARGETS = TARGET_NAMES[len(FIRST_TARGET_NAMES) :]


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}


def table(files: dict[str, bytes]) -> list[dict[str, str]]:
    return list(csv.DictReader(files["labels.csv"].decode().splitlines()))


@pytest.fixture(scope="module")
def shipped() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files in the archives of 1.0 and 2.0."""
    return members(SHIPPED), members(ADDED)


@pytest.fixture(scope="module")
def small(shipped, tmp_path_factory) -> Archives:
    """Two archives of the shipped layout, with two small materials a fold in the first and one
    more in the second."""
    old, new = shipped
    sizes = {name: len(data) for name, data in (old | new).items()}
    by_size = sorted(table(new), key=lambda row: sizes[row["file"]])
    first, both = [], []
    for fold in map(str, range(5)):
        ours = [row for row in by_size if row["fold"] == fold]
        first += [row for row in ours if row["file"] in old][:2]
        both += [row for row in ours if row["file"] in new][:1]
    both = sorted(first + both, key=lambda row: row["material_id"])
    first = [{k: v for k, v in row.items() if k not in NEW_TARGETS} for row in first]
    folder = tmp_path_factory.mktemp("archives")
    paths = (pack(folder / SHIPPED.name, first, old), pack(folder / ADDED.name, both, new))
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return Archives(paths, sums)


def use(monkeypatch, archives: Archives) -> None:
    """Lets builders find these archives where those that ship are."""
    monkeypatch.setattr(
        Builder, "archives",
        property(lambda self: dataclasses.replace(
            archives, paths=archives.paths[: 1 if self.version == "1.0.0" else 2]
        )),
    )


def test_the_second_archive_adds_to_the_first(shipped):
    old, new = shipped
    info = Builder.url_infos[ADDED.name]
    data = ADDED.read_bytes()
    assert (info.size, info.checksum) == (len(data), hashlib.sha256(data).hexdigest())
    rows = table(new)
    added = {row["file"] for row in rows} - set(old)
    assert (len(rows), len(added)) == (1151, 311)
    assert set(new) == added | {"labels.csv", "README.md"}  # no density is carried twice
    fold_of = {}
    for row in rows:
        assert hashlib.sha256((old | new)[row["file"]]).hexdigest() == row["sha256"]
        assert fold_of.setdefault(row["chemical_system"], row["fold"]) == row["fold"]


def test_the_materials_of_the_first_version_keep_labels_and_folds(shipped):
    first, second = ({row["material_id"]: row for row in table(files)} for files in shipped)
    assert len(first) == 840
    columns = {name for row in first.values() for name in row}
    assert columns | set(NEW_TARGETS) == {name for row in second.values() for name in row}
    for name, row in first.items():
        assert {key: second[name][key] for key in columns} == row


def test_the_archive_is_packed_reproducibly():
    with tarfile.open(ADDED) as archive:
        found = archive.getmembers()
    names = [m.name for m in found]
    assert names == ["README.md", "labels.csv", *sorted(names[2:])]
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in found} == {(0, 0, 0, 0o644)}


def test_labels_of_new_targets_survive_their_transforms(shipped):
    rows = table(shipped[1])
    counts = dict.fromkeys(("c11", "c12", "c44"), 326) | {
        "elastic_anisotropy": 696, "refractive_index": 296, "dielectric_constant": 296,
    }
    for name, count in counts.items():
        labels = np.array([float(row[name] or "nan") for row in rows])
        electrons, volume = (
            np.array([float(row[key]) for row in rows]) for key in ("num_electrons", "volume")
        )
        assert np.isfinite(labels).sum() == count
        trained = to_intensive(TARGETS[name], labels, electrons, volume)
        again = from_intensive(TARGETS[name], trained, electrons, volume)
        np.testing.assert_allclose(again, labels, rtol=1e-9)


def test_both_versions_are_built_from_their_archives(small, tmp_path, monkeypatch):
    use(monkeypatch, small)
    second = tfds_builders.load_builder(NAME, tmp_path)
    first = tfds_builders.load_builder(f"{NAME}:1.0.0", tmp_path)
    for builder in (second, first):
        builder.download_and_prepare()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in small.paths]
    both = hashlib.sha256("{}\n{}\n".format(*digests).encode()).hexdigest()
    assert second.info.metadata["archive_sha256"] == both
    assert first.info.metadata["archive_sha256"] == digests[0]
    assert tfds_builders.fingerprint(second).startswith(f"{NAME}:2.0.0 archive {both[:16]} ")
    assert tfds_builders.fingerprint(first).startswith(f"{NAME}:1.0.0 archive {digests[0][:16]} ")

    old, new = records(first), records(second)
    assert (len(old), len(new)) == (10, 15)
    assert set(old) < set(new)
    for name, record in old.items():
        np.testing.assert_array_equal(record["density"], new[name]["density"])
        assert set(record["targets"]) == set(FIRST_TARGET_NAMES)
        assert set(new[name]["targets"]) == set(TARGET_NAMES)
        for target, label in record["targets"].items():
            np.testing.assert_array_equal(label, new[name]["targets"][target])
    with tarfile.open(small.paths[1]) as archive:
        rows = csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines())
    for index, row in enumerate(rows):
        record = new[row["material_id"]]
        assert record["index"] == index
        for target in NEW_TARGETS:
            expected = float(row[target] or "nan")
            assert record["targets"][target] == pytest.approx(expected, rel=1e-6, nan_ok=True)

    again = pickle.loads(pickle.dumps(first))
    assert tfds_builders.fingerprint(again) == tfds_builders.fingerprint(first)
    (Path(first.data_dir) / "metadata.json").write_text("{")
    with pytest.raises(DatasetSourceError, match=f"tfds_builders {NAME}:1.0.0 --data_dir"):
        tfds_builders.load_builder(f"{NAME}:1.0.0", tmp_path)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", ["missing", "damaged"])
def test_a_bad_archive_is_named_before_building(small, place, kind, tmp_path, monkeypatch):
    paths = []
    for path in small.paths:
        paths.append(tmp_path / path.name)
        paths[-1].write_bytes(path.read_bytes())
    if kind == "missing":
        paths[place].unlink()
    else:
        paths[place].write_bytes(_flip(paths[place].read_bytes()))
    use(monkeypatch, dataclasses.replace(small, paths=tuple(paths)))
    builder = tfds_builders.load_builder(NAME, tmp_path / "data")
    reason = {
        "missing": "No such file or directory",
        "damaged": r"is damaged: its sha256 \w+ is not the one in checksums.tsv",
    }[kind]
    with pytest.raises(DatasetSourceError, match=reason) as error:
        builder.download_and_prepare()
    assert str(error.value).startswith(str(paths[place]))
    assert str(error.value).endswith(f"restore it with: git checkout -- {paths[place]}")
    assert not builder.is_prepared()


def test_shipped_archives_are_found_and_checked():
    second = tfds_builders.load_builder(NAME, "nowhere").archives
    assert second.paths == (SHIPPED, ADDED)
    assert set(second.checksums) == {SHIPPED.name, ADDED.name}
    assert tfds_builders.load_builder(f"{NAME}:1.0.0", "nowhere").archives.paths == (SHIPPED,)
    assert len(second.digest()) == 64


def test_a_table_without_a_column_is_refused(shipped, tmp_path):
    rows = [{k: v for k, v in row.items() if k != "band_gap"} for row in table(shipped[0])[:3]]
    path = pack(tmp_path / "sample.tar", rows, {})
    builder = tfds_builders.load_builder(NAME, tmp_path, path)
    with pytest.raises(DatasetSourceError, match=r"sample.tar lacks the column band_gap; replace"):
        builder.download_and_prepare()
