"""A calibration says the same when it is read again, holds bounds, and knows what it belongs to."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from densityjax.features.reduction import fit_reduction
from densityjax.results import conformal
from densityjax.results.calibration import (
    Calibration,
    ClassCalibration,
    Reference,
    RegressionCalibration,
    hash_of,
    read_calibration,
)
from densityjax.results.interval_cells import interval_cells, interval_columns
from densityjax.results.interval_scale import Evidence, choose, spreads_as_trained
from densityjax.results.run_directory import RunDirectory, RunDirectoryError
from densityjax.results.stack import Cells, as_trained
from densityjax.runtime.errors import UserError
from densityjax.targets import get_specs, to_intensive

SPECS = get_specs(["bulk_modulus", "total_energy", "dielectric_constant", "is_metal"])
SIZE = 240


def evidence(seed: int = 0, size: int = SIZE) -> Evidence:
    """Predictions whose error grows with what the learners disagree by."""
    rng = np.random.default_rng(seed)
    cells = Cells(rng.uniform(10, 60, size), rng.uniform(30, 200, size))
    doubt = rng.uniform(0.2, 3, size)
    values = {
        "bulk_modulus": rng.uniform(2, 200, size),
        "total_energy": -10 * cells.num_electrons * rng.uniform(0.9, 1.1, size),
        "dielectric_constant": np.exp(rng.uniform(0.1, 3, size)),
    }
    probabilities = rng.uniform(0, 1, size)
    views = {name: rng.uniform(0.5, 1, size) for name in values}
    return Evidence(
        SPECS, values | {"is_metal": np.stack([1 - probabilities, probabilities], axis=1)}, views,
        dict.fromkeys(values, doubt), rng.uniform(1, 3, size), rng.normal(size=(size, 4)), cells,
        rng.integers(1, 9, size),
    )


def made(known: Evidence, seed: int = 1) -> Calibration:
    """Calibrated on materials of which two and two share a system."""
    rng = np.random.default_rng(seed)
    systems, rows, targets = np.arange(SIZE) // 2, np.arange(SIZE), {}
    weights = conformal.system_weights(systems)
    for spec in SPECS[:3]:
        residuals = 0.1 * known.learners[spec.name] * rng.normal(size=SIZE)
        chosen = choose(spec, known, rows, residuals, systems, weights)
        assert set(chosen.widths) >= {"constant", "learners, asymmetric", "trees"}
        targets[spec.name] = RegressionCalibration(
            chosen.scale, chosen.asymmetric, residuals / chosen.sigma, residuals, systems,
            3 * residuals / chosen.sigma, np.arange(SIZE) % 20
        )
    probabilities = known.values["is_metal"]
    labels = (rng.uniform(size=SIZE) < probabilities[:, 1]).astype(int)
    targets["is_metal"] = ClassCalibration("lac", probabilities, labels, systems)
    features = rng.normal(size=(30, 6))
    reduction = fit_reduction(features, 4)
    trained = np.arange(30) % 3 != np.arange(2)[:, None]
    reference = Reference(reduction, reduction(features), trained)
    facts = {"is_metal": {"rows": SIZE}}
    return Calibration("a fold", "hash", reference, targets, facts, np.arange(1, 30))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return made(evidence())


def test_the_best_sigma_is_taken_and_held_out_materials_are_covered(calibration):
    known, other = evidence(), evidence(5, 4000)
    assert calibration.targets["bulk_modulus"].scale.kind in ("learners", "trees")
    rng = np.random.default_rng(9)
    for spec in SPECS[:3]:
        trained = as_trained(spec, other.values[spec.name], other.cells)
        truth = trained + 0.1 * other.learners[spec.name] * rng.normal(size=4000)
        low, high = (
            as_trained(spec, end, other.cells) for end in calibration.interval(spec, other, 0.9)
        )
        # 120 systems: the standard deviation of the coverage of one calibration is 0.027.
        assert 0.82 < ((low <= truth) & (truth <= high)).mean() < 0.98
        width = high - low
        sure = other.learners[spec.name] < 1
        assert width[sure].mean() < 0.75 * width[~sure].mean()
    assert known.columns.shape[1] == other.columns.shape[1]


def test_intervals_keep_to_the_bounds_of_a_target(calibration):
    other = evidence(3)
    low, high = calibration.interval(SPECS[0], other, 0.9)
    assert (low >= 0).all()
    assert (high > low).all()
    low, _ = calibration.interval(SPECS[2], other, 0.9)
    assert (low >= 1).all()  # a dielectric constant


def test_what_is_read_again_says_the_same(calibration, tmp_path):
    path, other = tmp_path / "calibration.npz", evidence(4)
    calibration.save(path)
    again = Calibration.load(path)
    assert (again.source, again.of, again.facts) == ("a fold", "hash", calibration.facts)
    coverages = (0.8, 0.9)
    beyond = [False] * (SIZE - 1) + [True]
    cells = interval_cells(calibration, coverages, other, beyond)
    assert interval_cells(again, coverages, other, beyond) == cells
    near = interval_cells(calibration, coverages, other, [False] * SIZE)
    assert cells[1][:-1] == near[1][:-1]
    wide, narrow = (c[1][-1]["upper_0.9"] - c[1][-1]["lower_0.9"] for c in (cells, near))
    assert 2 < wide / narrow < 4
    assert cells[3].pop() == {}  # no set of classes
    assert set(cells[0][0]) == {"lower_0.8", "upper_0.8", "lower_0.9", "upper_0.9"}
    assert set(cells[3][0]) == {"set_0.8", "set_0.9"}
    assert interval_columns((0.9,)) == [("lower", "upper", "set")]
    assert cells[0][0]["lower_0.9"] <= cells[0][0]["lower_0.8"]
    assert {tuple(cell["set_0.9"]) for cell in cells[3]} <= {
        ("insulator",), ("metal",), ("insulator", "metal"),
    }
    found = again.reference.distances(again.reference.components[:1])
    nearest = np.sort(np.linalg.norm(
        again.reference.components[again.reference.trained[1]] - again.reference.components[0],
        axis=1,
    ))[:3]
    assert found[1, 0] == pytest.approx(nearest.mean())


def test_a_coverage_that_one_target_does_not_support_is_refused(calibration):
    calibration.check_coverages((0.5, 0.9))
    with pytest.raises(UserError, match=r"'bulk_modulus' was calibrated on 120 .* 0\.9917"):
        calibration.check_coverages((0.5, 0.995))


def test_a_calibration_of_other_predictions_is_refused(calibration, tmp_path: Path):
    run = RunDirectory(tmp_path)
    assert read_calibration(run) is None
    run.targets.write_text("[]")
    run.predictions("validation").write_text("id\n")
    dataclasses.replace(calibration, of=hash_of(run)).save(run.calibration)
    assert read_calibration(run).source == "a fold"
    run.predictions("validation").write_text("id\nmp-1\n")
    with pytest.raises(RunDirectoryError, match="from other predictions"):
        read_calibration(run)
    run.calibration.write_bytes(run.calibration.read_bytes()[:500])
    with pytest.raises(RunDirectoryError, match=r"is damaged.*densityjax\.calibrate"):
        read_calibration(run)


def test_spreads_are_of_what_is_learned():
    cells = Cells(np.array([10.0, 20]), np.array([50.0, 80]))
    energy, dielectric = SPECS[1:3]
    columns = {
        "a": {"total_energy": np.array([-100.0, -220]), "dielectric_constant": np.array([2.0, 4])},
        "b": {"total_energy": np.array([-120.0, -220]), "dielectric_constant": np.array([8.0, 4])},
    }
    views = {"total_energy": np.array([5.0, 4]), "dielectric_constant": np.array([0.2, 0.4])}
    over, between = spreads_as_trained(SPECS[1:], views, columns["a"], columns, cells)
    np.testing.assert_allclose(over["total_energy"], [0.5, 0.2])
    np.testing.assert_allclose(over["dielectric_constant"], [0.1, 0.1])
    np.testing.assert_allclose(between["total_energy"], [1.0, 0.0])
    np.testing.assert_allclose(between["dielectric_constant"], [np.log(2), 0])
    assert set(over) == {energy.name, dielectric.name}
    assert to_intensive(energy, np.array([-100.0]), cells.num_electrons[:1], 0) == -10
