"""Mixtures against scipy's constrained minimum, and what their weights must not see."""

import numpy as np
import pytest
from scipy.optimize import minimize

from densityjax.results.stack import (
    IDENTITY,
    Cells,
    Stack,
    cross_fitted,
    fit_stack,
    read_stack,
    take,
)
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json
from densityjax.targets import get_specs

SPECS = get_specs(["bulk_modulus", "total_energy", "refractive_index", "volume", "is_metal"])
N = 120


def _table(seed=0, n=N):
    """Labels, and three learners: a good one, a biased one and noise."""
    rng = np.random.default_rng(seed)
    cells = Cells(rng.uniform(4, 60, n), rng.uniform(20, 200, n))
    labels = {
        "bulk_modulus": rng.uniform(10, 300, n),
        "total_energy": cells.num_electrons * rng.normal(-4, 1, n),
        "refractive_index": rng.uniform(1.2, 4, n),
        "volume": cells.volume.copy(),
        "is_metal": rng.integers(0, 2, n),
    }
    columns = {}
    for name, noise in (("good", 0.1), ("fair", 0.3), ("bad", 1.0)):
        own = {
            key: values * np.exp(rng.normal(0, noise, n)) for key, values in labels.items()
            if key != "is_metal"
        }
        right = np.clip(0.5 + (1 - noise) / 2 + rng.normal(0, noise / 4, n), 0.01, 0.99)
        is_one = labels["is_metal"] == 1
        own["is_metal"] = np.stack([np.where(is_one, 1 - right, right),
                                    np.where(is_one, right, 1 - right)], axis=1)
        columns[name] = own
    labels["bulk_modulus"][::5] = np.nan
    labels["is_metal"][::4] = -1
    return columns, labels, cells


def test_weights_are_the_constrained_least_squares():
    columns, labels, cells = _table()
    found = fit_stack(columns, labels, SPECS, cells).weights
    known = np.isfinite(labels["bulk_modulus"])
    design = np.stack([columns[name]["bulk_modulus"][known] for name in columns], axis=1)
    truth = labels["bulk_modulus"][known]
    reference = minimize(
        lambda w: np.square(design @ w - truth).mean() / truth.var(), np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3, constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14},
    ).x
    np.testing.assert_allclose(list(found["bulk_modulus"].values()), reference, atol=1e-4)
    for weights in found.values():
        assert min(weights.values()) >= 0
        assert sum(weights.values()) == pytest.approx(1)


def test_mixed_where_the_target_is_trained():
    """Per electron, and as a logarithm: a mean of exponents is a product of powers."""
    columns, _, cells = _table()
    half = dict.fromkeys(columns, 0.0) | {"good": 0.25, "fair": 0.75}
    found = Stack({spec.name: half for spec in SPECS})(columns, SPECS, cells)
    good, fair = columns["good"], columns["fair"]
    np.testing.assert_allclose(
        found["total_energy"], 0.25 * good["total_energy"] + 0.75 * fair["total_energy"]
    )
    product = good["refractive_index"] ** 0.25 * fair["refractive_index"] ** 0.75
    np.testing.assert_allclose(found["refractive_index"], np.maximum(product, 1))
    np.testing.assert_allclose(found["is_metal"].sum(axis=1), 1)


def test_what_the_file_gives_is_taken_from_it():
    columns, labels, cells = _table()
    exact = cells.volume.copy()
    columns[IDENTITY] = {"volume": exact}
    stack = fit_stack(columns, labels, SPECS, cells)
    assert stack.weights["volume"] == {IDENTITY: 1.0}
    assert IDENTITY not in stack.weights["bulk_modulus"]
    np.testing.assert_array_equal(stack(columns, SPECS, cells)["volume"], exact)
    exact[3] = np.nan  # a file that names no elements
    found = stack(columns, SPECS, cells)["volume"]
    mean = np.mean([columns[name]["volume"][3] for name in ("good", "fair", "bad")])
    assert found[3] == pytest.approx(mean)
    np.testing.assert_array_equal(np.delete(found, 3), np.delete(exact, 3))


def test_cross_fitted_weights_have_not_seen_the_system():
    columns, labels, cells = _table()
    systems = np.repeat([f"A-{k}" for k in range(N // 4)], 4)
    before = cross_fitted(columns, labels, SPECS, cells, systems)
    changed = {name: values.copy() for name, values in labels.items()}
    own = systems == "A-7"
    changed["bulk_modulus"][own] = 1e5
    changed["is_metal"][own] = 1 - np.abs(changed["is_metal"][own])
    after = cross_fitted(columns, changed, SPECS, cells, systems)
    for name in ("bulk_modulus", "is_metal"):
        np.testing.assert_array_equal(before[name][own], after[name][own])
        assert not np.array_equal(before[name], after[name])  # the others' weights have


def test_few_labels_give_equal_weights():
    columns, labels, cells = _table()
    labels["bulk_modulus"][5:] = np.nan
    weights = fit_stack(columns, labels, SPECS, cells).weights["bulk_modulus"]
    assert list(weights.values()) == pytest.approx([1 / 3] * 3)
    with pytest.raises(UserError, match=r"config\.stack\.learners is empty"):
        fit_stack({IDENTITY: {}}, labels, SPECS, cells)


def test_weights_survive_a_file(tmp_path):
    columns, labels, cells = _table()
    stack = fit_stack(columns, labels, SPECS, cells)
    replace_json(tmp_path / "stack.json", stack.to_json())
    again = read_stack(tmp_path / "stack.json")
    rows = np.arange(7)
    for name, values in stack(take(columns, rows), SPECS, cells.rows(rows)).items():
        found = again(take(columns, rows), SPECS, cells.rows(rows))[name]
        np.testing.assert_allclose(found, values, rtol=1e-12)
