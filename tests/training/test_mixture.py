"""A mixture answers as its weights and its learners say, in a run, an ensemble, for a file."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from densityjax import predict
from densityjax.configs import smoke
from densityjax.data.dataset import open_from_config
from densityjax.features.descriptors import Descriptors
from densityjax.prediction.answers import answers
from densityjax.prediction.materials import read_material
from densityjax.report.page import write_report
from densityjax.results.calibration import read_calibration
from densityjax.results.interval_cells import beyond_training
from densityjax.results.learner_file import load_learners
from densityjax.results.predictions_table import read_table
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import IDENTITY, read_stack
from densityjax.runtime.errors import UserError
from densityjax.targets import from_intensive, get_specs, to_intensive
from densityjax.training import calibrate
from densityjax.training.calibrate import gather, open_run
from densityjax.training.ensemble import train_ensemble
from densityjax.training.mixture import ask_yardsticks, column_names
from densityjax.training.setup import load_folds, load_role
from densityjax.training.trained_model import restore_members
from tests.small_model import SMALL_MODEL
from tests.training.test_ensemble import density  # noqa: F401  a fixture

SPECS = get_specs(["bulk_modulus", "volume", "total_energy", "is_metal"])


def mixed_config(data_dir: Path) -> ConfigDict:
    """Two rotated members with everything that is fitted beside a network."""
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.data.build = False
    config.data.train_folds = (2, 3)
    config.targets = tuple(spec.name for spec in SPECS)
    config.train.epochs = 2
    config.update_from_flattened_dict(SMALL_MODEL)
    config.input.invariants, config.input.identified = 4, 3
    config.auxiliary.properties = ("Electronegativity", "Row")
    config.model.dropout = 0.2
    config.yardsticks = ("composition",)
    config.stack.learners = ("network", "density", "all")
    config.ensemble.rotate = True
    config.intervals.calibrate = True
    return config


@pytest.fixture(scope="module")
def trained(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it only."""
    workdir = tmp_path_factory.mktemp("mixture") / "run"
    train_ensemble(mixed_config(small_dataset), workdir)
    return workdir


@pytest.mark.slow
def test_the_answer_is_the_weighted_mean_of_the_learners(small_dataset: Path, trained: Path):
    config = mixed_config(small_dataset)
    names = column_names(config)
    assert names == (
        "network", "density_laplacian", "density_rbf", "all_laplacian", "all_rbf",
    )
    test = load_folds(config, open_from_config(config.data), SPECS, [0], False)
    whole = load_learners(RunDirectory(trained).learners, SPECS)
    described = test.described(Descriptors.load(RunDirectory(trained).descriptors))
    kernels = ask_yardsticks(whole, config.stack.learners, described).columns
    for folder, members in ((trained, 3), (trained / "member1", 1)):
        run = RunDirectory(folder)
        weights, found = read_stack(run.stack).weights, run.read_predictions(SPECS)
        assert weights["volume"] == {IDENTITY: 1.0}
        np.testing.assert_allclose(found["volume"].prediction, test.volume, rtol=1e-6)
        for spec in SPECS:
            if spec.name == "volume":
                continue
            runs = run.members()
            assert len(runs) == members
            parts = [own.read_learner("network", SPECS)[spec.name].prediction for own in runs]
            columns = {"network": np.mean(parts, axis=0)}
            for name in names[1:]:
                # Of an ensemble fitted once more, to all that its members train on.
                columns[name] = kernels[name][spec.name] if members > 1 else (
                    run.read_learner(name, SPECS)[spec.name].prediction
                )
            cells = test.num_electrons, test.volume
            if spec.kind == "regression":
                columns = {k: to_intensive(spec, v, *cells) for k, v in columns.items()}
            mixed = sum(weight * columns[name] for name, weight in weights[spec.name].items())
            if spec.kind == "regression":
                mixed = from_intensive(spec, mixed, *cells)
            np.testing.assert_allclose(found[spec.name].prediction, mixed, rtol=1e-5)


@pytest.mark.slow
def test_a_file_gets_the_answer_of_the_table(trained: Path, density: Path):  # noqa: F811
    members = restore_members(trained)
    material = read_material(density, 24)
    said = read_table(trained / "predictions.csv", SPECS)
    row = said["bulk_modulus"].ids.index(density.name.split(".")[0])
    for answer in answers(members, [material]):
        table = said[answer.spec.name]
        np.testing.assert_allclose(answer.values[0], table.prediction[row], rtol=1e-4)
        np.testing.assert_allclose(answer.spread[0], table.spread[row], rtol=1e-2, atol=1e-6)


@pytest.mark.slow
def test_a_file_gets_the_interval_that_tables_give(
    trained: Path, density: Path, tmp_path: Path,  # noqa: F811
):
    run = RunDirectory(trained)
    calibration = read_calibration(run)
    assert calibration.source == "out-of-fold predictions of folds 1, 2, 3"
    assert calibration.reference.trained.shape == (3, 18)
    assert calibration.reference.trained.sum() == 36
    found = calibration.targets["total_energy"]
    assert len(np.unique(found.elements)) >= 9
    assert calibration.targets["volume"].beyond.size == 0  # the file gives it
    _, builder, specs = open_run(run)
    known = gather(run, builder, specs, "test", calibration.reference)
    row = known.tables["bulk_modulus"].ids.index(density.name.split(".")[0])
    out = tmp_path / "out.csv"
    options = ["--workdir", str(trained), "--out", str(out), "--coverage=0.5,0.8", str(density)]
    assert predict.main(options) == 0
    rows = {line["target"]: line for line in csv.DictReader(out.open())}
    (far,) = beyond_training(calibration, [{"species": known.species[row]}])
    for line in rows.values():
        assert far == ("intervals from leaving elements out" in line["warnings"])
    for spec in SPECS:
        if spec.kind == "classification":
            assert rows[spec.name]["lower_0.8"] == ""
            if far:
                assert rows[spec.name]["set_0.5"] == ""
                continue
            likely = rows[spec.name]["prediction"]
            assert likely in rows[spec.name]["set_0.5"].split(";")
            continue
        for coverage in (0.5, 0.8):
            low, high = calibration.interval(spec, known.evidence, coverage, far)
            found = [float(rows[spec.name][f"{name}_{coverage}"]) for name in ("lower", "upper")]
            np.testing.assert_allclose(found, [low[row], high[row]], rtol=1e-3, atol=1e-6)
    with pytest.raises(UserError, match=r"--coverage=0\.99: .* ask for --coverage=0\."):
        predict.main(["--workdir", str(trained), "--coverage=0.99", str(density)])


@pytest.mark.slow
def test_calibration_sees_no_test_row(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without the tables of the test fold, and without its records, it is the same."""
    copy = RunDirectory(tmp_path / "run")
    shutil.copytree(trained, copy.path)
    for own in copy.tree():
        for path in (own.predictions("test"), *own.path.glob("learners/*_test.csv")):
            path.unlink()
    monkeypatch.setattr(
        calibrate, "load_role",
        lambda config, builder, specs, role, **rest:
            {"train": load_role, "validation": load_role}[role](
                config, builder, specs, role, **rest
            ),
    )
    copy.calibration.unlink()
    calibrate.make_calibration(copy).save(copy.calibration)
    with np.load(copy.calibration) as new, np.load(trained / "calibration.npz") as old:
        assert set(new.files) == set(old.files)
        for name in old.files:
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)


@pytest.mark.slow
def test_what_is_reported(trained: Path):
    metrics = json.loads((trained / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert set(metrics[split]) == {spec.name for spec in SPECS}  # no auxiliary target
        others = metrics["baselines"][split]
        assert {"mean", "ridge", "identity", "composition", "network"} == set(others)
        assert others["composition"]["bulk_modulus"]["n"] == metrics[split]["bulk_modulus"]["n"]
    assert metrics["validation"]["bulk_modulus"]["n"] == 18  # out of fold, of three folds
    page = write_report(trained).read_text()
    assert "What answers" in page
    assert "out-of-fold predictions" in page
    member = json.loads((trained / "member0/metrics.json").read_text())
    assert set(member["yardsticks"]) == {"composition", "density", "all"}
    log = [json.loads(line) for line in (trained / "member0/metrics.jsonl").open()]
    losses = {key for line in log if line["split"] == "train" for key in line}
    assert {"loss/auxiliary_Row", "loss/auxiliary_Electronegativity"} <= losses
