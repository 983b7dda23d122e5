"""A mixture answers as its weights and its learners say, in a run, an ensemble, for a file."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from densityjax import predict
from densityjax.configs import smoke
from densityjax.data.dataset import open_from_config
from densityjax.density.reader import read_density
from densityjax.features.descriptors import Descriptors
from densityjax.prediction.answers import answers
from densityjax.prediction.materials import make_material, read_material
from densityjax.report.page import write_report
from densityjax.results.calibration import read_calibration
from densityjax.results.constraints import project
from densityjax.results.identities import identities
from densityjax.results.interval_cells import beyond_training
from densityjax.results.learner_file import load_learners
from densityjax.results.predictions import features_of, unlabelled_records
from densityjax.results.predictions_table import read_table
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import IDENTITY, read_stack
from densityjax.runtime.errors import UserError
from densityjax.targets import from_intensive, get_specs, to_intensive
from densityjax.training import calibrate
from densityjax.training.calibrate import gather, open_run
from densityjax.training.ensemble import train_ensemble
from densityjax.training.mixture import ask_yardsticks, cells_of, column_names
from densityjax.training.setup import load_folds, load_role
from densityjax.training.trained_model import restore_members
from tests.small_model import SMALL_MODEL
from tests.training.test_ensemble import density  # noqa: F401  a fixture

SPECS = get_specs([
    "bulk_modulus", "volume", "total_energy", "is_metal", "shear_modulus", "youngs_modulus",
    "poisson_ratio", "band_gap",
])
CONSTRAINTS = ("elastic", "gap", "positive")


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
    config.model.constraints = CONSTRAINTS
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
            if spec.name in ("volume", "youngs_modulus", "poisson_ratio"):
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
            if spec.name in ("bulk_modulus", "shear_modulus", "band_gap"):
                answer = {name: table.prediction for name, table in found.items()}
                mixed = project(answer | {spec.name: mixed}, SPECS, CONSTRAINTS)[spec.name]
            np.testing.assert_allclose(found[spec.name].prediction, mixed, rtol=1e-5)


@pytest.mark.slow
def test_every_answer_obeys(trained: Path, density: Path):  # noqa: F811
    """Of the ensemble's mixture, of a member's, of its network, of both splits, of a file."""
    runs = [RunDirectory(trained), *RunDirectory(trained).members()]
    said = [
        {name: table.prediction for name, table in run.read_predictions(SPECS, split).items()}
        for run in runs for split in ("validation", "test")
    ]
    said += [
        {name: table.prediction for name, table in run.read_learner("network", SPECS).items()}
        for run in runs[1:]
    ]
    members = restore_members(trained)
    networks = [
        [dataclasses.replace(own, whole=None) for own in member] for member in members
    ]
    for models in (members, networks):  # the mixture, and the mean of the networks
        found = answers(models, [read_material(density, 24)])
        said.append({answer.spec.name: answer.values for answer in found})
    metals = insulators = 0
    for values in said:
        bulk, shear = values["bulk_modulus"], values["shear_modulus"]
        assert min(bulk.min(), shear.min(), values["volume"].min()) > 0
        young, ratio = values["youngs_modulus"], values["poisson_ratio"]
        np.testing.assert_allclose(young, 9 * bulk * shear / (3 * bulk + shear), rtol=1e-13)
        np.testing.assert_allclose(
            ratio, (3 * bulk - 2 * shear) / (2 * (3 * bulk + shear)), atol=1e-14
        )
        metal = values["is_metal"].argmax(axis=1) == 1
        np.testing.assert_array_equal(values["band_gap"] == 0, metal)
        metals, insulators = metals + metal.sum(), insulators + (~metal).sum()
    assert min(metals, insulators) > 0


@pytest.mark.slow
def test_a_doubled_cell_has_twice_the_energy(trained: Path, density: Path):  # noqa: F811
    """Of kernels and their mixture, where the doubled cell has the same points.

    Features are rounded to float16, which kernels of 18 materials show by 1 % at most, and by
    0.05 % as a rule. On the grid of the model it has half as many points along the doubled axis;
    then the energy of this one material was off by 7 to 16 %.
    """
    once = make_material(read_density(density), 24).record
    twice = once | {
        "density": np.tile(once["density"], (1, 1, 2, 1)),
        "lattice": once["lattice"] * [[1], [1], [2]],
        "species": np.tile(once["species"], 2),
        "positions": np.concatenate([once["positions"] + [0, 0, n] for n in (0, 1)]) / [1, 1, 2],
        "num_electrons": 2 * once["num_electrons"],
    }
    members = restore_members(trained)
    whole, said = members[0][0].whole, []
    for record in (once, twice):
        records = unlabelled_records([record], SPECS, 1, features_of([record]))
        records = records.described(whole.descriptors)
        columns = ask_yardsticks(whole.yardsticks, whole.learners, records).columns
        columns["network"] = columns["all_rbf"]  # its views are in tests/test_predict.py
        mixed = whole.stack(columns | {IDENTITY: identities(records, SPECS)}, SPECS,
                            cells_of(records))
        said.append(columns | {"mixture": mixed})
    apart = []
    for name, small in said[0].items():
        for target, values in small.items():
            factor = 2 if target in ("total_energy", "volume") else 1
            if target not in ("is_metal", "band_gap"):  # which may be near 0
                apart.append(np.abs(said[1][name][target] / (factor * values) - 1).max())
    assert max(apart) < 0.02
    assert np.median(apart) < 2e-3


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
