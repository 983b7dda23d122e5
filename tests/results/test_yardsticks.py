"""Yardsticks on made-up tables whose answers are known."""

import json

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from densityjax.results import gaussian_process as gp
from densityjax.results import yardsticks
from densityjax.results.yardsticks import YARDSTICKS, fit, fit_all
from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec, get_specs

SPECS = get_specs(("bulk_modulus", "total_energy", "band_gap", "is_metal", "crystal_system"))


def _table(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    composition, invariants = rng.normal(size=(n, 3)), rng.normal(size=(n, 30))
    electrons, volume = rng.uniform(4, 60, n), rng.uniform(20, 200, n)
    first, second = composition[:, 0], invariants[:, 0]
    labels = {
        "bulk_modulus": 100 + 30 * first + 20 * np.sin(second),
        "total_energy": electrons * (-4 + first),
        "band_gap": np.maximum(first, 0),
        "is_metal": (first < 0).astype(int),
        "crystal_system": np.digitize(second, [-1, 0, 1]) + 1,
    }
    features = {"composition": composition, "invariants": invariants, "structure": composition}
    features["identified"] = features["structure"]
    return features, labels, electrons, volume


@pytest.fixture(scope="module")
def fitted():
    features, labels, electrons, volume = _table(250)
    labels["band_gap"][::3] = np.nan
    labels["is_metal"][::4] = -1
    return fit_all(features, labels, SPECS, electrons, volume)


def test_each_block_tells_what_it_holds(fitted):
    features, labels, electrons, volume = _table(200, seed=1)
    found = {
        name: yardstick.metrics(features, labels, electrons, volume)
        for name, yardstick in fitted.items()
    }
    assert set(found) == set(YARDSTICKS)
    assert found["composition"]["total_energy"]["r2"] > 0.95
    assert found["composition"]["is_metal"]["roc_auc"] > 0.95
    assert found["invariants"]["total_energy"]["r2"] < 0.8  # of the electrons alone
    both = found["both"]["bulk_modulus"]["r2"]
    assert both > found["composition"]["bulk_modulus"]["r2"] + 0.05
    assert both > found["invariants"]["bulk_modulus"]["r2"] + 0.05
    assert found["invariants"]["crystal_system"]["accuracy"] > 0.5
    assert found["both"]["is_metal"]["n"] == 200


def test_predictions_are_physical(fitted):
    features, _, electrons, volume = _table(50, seed=2)
    found = fitted["both"].predict(features, electrons, volume)["mean"]
    assert (found["band_gap"] >= 0).all()  # spec.minimum
    for name, count in (("is_metal", 2), ("crystal_system", 7)):
        assert found[name].shape == (50, count)
        np.testing.assert_allclose(found[name].sum(axis=1), 1)
        assert (found[name] >= 0).all()
    doubled = fitted["both"].predict(features, 2 * electrons, volume)["mean"]
    np.testing.assert_allclose(doubled["total_energy"], 2 * found["total_energy"])


def test_only_training_rows_count_and_the_seed_decides(fitted):
    features, labels, electrons, volume = _table(120)
    small = {"composition": features["composition"]}
    first, again = (
        fit(small, labels, SPECS[:2], electrons, volume, seed=3)
        .predict(small, electrons, volume)["mean"]
        for _ in range(2)
    )
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    # What is predicted for a row does not depend on which others are predicted.
    test, _, electrons, volume = _table(40, seed=5)
    whole = fitted["both"].predict(test, electrons, volume)["mean"]
    few = {k: v[:7] for k, v in test.items()}
    part = fitted["both"].predict(few, electrons[:7], volume[:7])["mean"]
    np.testing.assert_allclose(part["bulk_modulus"], whole["bulk_modulus"][:7], rtol=1e-5)


def test_what_cannot_be_determined_counts_as_the_mean(fitted):
    features, _, electrons, volume = _table(20, seed=4)
    features["composition"][0] = np.nan
    found = fitted["both"].predict(features, electrons, volume)["mean"]
    assert np.isfinite(found["bulk_modulus"]).all()
    features, labels, electrons, volume = _table(60)
    features["composition"][:5] = np.nan
    features["invariants"][:, 3] = np.nan
    yardstick = fit(features, labels, SPECS[:1], electrons, volume)
    assert np.isfinite(yardstick.predict(features, electrons, volume)["mean"]["bulk_modulus"]).all()


def test_rows_are_bounded_and_facts_say_so(monkeypatch):
    for name, rows in (("SELECTION_ROWS", 40), ("KERNEL_ROWS", 80), ("TREE_ROWS", 60)):
        monkeypatch.setattr(yardsticks, name, rows)
    features, labels, electrons, volume = _table(300)
    facts = fit(features, labels, SPECS[:1], electrons, volume).facts["bulk_modulus"]
    found = [facts[n] for n in ("rows", "selection_rows", "kernel_rows", "tree_rows")]
    assert found == [300, 40, 80, 60]
    assert json.loads(json.dumps(facts))["settings"]["rbf"]["noise"] > 0


def test_labels_that_do_not_differ_and_labels_that_are_missing():
    features, labels, electrons, volume = _table(30)
    labels["bulk_modulus"][:] = 50.0
    labels["is_metal"][:] = 1
    yardstick = fit(features, labels, (SPECS[0], SPECS[3]), electrons, volume)
    found = yardstick.predict(features, electrons, volume)["mean"]
    np.testing.assert_allclose(found["bulk_modulus"], 50)
    np.testing.assert_allclose(found["is_metal"][:, 1], 1)
    labels["bulk_modulus"][:] = np.nan
    with pytest.raises(UserError, match=r"bulk_modulus.*no label"):
        fit(features, labels, SPECS[:1], electrons, volume)


def test_extensive_and_logarithmic_targets():
    features, _, electrons, volume = _table(200)
    spec = TargetSpec("x", "regression", "", "X", transform="log", per="volume")
    labels = {"x": volume * np.exp(features["composition"][:, 0])}
    part = {"composition": features["composition"]}
    yardstick = fit(part, labels, (spec,), electrons, volume)
    test, _, electrons, volume = _table(100, seed=9)
    found = yardstick.predict(test, electrons, volume)["mean"]["x"]
    error = np.abs(np.log(found / volume) - test["composition"][:, 0])
    assert np.median(error) < 0.1


def test_leave_one_out_is_what_leaving_one_out_gives():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(25, 4)).astype(np.float32), rng.normal(size=(25, 2))
    kernel = np.exp(-0.5 * gp.distances("laplacian", x, x))
    errors = gp.leave_one_out(kernel, y)
    for place, noise in enumerate(gp._NOISES):
        for row in (0, 11):
            rest = np.delete(np.arange(25), row)
            inner = kernel[np.ix_(rest, rest)] + noise * np.eye(24)
            expected = y[row] - kernel[row, rest] @ np.linalg.solve(inner, y[rest])
            np.testing.assert_allclose(errors[place, row], expected, rtol=1e-3)  # single precision


def test_process_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    x, y, new = rng.normal(size=(40, 5)), rng.normal(size=40), rng.normal(size=(9, 5))
    settings = gp.Settings({"a": 0.5}, {}, 0.1, 0.0)
    process = gp.fit_process("rbf", settings, {"a": gp.distances("rbf", x, x)}, y[:, None])
    kernel = RBF(np.sqrt(5 / (2 * 0.5)))  # exp(-|d|^2 / 2 l^2) = exp(-0.5 |d|^2 / 5)
    reference = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(x, y - y.mean())
    found = process.predict({"a": gp.distances("rbf", new, x)})[:, 0]
    np.testing.assert_allclose(found, reference.predict(new) + y.mean(), rtol=1e-8)


def test_blocks_that_agree_in_training_share_a_fit_and_differ_in_prediction():
    features, labels, electrons, volume = _table(60)
    fitted = fit_all(features, labels, SPECS[:2], electrons, volume, trees=())
    assert set(fitted["density"].blocks) == {"identified", "invariants"}
    test, _, electrons, volume = _table(20, seed=3)
    both = fitted["both"].predict(test, electrons, volume)["rbf"]["bulk_modulus"]
    density = fitted["density"].predict(test, electrons, volume)["rbf"]["bulk_modulus"]
    np.testing.assert_array_equal(density, both)
    without = {"invariants": test["invariants"], "identified": test["identified"] + 1.0}
    moved = fitted["density"].predict(without, electrons, volume)["rbf"]["bulk_modulus"]
    assert np.abs(moved - both).max() > 1


def test_rows_in_parts_and_targets_with_labels_of_their_own(monkeypatch):
    """Predictions do not depend on what else is fitted or on the size of the parts."""
    features, labels, electrons, volume = _table(90)
    labels["band_gap"][:30] = np.nan
    test, _, *cells = _table(50, seed=8)
    alone = fit(features, labels, SPECS[2:3], electrons, volume).predict(test, *cells)
    monkeypatch.setattr(yardsticks, "_CHUNK", 7)
    together = fit(features, labels, SPECS[:3], electrons, volume).predict(test, *cells)
    for learner, values in alone.items():
        np.testing.assert_allclose(values["band_gap"], together[learner]["band_gap"], rtol=1e-5)
