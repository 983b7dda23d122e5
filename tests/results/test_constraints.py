"""Whatever is averaged or mixed, what is answered obeys, to the last digit."""

import numpy as np
import pytest

from densityjax.results.averages import average_parts
from densityjax.results.constraints import mixture_weights, project, project_tables
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.stack import Cells, Stack, fit_stack
from densityjax.targets import get_specs

SPECS = get_specs([
    "youngs_modulus", "bulk_modulus", "poisson_ratio", "shear_modulus", "is_metal", "band_gap",
    "debye_temperature", "volume", "total_energy",
])
ALL = ("elastic", "gap", "positive")


def draws(seed: int, scale: float, n: int = 300) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {spec.name: scale * rng.normal(size=n) for spec in SPECS if spec.kind == "regression"}
    metal = rng.random(n)
    return found | {"is_metal": np.stack([1 - metal, metal], axis=1)}


def assert_obeys(values: dict[str, np.ndarray]) -> None:
    bulk, shear = values["bulk_modulus"], values["shear_modulus"]
    for name in ("bulk_modulus", "shear_modulus", "debye_temperature", "volume"):
        assert (values[name] > 0).all()
    np.testing.assert_allclose(
        values["youngs_modulus"], 9 * bulk * shear / (3 * bulk + shear), rtol=1e-14
    )
    np.testing.assert_allclose(
        values["poisson_ratio"], (3 * bulk - 2 * shear) / (2 * (3 * bulk + shear)), atol=1e-15
    )
    assert -1 < values["poisson_ratio"].min() <= values["poisson_ratio"].max() < 0.5
    metal = values["is_metal"].argmax(axis=1) == 1
    assert 0 < metal.sum() < len(metal)
    np.testing.assert_array_equal(values["band_gap"] == 0, metal)
    assert (values["band_gap"] >= 0).all()


@pytest.mark.parametrize("scale", [1e-3, 100.0, 1e20])
def test_any_values_obey_once_projected(scale):
    values = draws(0, scale)
    found = project(values, SPECS, ALL)
    assert_obeys(found)
    again = project(found, SPECS, ALL)
    for name in values:
        np.testing.assert_array_equal(again[name], found[name])
        np.testing.assert_array_equal(project(values, SPECS, ())[name], values[name])
    for name in ("total_energy", "is_metal"):
        np.testing.assert_array_equal(found[name], values[name])


def test_an_average_of_what_obeys_is_projected():
    parts = [project(draws(seed, 50.0), SPECS, ALL) for seed in range(3)]
    average = {
        name: average_parts([part[name] for part in parts], [np.zeros(300)] * 3)[0]
        for name in parts[0]
    }
    bulk, shear = average["bulk_modulus"], average["shear_modulus"]
    young = 9 * bulk * shear / (3 * bulk + shear)
    assert (np.abs(average["youngs_modulus"] - young) > 0.01 * young).any()
    ids = tuple(map(str, range(300)))
    tables = [
        TargetPredictions(spec, ids, ids, np.zeros(300), average[spec.name], np.zeros(300))
        for spec in SPECS
    ]
    found = {t.spec.name: t.prediction for t in project_tables(tables, ALL)}
    assert_obeys(found)
    np.testing.assert_array_equal(found["bulk_modulus"], average["bulk_modulus"])


def test_mixtures_obey_and_mix_the_moduli():
    cells = Cells(np.full(300, 20.0), np.full(300, 100.0))
    columns = {name: draws(seed, 50.0) for seed, name in enumerate(("network", "kernel"))}
    for own in columns.values():
        own["debye_temperature"] += 30
    labels = draws(7, 50.0) | {"is_metal": np.arange(300) % 2}
    stack = fit_stack(columns, labels, SPECS, cells, ALL)
    found = stack(columns, SPECS, cells)
    assert_obeys(found)
    weight = stack.weights["bulk_modulus"]
    mixed = sum(w * columns[name]["bulk_modulus"] for name, w in weight.items())
    np.testing.assert_allclose(found["bulk_modulus"], np.maximum(mixed, 1e-3))
    both = [stack.weights[name]["network"] for name in ("bulk_modulus", "shear_modulus")]
    assert stack.weights["youngs_modulus"]["network"] == pytest.approx(np.mean(both))
    assert mixture_weights(stack.weights, ()) == stack.weights
    # The same mixture, twice as large a cell: what is extensive is doubled, exactly.
    twice = {
        name: own | {k: 2 * own[k] for k in ("total_energy", "volume")}
        for name, own in columns.items()
    }
    doubled = Cells(2 * cells.num_electrons, 2 * cells.volume)
    large = Stack(stack.weights, ALL)(twice, SPECS, doubled)
    np.testing.assert_allclose(large["total_energy"], 2 * found["total_energy"], rtol=1e-12)
    np.testing.assert_allclose(large["bulk_modulus"], found["bulk_modulus"], rtol=1e-12)
