import json
from pathlib import Path

import numpy as np
import orjson
import pytest

from densityjax.data.dataset import open_dataset
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.target_grouping import model_similarity
from densityjax.target_grouping.columns import GroupingError
from densityjax.target_grouping.model_similarity import ModelSimilarities
from densityjax.target_grouping.output import describe_folds, to_json, write_groups
from densityjax.target_grouping.select import group_targets, load_columns, rotate_folds
from densityjax.target_grouping.settings import Settings
from densityjax.targets import get_specs
from densityjax.training.groups import DatasetIdentity, read_groups_file, resolve_groups
from tests.target_grouping.small_groups import LABELS, NAME, build, config_of

pytestmark = pytest.mark.slow  # groups or steps of a whole dataset are made once for the file

# As it was written before literals were pprint's.
OLD_FILE = '''"""Target groups by similarity; generated, do not edit by hand.

Command: python -m densityjax.target_grouping --config=configs/elastic.py
    --out=configs/target_groups.py
"""

DATASET = "elastic_densities"
VERSION = "1.0.0"
FINGERPRINT = "91c57f90a104e34d"
TARGETS = (
    "bulk_modulus", "volume", "total_energy",
)
# Folds whose labels each test fold's groups were computed from.
TRAIN_FOLDS = {
    0: (2, 3, 4),
    1: (3, 4, 0),
}
SETTINGS = {
    "similarity": "pearson",
    "similarities": ("pearson",),
    "spin_polarized_only": False,
}
GROUPS = {
    0: (
        # stability 0.92, exactly again in 69% of resamples; similarity 0.48 to 0.86
        ("bulk_modulus", "volume"),
        # stability 0.99, exactly again in 98% of resamples
        ("total_energy",),
    ),
    1: (
        (
            "bulk_modulus", "volume", "total_energy",
        ),
    ),
}
'''


def shuffle_labels(rows, folds) -> None:
    """Gives the materials of these folds each other's labels."""
    chosen = [row for row in rows if row["fold"] in folds]
    rng = np.random.default_rng(0)
    for name in LABELS:
        for row, value in zip(chosen, rng.permutation([r[name] for r in chosen]), strict=True):
            row[name] = str(value)


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
    folds = group_targets(config, builder)
    return orjson.loads(to_json(describe_folds(folds, specs, settings)))


@pytest.mark.slow
def test_labels_outside_the_training_folds_change_nothing(data, written, tmp_path):
    """Other labels in folds 0 and 1: test fold 0 trains on 2, 3 and 4; the others see a change."""
    other = build(tmp_path, lambda rows: shuffle_labels(rows, "01"))
    before = json.loads((written.parent / "groups/groups.json").read_text())["folds"]
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
    content = json.loads((written.parent / "groups/groups.json").read_text())
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
    assert "Dataset: elastic_densities/grid24 2.0.0" in text
    assert text.count("# stability ") == sum(map(len, file.groups.values()))
    compile(text, str(written), "exec")


def test_a_file_from_before_is_read(tmp_path):
    path = tmp_path / "old.py"
    path.write_text(OLD_FILE)
    file = read_groups_file(path)
    assert file.targets == ("bulk_modulus", "volume", "total_energy")
    assert file.train_folds == {0: (2, 3, 4), 1: (3, 4, 0)}
    assert file.settings["similarities"] == ("pearson",)
    assert file.groups[0] == (("bulk_modulus", "volume"), ("total_energy",))
    assert file.groups[1] == (("bulk_modulus", "volume", "total_energy"),)


def test_files_hold_every_number(written):
    content = json.loads((written.parent / "groups/groups.json").read_text())
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
    names = ("groups.json", "groups.png", "groups_measures.png")
    assert sorted(path.name for path in (written.parent / "groups").iterdir()) == sorted(names)
    for name in names[1:]:
        assert (written.parent / "groups" / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in written.parent.iterdir()) == ["groups", "groups.py"]


def test_numbers_and_pictures_go_where_they_are_told(data, tmp_path):
    details = tmp_path / "docs" / "of_groups"
    config = config_of(data, LABELS[:3], similarities=())
    files = write_groups(config, tmp_path / "groups.py", "", details)
    assert files == [tmp_path / "groups.py", details / "groups.png", details / "groups.json"]
    assert sorted(path.name for path in details.iterdir()) == ["groups.json", "groups.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "groups.py"]


def test_json_has_null_for_what_is_not_a_number():
    content = {"a": np.array([[1.5, np.nan], [np.inf, 2]]).T, 1: (np.float64(0.5), None)}
    assert json.loads(to_json(content)) == {"a": [[1.5, None], [None, 2.0]], "1": [0.5, None]}


def test_similarities_of_models(data, monkeypatch):
    """Two families of targets, told apart by each of the three."""
    asked = []

    def fit(config, builder, train_folds, specs, which):
        asked.append((tuple(train_folds), which))
        columns, _ = load_columns(config, builder, specs, train_folds)
        rng = np.random.default_rng(0)
        like = np.array([[1, 0.9, 0.1], [0.8, 1, 0.0], [0.0, 0.1, 1]])
        series = like + 0.01 * rng.standard_normal((6, 3, 3))
        stiff = np.stack([columns[0].values, columns[0].values], 1)
        names = [spec.name for spec in specs]
        noise = rng.standard_normal((len(stiff), 2))
        return ModelSimilarities(
            features=dict(zip(names, (stiff, stiff, noise), strict=True)),
            lookahead=0.1 * series, cosine=series,
        )

    monkeypatch.setattr(model_similarity, "fit_model_similarities", fit)
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


def test_other_errors(data, tmp_path):
    config = config_of(data, ("bulk_modulus", "density"))
    with pytest.raises(UserError, match="must end in"):
        write_groups(config, tmp_path / "groups.json", "")
    with pytest.raises(UserError, match="there is no folder"):
        write_groups(config, tmp_path / "none" / "groups.py", "")
    with pytest.raises(UserError, match="is a file; name a folder"):
        write_groups(config, tmp_path / "groups.py", "", __file__)
    config.grouping.num_groups = 3
    with pytest.raises(ConfigError, match="num_groups=3 for 2 targets: give 1 to 2"):
        write_groups(config, tmp_path / "groups.py", "")
    config.grouping.num_groups = 0
    config.data.held_out_elements = ("O",)
    with pytest.raises(ConfigError, match="held_out_elements"):
        write_groups(config, tmp_path / "groups.py", "")
    assert not list(tmp_path.iterdir())
