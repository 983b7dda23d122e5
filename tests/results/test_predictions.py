"""View averages in physical units, the loss that picks the best state, the prediction table."""

import csv
from pathlib import Path

import numpy as np
import pytest

from densityjax.model.losses import LossConfig
from densityjax.results.predictions import Predictions, physical, selection_loss
from densityjax.targets import TARGETS, get_specs

ELECTRONS, VOLUME = np.array([8.0, 30.0]), np.array([40.0, 90.0])


def test_physical_extensive_target():
    """Per-electron values of two views, scaled back, averaged; the spread in the same unit."""
    raw = np.array([[[1.0], [3.0]], [[0.0], [0.0]]])  # [2, 2, 1]
    values, spread = physical(TARGETS["total_energy"], raw, -2.0, 0.5, ELECTRONS, VOLUME)
    assert np.allclose(values, [(-1.5 - 0.5) / 2 * 8, -2.0 * 30])
    assert np.allclose(spread, [0.5 * 8, 0.0])


def test_physical_bound_holds_per_view():
    raw = np.array([[[-1.0], [1.0]], [[-1.0], [-1.0]]])
    values, _ = physical(TARGETS["band_gap"], raw, 0.0, 2.0, ELECTRONS, VOLUME)
    assert np.allclose(values, [1.0, 0.0])


def test_physical_classes_average_probabilities():
    raw = np.log(np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [0.4, 0.6]]]))
    values, spread = physical(TARGETS["is_metal"], raw, 0.0, 1.0, ELECTRONS, VOLUME)
    assert np.allclose(values, [[0.7, 0.3], [0.3, 0.7]])
    assert np.allclose(spread, [0.2, 0.1])


def test_selection_loss_weighs_targets_and_skips_missing_labels():
    specs = get_specs(("bulk_modulus", "band_gap"))
    predictions = Predictions(
        values={}, spread={}, embedding=np.zeros((3, 1)),
        loss={"bulk_modulus": np.array([1.0, np.nan, 3.0]), "band_gap": np.array([4.0, 5.0, 6.0])},
    )
    loss = LossConfig("mse", 1.0, (3.0, 1.0), "fixed")
    assert selection_loss(predictions, specs, loss) == pytest.approx((3 * 2.0 + 5.0) / 4)


def test_every_held_out_material_is_predicted_once(smoke_run: Path):
    """180 materials of fold 0 times 5 targets, truths as in labels.csv."""
    with (smoke_run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = [(row["id"], row["target"]) for row in rows]
    assert len(keys) == len(set(keys)) == 180 * 5
    by_key = dict(zip(keys, rows, strict=True))
    row = by_key["mp-10015", "bulk_modulus"]
    assert row["formula"] == "SiOs"
    assert float(row["truth"]) == pytest.approx(290.957, rel=1e-6)
    assert by_key["mp-10015", "is_metal"]["truth"] == "metal"
    probabilities = [float(p) for p in by_key["mp-10015", "is_metal"]["probabilities"].split(";")]
    assert sum(probabilities) == pytest.approx(1.0)
