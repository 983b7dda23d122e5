import csv
import dataclasses
import json
import subprocess
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest

import densityjax
import tfds_builders
from densityjax.configs import elastic
from densityjax.data.dataset import open_dataset
from densityjax.target_grouping import select as target_grouping
from densityjax.target_grouping.select import Settings, group_fold, rotate_folds, write_groups
from densityjax.target_grouping.similarity import Column, GroupingError
from densityjax.targets import get_specs
from densityjax.training.groups import DatasetIdentity, read_groups_file, resolve_groups
from tests.target_grouping.test_similarity import shipped_columns
from tests.tfds_builders.test_elastic_densities import SHIPPED, pack

ROOT = Path(__file__).parents[2]
NAME = "elastic_densities/grid24"
LABELS = ("bulk_modulus", "band_gap", "fermi_energy", "formation_energy_per_atom", "is_metal")


def settings(**changes) -> Settings:
    grouping = elastic.get_config().grouping.to_dict() | {"similarity": "spearman"}
    small = {"permutations": 99, "bootstraps": 5}
    return Settings.from_config(grouping | small | changes)


def config_of(data_dir, targets, **changes):
    config = elastic.get_config()
    config.data.name, config.data.data_dir = NAME, str(data_dir)
    config.data.build = False
    config.targets = tuple(targets)
    config.grouping.update(permutations=99, bootstraps=5, similarities=("pearson",))
    config.grouping.similarity = "spearman"
    config.grouping.update(changes)
    return config


def build(folder: Path, change=None) -> Path:
    """Data directory with 10 small real materials a fold, their rows changed by `change`."""
    with tarfile.open(SHIPPED) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    table = csv.DictReader(files["labels.csv"].decode().splitlines())
    by_size = sorted(table, key=lambda row: len(files[row["file"]]))
    rows = []
    for fold in map(str, range(5)):
        for metal in "01":
            rows += [r for r in by_size if (r["fold"], r["is_metal"]) == (fold, metal)][:5]
    if change:
        change(rows)
    sample = pack(folder / "sample.tar", rows, files)
    tfds_builders.load_builder(NAME, folder, sample).download_and_prepare()
    return folder


def shuffle_labels(rows, folds) -> None:
    """Gives the materials of these folds each other's labels."""
    chosen = [row for row in rows if row["fold"] in folds]
    rng = np.random.default_rng(0)
    for name in LABELS:
        for row, value in zip(chosen, rng.permutation([r[name] for r in chosen]), strict=True):
            row[name] = str(value)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def written(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "groups.py"
    config = config_of(data, LABELS, similarities=("pearson", "mutual_information"))
    write_groups(config, out, 'python -m densityjax.target_grouping --x="""\\')
    return out


def numbers(config) -> dict:
    """What the JSON would say of each fold."""
    builder = open_dataset(NAME, config.data.data_dir, build=False)
    specs, settings = get_specs(config.targets), Settings.from_config(config.grouping)
    folds = target_grouping.group_targets(config, builder)
    return json.loads(json.dumps(target_grouping._folds_json(folds, specs, settings)))


def test_labels_outside_the_training_folds_change_nothing(data, written, tmp_path):
    """Other labels in folds 0 and 1: test fold 0 trains on 2, 3 and 4; the others see a change."""
    other = build(tmp_path, lambda rows: shuffle_labels(rows, "01"))
    before = json.loads(written.with_suffix(".json").read_text())["folds"]
    after = numbers(config_of(other, LABELS, similarities=("pearson", "mutual_information")))
    assert before["0"]["train_folds"] == [2, 3, 4]
    assert before["0"] == after["0"]
    for fold in "1234":
        assert set(before[fold]["train_folds"]) & {0, 1}
        for measure, found in before[fold]["measures"].items():
            assert found["similarity"] != after[fold]["measures"][measure]["similarity"]


def test_config_is_read_back(data, written):
    builder = open_dataset(NAME, str(data), build=False)
    file = read_groups_file(written)
    assert file.identity == DatasetIdentity.of(builder)
    assert file.targets == LABELS
    assert file.train_folds == rotate_folds(5)
    assert file.settings["similarity"] == "spearman"
    assert file.settings["similarities"] == ("pearson", "mutual_information", "spearman")
    content = json.loads(written.with_suffix(".json").read_text())
    for fold, train_folds in rotate_folds(5).items():
        groups = resolve_groups(
            str(written), LABELS, test_fold=fold, train_folds=train_folds,
            identity=DatasetIdentity.of(builder),
        )
        assert [list(group) for group in groups] == content["folds"][str(fold)]["groups"]
        assert groups == file.groups[fold]
        assert sorted(sum(groups, ())) == sorted(LABELS)
    text = written.read_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "Command: python -m densityjax.target_grouping" in text
    assert "Dataset: elastic_densities/grid24 1.0.0" in text
    assert text.count("# stability ") == sum(map(len, file.groups.values()))
    lint = [sys.executable, "-m", "ruff", "check", "--line-length=100", str(written)]
    assert subprocess.run(lint, capture_output=True).returncode == 0


def test_files_hold_every_number(written):
    content = json.loads(written.with_suffix(".json").read_text())
    fold = content["folds"]["3"]
    assert (fold["train_folds"], fold["materials"]) == ([0, 1, 2], 30)
    assert fold["shared"][0][1] == 30
    for measure in ("pearson", "mutual_information", "spearman"):
        found = fold["measures"][measure]
        for key in ("similarity", "p", "p_adjusted"):
            assert np.shape(found[key]) == (5, 5)
        assert np.shape(found["linkage"]) == (4, 4)
        assert set(found["silhouettes"]) == {"2", "3", "4"}
        stability = found["stability"]
        assert stability["resamples"] == 5
        assert len(stability["jaccard"]) == len(stability["recovered"]) == len(found["groups"])
        assert np.shape(stability["together"]) == (5, 5)
    assert "halves" in fold["measures"]["mutual_information"]["stability"]["resampling"]
    assert "bootstrap" in fold["measures"]["spearman"]["stability"]["resampling"]
    assert fold["measures"]["spearman"]["signed"][0][4] is None  # no sign with a class
    for name in ("groups.png", "groups_measures.png"):
        assert (written.parent / name).read_bytes().startswith(b"\x89PNG")
    assert not list(written.parent.glob("*.partial"))


def test_labels_are_compared_as_trained(data):
    """Volume and total energy per electron, not of the cell, which would be alike by its size."""
    config = config_of(data, ("volume", "total_energy"))
    builder = open_dataset(NAME, str(data), build=False)
    specs = get_specs(config.targets)
    columns, systems = target_grouping.load_columns(config, builder, specs, (4, 0))
    found = {}
    for split in ("fold4", "fold0"):
        for record in builder.as_data_source(split):
            labels = record["targets"]
            found[record["chemical_system"].decode()] = (
                labels["volume"] / record["num_electrons"],
                labels["total_energy"] / record["num_electrons"],
            )
    assert len(columns[0].values) == len(systems) == 20
    for system, *values in zip(systems, columns[0].values, columns[1].values, strict=True):
        if list(systems).count(system) == 1:
            assert values == pytest.approx(found[system], rel=1e-6)


def test_values_and_classes_together():
    columns, systems = shipped_columns(["bulk_modulus", "band_gap", "is_metal", "crystal_system"])
    names = ("pearson", "spearman", "distance_correlation", "mutual_information")
    result = group_fold(columns, systems, settings(similarities=names), (2, 3, 4))
    assert (result.num_materials, result.num_systems) == (len(systems), len(set(systems)))
    for grouping in result.measures.values():
        assert np.all(grouping.similarity.p_adjusted[1, 2] < 0.05)  # metals have no gap
        assert (1, 2) in [group[:2] for group in grouping.clustering.groups] or any(
            {1, 2} <= set(group) for group in grouping.clustering.groups
        )
        assert np.all(grouping.stability.jaccard > 0)


def test_number_of_groups_can_be_given():
    columns, systems = shipped_columns(["bulk_modulus", "band_gap", "density", "fermi_energy"])
    for number in (1, 3, 4):
        given = settings(similarities=("pearson",), num_groups=number)
        grouping = group_fold(columns, systems, given, (2, 3, 4)).measures["spearman"]
        assert len(grouping.clustering.groups) == number
        assert grouping.stability.num_groups == {number: 1.0}
        if number in (1, 4):
            assert np.all(grouping.stability.jaccard == 1)


def test_one_target_is_one_group():
    columns, systems = shipped_columns(["bulk_modulus"])
    grouping = group_fold(columns, systems, settings(similarities=()), (2, 3, 4)).measures[
        "spearman"
    ]
    assert grouping.clustering.groups == ((0,),)


def test_similarities_of_models(data, monkeypatch):
    """Two families of targets, told apart by each of the three."""
    asked = []

    def fit(config, builder, train_folds, specs, which):
        asked.append((tuple(train_folds), which))
        columns, _ = target_grouping.load_columns(config, builder, specs, train_folds)
        rng = np.random.default_rng(0)
        like = np.array([[1, 0.9, 0.1], [0.8, 1, 0.0], [0.0, 0.1, 1]])
        series = like + 0.01 * rng.standard_normal((6, 3, 3))
        stiff = np.stack([columns[0].values, columns[0].values], 1)
        names = [spec.name for spec in specs]
        noise = rng.standard_normal((len(stiff), 2))
        return types.SimpleNamespace(
            features=dict(zip(names, (stiff, stiff, noise), strict=True)),
            lookahead=0.1 * series, cosine=series,
        )

    fake = types.SimpleNamespace(fit_model_similarities=fit)
    monkeypatch.setitem(sys.modules, "densityjax.target_grouping.model_similarity", fake)
    monkeypatch.setattr(densityjax, "model_similarity", fake, raising=False)
    which = ("transfer", "task_affinity", "gradient_cosine")
    config = config_of(
        data, ("bulk_modulus", "fermi_energy", "formation_energy_per_atom"),
        similarity="task_affinity", similarities=which,
    )
    fold = numbers(config)["0"]
    assert asked == [(folds, which) for folds in rotate_folds(5).values()]
    for measure in ("task_affinity", "gradient_cosine"):
        found = fold["measures"][measure]
        assert found["groups"] == [["bulk_modulus", "fermi_energy"], ["formation_energy_per_atom"]]
        assert found["similarity"][0][1] == pytest.approx(0.85, abs=0.03)
        assert found["directed"][0][1] > found["directed"][1][0]
        assert found["p"][0][1] == 1 / 64  # of 2^6 flips
        assert found["stability"] is None
    assert fold["measures"]["transfer"]["directed"][0][0] > 0.5
    assert fold["measures"]["transfer"]["stability"]["resamples"] == 5


def test_too_few_materials(small_dataset, tmp_path):
    """18 materials in three folds."""
    config = config_of(small_dataset, ("bulk_modulus", "density"))
    match = (
        r"test fold 0, training folds 2, 3, 4: targets 'bulk_modulus' and 'density' share 18 "
        "labelled materials .* needs 20: leave one of them out of config.targets"
    )
    with pytest.raises(GroupingError, match=match):
        write_groups(config, tmp_path / "groups.py", "")
    assert not list(tmp_path.iterdir())


def test_one_value_only():
    columns, systems = shipped_columns(["bulk_modulus", "is_metal"])
    columns[1] = Column(columns[1].spec, np.ones_like(columns[1].values))
    with pytest.raises(GroupingError, match="'is_metal' has 491 labels and no two different"):
        group_fold(columns, systems, settings(), (2, 3, 4))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"similarity": "kendall"}, "unknown similarity 'kendall' .* known are pearson"),
        ({"similarities": ("spearmen",)}, "unknown similarity 'spearmen'"),
        ({"permutations": 9}, "permutations=9: must be at least 99"),
        ({"bootstraps": 0}, "bootstraps=0: must be at least 1"),
        ({"num_groups": -1}, "num_groups=-1: must be at least 0"),
    ],
)
def test_wrong_settings(changes, match):
    with pytest.raises(GroupingError, match=match):
        settings(**changes)


def test_settings_are_all_of_the_config():
    names = {field.name for field in dataclasses.fields(Settings)}
    assert names == set(elastic.get_config().grouping)


def test_other_errors(data, tmp_path):
    config = config_of(data, ("bulk_modulus", "density"))
    with pytest.raises(GroupingError, match="must end in"):
        write_groups(config, tmp_path / "groups.json", "")
    with pytest.raises(GroupingError, match="there is no folder"):
        write_groups(config, tmp_path / "none" / "groups.py", "")
    with pytest.raises(GroupingError, match="2 folds leaves none to train on"):
        rotate_folds(2)
    config.grouping.num_groups = 3
    with pytest.raises(GroupingError, match="num_groups=3 for 2 targets: give 1 to 2"):
        write_groups(config, tmp_path / "groups.py", "")
    config.data.held_out_elements = ("O",)
    with pytest.raises(GroupingError, match="held_out_elements"):
        write_groups(config, tmp_path / "groups.py", "")
    assert not list(tmp_path.iterdir())


def test_command_line_answers_mistakes_in_one_line(small_dataset, tmp_path):
    command = [
        sys.executable, "-m", "densityjax.target_grouping", "--config=configs/elastic.py",
        f"--config.data.data_dir={small_dataset}", f"--config.data.name={NAME}",
        f"--out={tmp_path}/groups.py",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.startswith("error: test fold 0")
    assert "share 18 labelled materials" in result.stderr
    assert result.stderr.count("\n") == 1
