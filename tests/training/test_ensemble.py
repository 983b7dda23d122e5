"""Members are runs of their own; the joined run has their averages, and so have its predictions."""

import csv
import dataclasses
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from densityjax import predict
from densityjax.configs import elastic, smoke
from densityjax.prediction.answers import answers, predict_materials
from densityjax.prediction.materials import read_material
from densityjax.report.page import write_report
from densityjax.results.predictions_table import read_table
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import UserError
from densityjax.targets import get_specs
from densityjax.training import ensemble
from densityjax.training.ensemble import mean_history, plan_members, train_ensemble
from densityjax.training.trained_model import restore_members
from tests.small_model import SMALL_MODEL

SPECS = get_specs(["bulk_modulus", "is_metal"])


def small_config(data_dir: Path) -> ConfigDict:
    """Two members, of which each trains on the validation fold of the other; two states each."""
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.data.build = False
    config.data.train_folds = (2,)
    config.targets = tuple(spec.name for spec in SPECS)
    config.train.epochs = 4
    config.train.evaluate_every_epochs = 1
    config.update_from_flattened_dict(SMALL_MODEL)
    config.ensemble.rotate = True
    config.ensemble.epochs = 2
    return config


@pytest.fixture(scope="module")
def trained(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained in two shards: read it only."""
    workdir = tmp_path_factory.mktemp("ensemble") / "run"
    assert train_ensemble(small_config(small_dataset), workdir, (1, 2)) is None
    assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "member1"]
    assert train_ensemble(small_config(small_dataset), workdir, (0, 2))["members"]
    return workdir


@pytest.fixture(scope="module")
def density(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source file of the test fold."""
    with tarfile.open(small_dataset / "sample.tar") as archive:
        rows = csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines())
        row = next(row for row in rows if row["fold"] == "0")
        path = tmp_path_factory.mktemp("density") / Path(row["file"]).name
        path.write_bytes(archive.extractfile(row["file"]).read())
    return path


def test_the_plan():
    config = elastic.get_config()
    (alone,) = plan_members(config)
    assert alone.config.to_dict() == config.to_dict()
    config.seed, config.ensemble.seeds = 5, 2
    assert [member.config.seed for member in plan_members(config)] == [5, 6]
    config.ensemble.rotate, config.ensemble.epochs = True, 3
    members = plan_members(config)
    assert [member.name for member in members] == [f"member{place}" for place in range(8)]
    assert [member.config.seed for member in members] == [5] * 4 + [6] * 4
    folds = [(m.config.data.validation_fold, m.config.data.train_folds) for m in members]
    assert folds[:4] == [(1, (2, 3, 4)), (2, (1, 3, 4)), (3, (2, 1, 4)), (4, (2, 3, 1))]
    assert folds[4:] == folds[:4]
    for member in members:
        assert plan_members(member.config) == (dataclasses.replace(member, name="member0"),)
        assert member.config.data.test_fold == 0
        assert member.config.ensemble.epochs == 3


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_group_of_every_member_is_of_one_shard(count, monkeypatch, tmp_path):
    config = elastic.get_config()
    config.ensemble.seeds, config.groups = 2, "single"
    trained = []

    def note(config, workdir, shard, *_, **__):
        trained.extend((workdir.name, place) for place in range(8) if place % shard[1] == shard[0])

    monkeypatch.setattr(ensemble, "train_groups", note)
    monkeypatch.setattr(ensemble, "check_groups_have_labels", lambda *_: None)
    shares = []
    for place in range(count):
        train_ensemble(config, tmp_path / "run", (place, count))
        shares.append(len(trained) - sum(shares))
    assert sorted(trained) == [(f"member{m}", place) for m in range(2) for place in range(8)]
    assert max(shares) - min(shares) <= 1


def test_history_is_averaged_by_step_and_by_epoch():
    first = [
        {"step": 10, "epoch": 1.0, "split": "train", "loss": 1.0},
        {"step": 20, "epoch": 2.0, "split": "validation", "loss": 2.0, "r2": None},
        {"step": 30, "epoch": 3.0, "split": "train", "loss": 0.0},
    ]
    second = [
        {"step": 10, "epoch": 0.5, "split": "train", "loss": 2.0},
        {"step": 40, "epoch": 2.0, "split": "validation", "loss": 4.0, "r2": 0.5},
    ]
    assert mean_history([first, second]) == [
        {"step": 10, "epoch": 0.75, "split": "train", "loss": 1.5},
        {"step": 20, "epoch": 2.0, "split": "validation", "loss": 3.0, "r2": 0.5},
    ]


@pytest.mark.slow
def test_members_are_joined_and_predicted_out_of_fold(trained: Path):
    tables = {
        (name, split): read_table(RunDirectory(trained / name).predictions(split), SPECS)
        for name in ("", "member0", "member1") for split in ("test", "validation")
    }
    for spec in SPECS:
        joined, *members = (tables[n, "test"][spec.name] for n in ("", "member0", "member1"))
        assert joined.ids == members[0].ids
        mean = (members[0].prediction + members[1].prediction) / 2
        np.testing.assert_allclose(joined.prediction, mean)
        joined, *members = (tables[n, "validation"][spec.name] for n in ("", "member0", "member1"))
        # Each of 12 materials by the member that did not train on it.
        assert joined.ids == members[0].ids + members[1].ids
        assert len(set(joined.ids)) == 12
        expected = np.concatenate([member.prediction for member in members])
        np.testing.assert_allclose(joined.prediction, expected)
    metrics = json.loads((trained / "metrics.json").read_text())
    truth, value = (getattr(tables["", "test"]["bulk_modulus"], n) for n in ("truth", "prediction"))
    r2 = 1 - np.sum((truth - value) ** 2) / np.sum((truth - truth.mean()) ** 2)
    assert metrics["test"]["bulk_modulus"]["r2"] == pytest.approx(r2)
    assert metrics["validation"]["bulk_modulus"]["n"] == 12
    assert [m["validation_fold"] for m in metrics["members"]] == [1, 2]
    facts = json.loads((trained / "run.json").read_text())
    assert facts["dataset"]["train_folds"] == [1, 2]
    assert facts["parameters"] == sum(member["parameters"] for member in facts["members"])
    page = write_report(trained).read_text()
    assert "averages of 2 members" in page
    assert all(member["directory"] in page for member in facts["members"])


@pytest.mark.slow
def test_a_rerun_skips_what_is_whole(small_dataset: Path, trained: Path, tmp_path: Path):
    """Unsharded after one member has finished: the same bytes; a damaged table is named."""
    workdir, config = tmp_path / "run", small_config(small_dataset)
    shutil.copytree(trained / "member1", workdir / "member1")
    facts = (workdir / "member1/run.json").read_bytes()
    files = [workdir / "member1" / name for name in ("metrics.json", "run.json")]
    times = [path.stat().st_mtime_ns for path in files]
    result = train_ensemble(config, workdir)
    for name in ("predictions.csv", "predictions_validation.csv", "metrics.json", "targets.json"):
        assert (workdir / name).read_bytes() == (trained / name).read_bytes()
    assert (workdir / "member1/run.json").read_bytes() == facts
    assert times == [path.stat().st_mtime_ns for path in files]
    damaged = workdir / "member1/predictions.csv"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"member1/predictions\.csv .* training command again"):
        train_ensemble(config, workdir, (0, 2))
    assert train_ensemble(config, workdir) == result  # evaluates that member anew
    config.seed = 1
    with pytest.raises(UserError, match="holds a run of another config"):
        train_ensemble(config, workdir)


@pytest.mark.slow
def test_predictions_of_files_are_means(trained: Path, density: Path, tmp_path: Path):
    members = restore_members(trained)
    assert len(members) == 2
    # One program for all: restoring an ensemble compiles as often as restoring one run.
    assert len({id(model.program) for models in members for model in models}) == 1
    material = read_material(density, 24)
    for (model,), folder in zip(members, ("member0", "member1")):
        losses = {
            line["step"]: line["loss"] for line in RunDirectory(trained / folder).read_history()
            if line["split"] == "validation"
        }
        best = sorted(losses, key=losses.get)[:2]
        metrics = json.loads((trained / folder / "metrics.json").read_text())
        assert metrics["best_steps"] == best
        assert [int(state.step) for state in model.states] == best
        singles = [
            predict_materials(dataclasses.replace(model, state=state, more_states=()), [material])
            for state in model.states
        ]
        both, _ = predict_materials(model, [material])
        for spec in SPECS:
            mean = sum(single.values[spec.name] for single, _ in singles) / 2
            np.testing.assert_allclose(both.values[spec.name], mean)
    whole, *own = (answers(m, [material]) for m in (members, members[:1], members[1:]))
    for joined, *parts in zip(whole, *own, strict=True):
        np.testing.assert_allclose(joined.values, (parts[0].values + parts[1].values) / 2)
        assert len(joined.warnings[0]) == len(set(joined.warnings[0]))
    # The door takes all of them, and says what the run said of this material.
    out = tmp_path / "out.csv"
    assert predict.main([f"--workdir={trained}", f"--out={out}", str(density)]) == 0
    rows = {row["target"]: row for row in csv.DictReader(out.open(newline=""))}
    said = read_table(trained / "predictions.csv", SPECS)["bulk_modulus"]
    row = said.ids.index(density.name.split(".")[0])
    modulus = rows["bulk_modulus"]
    assert float(modulus["prediction"]) == pytest.approx(said.prediction[row], rel=1e-4)
    assert float(modulus["spread"]) == pytest.approx(said.spread[row], rel=1e-2)
    table = trained / "member1/predictions.csv"
    with pytest.raises(UserError, match="is an input"):
        predict.main([f"--workdir={trained}", f"--out={table}", str(table)])
