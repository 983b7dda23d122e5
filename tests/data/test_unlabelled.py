"""What pretraining learns from: no labels needed, and nothing of what is withheld."""

import logging
from pathlib import Path

import numpy as np
import pytest

from densityjax.configs import elastic
from densityjax.data.dataset import DatasetError, open_dataset, open_from_config, resolve_targets
from densityjax.data.records import load_records
from densityjax.data.unlabelled import say, with_sources
from densityjax.runtime.errors import ConfigError
from tests.data.loading import NAME, load
from tfds_builders.errors import DatasetSourceError


def chgcar(*elements: str, electrons: float = 8.0, edge: float = 4.0, points: int = 8) -> str:
    """A CHGCAR of one atom of each element along the diagonal, of equal density everywhere."""
    atoms = [f"{place / len(elements)} " * 3 for place in range(len(elements))]
    rows = [f"{edge} 0 0", f"0 {edge} 0", f"0 0 {edge}"]
    values = " ".join([f"{electrons:.6f}"] * points**3)
    return "\n".join([
        "x", "1.0", *rows, " ".join(elements), "1 " * len(elements), "Direct", *atoms, "",
        f"{points} {points} {points}", values, "",
    ])


def folder_of(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def config_of(data_dir: Path, name: str = NAME, **pretraining):
    config = elastic.get_config()
    config.data.name, config.data.data_dir = name, str(data_dir)
    config.pretraining.update(pretraining)
    return config


@pytest.fixture(scope="module")
def test_system(builder) -> str:
    """A chemical system of two elements of the test fold."""
    systems = load(builder, ["fold0"]).chemical_system
    return next(str(system) for system in systems if system.count("-") == 1)


def test_a_folder_without_labels_and_the_test_fold(builder, test_system, tmp_path):
    """All its densities are learned from, but those of systems that are validated or tested on."""
    own = load(builder, specs=(), channels=1, features=True)
    known = str(own.chemical_system[0]).split("-")
    source = folder_of(tmp_path / "many", {
        "mp-7/CHGCAR": chgcar("He", "Ne"), "mp-7/AECCAR0": chgcar("He", "Ne", electrons=2),
        "seen.CHGCAR": chgcar(*known), "deep/CHGCAR_tested": chgcar(*test_system.split("-")),
        "notes.json": "{}",
    })
    entry = f"density_folder/grid24={source}"
    config = config_of(builder.data_dir_root, sources=(entry, NAME))
    config.data.data_dir = str(tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/elastic_densities").symlink_to(
        Path(builder.data_dir_root) / "elastic_densities"
    )
    joined, report = with_sources(config, builder, own, features=True)
    assert joined.material_id[len(own) :].tolist() in (["mp-7", "seen"], ["seen", "mp-7"])
    assert report["datasets"][entry] == {"records": 2, "withheld": 1, "again": 0}
    # The dataset itself as a source adds nothing: training rows come once, the others never.
    rest = len(load(builder, ["fold0", "fold1"]))
    assert report["datasets"][NAME] == {"records": 18, "withheld": rest, "again": 18}
    assert joined.labels == {}
    assert len(set(joined.index.tolist())) == len(joined)
    row = joined.material_id.tolist().index("mp-7")
    np.testing.assert_allclose(joined.density(row), 8 / 64, rtol=1e-5)  # e/Å^3
    assert joined.species[row].tolist() == [2, 10]
    assert len(joined.features["surroundings"][row]) == 2
    np.testing.assert_array_equal(joined.density(3), own.density(3))
    # What reaches less far lets the other material of the tested system in.
    config.pretraining.withhold = "id"
    _, report = with_sources(config, builder, own, features=True)
    assert report["datasets"][entry]["records"] == 3
    # The labels of a folder are not to be missing where a model learns labels.
    config.data.name, config.data.source = "density_folder/grid24", str(source)
    with pytest.raises(DatasetSourceError, match=r"a column for each target; .*pretrain"):
        open_from_config(config.data)
    built = open_from_config(config.data, labels="optional")
    config.targets, config.data.source = (), ""
    config.data.name = f"density_folder/{built.builder_config.name}"
    with pytest.raises(DatasetError, match=r"no labels: densityjax.pretrain"):
        resolve_targets(config)


def test_excluded_materials(builder, test_system, tmp_path, caplog):
    own = load(builder, specs=(), channels=1)
    systems = sorted(set(map(str, own.chemical_system)))
    named = str(own.material_id[own.chemical_system == systems[0]][0])
    reverse = "-".join(reversed(systems[1].split("-")))
    path = tmp_path / "mine.txt"
    path.write_text(f"# my test set\n{named}\n{reverse}\nmp-unheard-of\n{test_system}\n")
    config = config_of(builder.data_dir_root, exclude=str(path))
    with caplog.at_level(logging.WARNING, "densityjax"):
        joined, report = with_sources(config, builder, own)
    assert set(map(str, joined.chemical_system)) == set(systems[2:])
    assert report["unknown_names"] == ["mp-unheard-of"]
    say(report)
    assert "1 of 4 names are in none of the datasets: mp-unheard-of" in caplog.text
    config.pretraining.withhold = "nothing"  # then the id itself, and the system that is named
    joined, _ = with_sources(config, builder, own)
    gone = (own.material_id == named) | (own.chemical_system == systems[1])
    assert joined.material_id.tolist() == own.material_id[~gone].tolist()
    path.write_text("\n".join(systems))
    with pytest.raises(DatasetError, match=r"training folds of config.data: every record is"):
        with_sources(config, builder, own)


def test_services_feed_a_run_that_reads_no_labels(tmp_path):
    """Own densities, and LeMat-Rho's shards; read when they are used."""
    pytest.importorskip("pyarrow")
    from tests.tfds_builders.test_lemat_rho import write

    elements = ("Li", "Na", "K", "Rb", "Cs", "Mg")
    files = {f"{e}.CHGCAR": chgcar(e, electrons=7) for e in elements}
    labels = "file,hardness\n" + "".join(f"{name},1.{n}\n" for n, name in enumerate(files))
    folder = folder_of(tmp_path / "own", files | {"labels.csv": labels})
    rows = [
        {
            "immutable_id": f"agm-{e}", "functional": "r2scan", "species_at_sites": [e],
            "lattice_vectors": (2.0 * np.eye(3)).tolist(), "energy": None,
            "cartesian_site_positions": [[0.0] * 3], "charge_density_grid_shape": [8] * 3,
            "charge_density": np.full(512, n, np.float32),  # rho * V
        }
        for e, n in (("Si", 4), ("Ge", 4), ("Li", 3), ("Mg", 2), ("K", 9))
    ]
    entry = f"lemat_rho/grid32={write(tmp_path / 'shards/x', [rows])}"
    again = f"density_folder/grid32={folder}"  # the folder itself, with another fingerprint
    config = config_of(tmp_path / "data", "density_folder/grid32", sources=(entry, again))
    config.data.source = str(folder)
    built = open_from_config(config.data, labels="optional")
    folds = {
        name: load_records(
            built, [name], (), channels=1, spin_polarized_only=False, cache_in_memory=False
        )
        for name in built.info.splits
    }
    own = load_records(
        built, ["fold2", "fold3", "fold4"], (), channels=1, spin_polarized_only=False,
        cache_in_memory=False,
    )
    joined, report = with_sources(config, built, own)
    assert report["datasets"][again]["again"] == report["datasets"][again]["records"] == len(own)
    held = {*folds["fold0"].chemical_system, *folds["fold1"].chemical_system}
    expected = [e for e in ("Ge", "K", "Li", "Mg", "Si") if e not in held]
    assert sorted(joined.chemical_system[len(own) :]) == expected
    assert joined.densities is None
    row = joined.material_id.tolist().index("agm-Si")
    np.testing.assert_allclose(joined.density(row), 4 / 8, rtol=1e-5)


def test_a_source_of_another_grid_or_name(builder, tmp_path):
    own = load(builder, specs=(), channels=1)
    folder = folder_of(tmp_path / "own", {"a.CHGCAR": chgcar("He")})
    config = config_of(tmp_path / "data", sources=(f"density_folder/grid32={folder}",))
    with pytest.raises(ConfigError, match=r"of 32 points along an axis, config.data.name=.* of 24"):
        with_sources(config, builder, own)
    config.pretraining.sources = ("lemat",)
    with pytest.raises(DatasetError, match=r"config.pretraining.sources: unknown dataset 'lemat'"):
        with_sources(config, builder, own)
    assert open_dataset(NAME, str(builder.data_dir_root), build=False)
