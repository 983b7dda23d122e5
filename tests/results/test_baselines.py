"""Baselines on the labels and cells that ship with the repository."""

import csv
import dataclasses
import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from densityjax.features.composition import mass_density
from densityjax.results.baselines import BASELINES, Rows, baseline_metrics, baseline_predictions
from densityjax.runtime.errors import UserError
from densityjax.targets import TARGETS, get_specs

ARCHIVE = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
NAMES = ("bulk_modulus", "debye_temperature", "volume", "density", "magnetic_moment",
         "is_metal", "crystal_system")
SPECS = get_specs(NAMES)


def _chgcar(text: str) -> tuple[float, float, float]:
    """Volume Å^3, electrons and |moment| μB of a CHGCAR, read without densityjax."""
    lines = text.split("\n")
    scale = float(lines[1])
    lattice = scale * np.array([line.split() for line in lines[2:5]], float)
    start = 9 + sum(int(n) for n in lines[6].split())
    blocks, words = [], iter(" ".join(lines[start:]).split())
    for first in words:
        shape = (int(first), int(next(words)), int(next(words)))
        values = [float(next(words)) for _ in range(int(np.prod(shape)))]
        blocks.append(float(np.mean(values)))  # mean of rho * V = integral over the cell
    return float(abs(np.linalg.det(lattice))), blocks[0], abs(sum(blocks[1:]))


@pytest.fixture(scope="module")
def table():
    """Rows of labels.csv, and (volume, electrons, moment) from some density files."""
    with tarfile.open(ARCHIVE) as archive:
        labels = archive.extractfile("labels.csv").read().decode()
        rows = list(csv.DictReader(io.StringIO(labels)))
        magnetic = [row for row in rows if float(row["magnetic_moment"]) > 0.5]
        some = {}
        for row in [*rows[:5], *magnetic[:5]]:
            text = lzma.decompress(archive.extractfile(row["file"]).read()).decode()
            some[row["material_id"]] = _chgcar(text)
    return rows, some


def _rows(table, keep) -> Rows:
    rows = [row for row in table[0] if keep(row)]
    labels = {}
    for spec in SPECS:
        text = [row[spec.name] for row in rows]
        if spec.name == "crystal_system":
            labels[spec.name] = np.array([spec.classes.index(name) for name in text])
        elif spec.kind == "classification":
            labels[spec.name] = np.array([int(t) if t else -1 for t in text])
        else:
            labels[spec.name] = np.array([float(t or "nan") for t in text], np.float32)
    volume = np.array([float(row["volume"]) for row in rows])
    electrons = np.array([float(row["num_electrons"]) for row in rows])
    moment = np.array([float(row["magnetic_moment"]) for row in rows])
    density = np.array([float(row["density"]) for row in rows])
    exact = {"volume": volume, "density": density, "magnetic_moment": moment}
    return Rows(labels, electrons / volume, volume, exact)


def _first(rows: Rows, count: int, labels: dict) -> Rows:
    exact = {name: values[:count] for name, values in rows.identities.items()}
    return Rows(labels, rows.grid_mean[:count], rows.volume[:count], exact)


@pytest.fixture(scope="module")
def train(table):
    return _rows(table, lambda row: row["fold"] in "234")


@pytest.fixture(scope="module")
def test(table):
    return _rows(table, lambda row: row["fold"] == "0")


def test_identities_reproduce_real_labels_from_the_files(table, train):
    rows = {row["material_id"]: row for row in table[0]}
    ids = list(table[1])
    volume, electrons, moment = np.array([table[1][i] for i in ids]).T
    density = mass_density([_species(rows[i]["formula"]) for i in ids], volume)
    nsites = np.array([int(rows[i]["nsites"]) for i in ids])
    units = np.array([len(_species(rows[i]["formula"])) for i in ids])
    exact = {
        "volume": volume, "density": density * nsites / units, "magnetic_moment": moment,
    }
    inputs = Rows({}, electrons / volume, volume, exact)
    identity = baseline_predictions(train, inputs, SPECS)["identity"]
    assert set(identity) == {"volume", "density", "magnetic_moment"}
    for name, tolerance in (("volume", 1e-5), ("density", 1e-4), ("magnetic_moment", 2e-3)):
        expected = [float(rows[i][name]) for i in ids]
        np.testing.assert_allclose(identity[name], expected, rtol=tolerance, atol=tolerance)


def test_without_known_elements_the_mass_density_is_the_training_mean(train, test):
    unknown = mass_density([np.array([0, 8]), np.array([14])], np.array([20.0, 20.0]))
    assert np.isnan(unknown[0])
    assert unknown[1] == pytest.approx(28.085 * 1.66053906660 / 20, 1e-4)
    exact = test.identities | {"density": np.full(test.volume.size, np.nan)}
    hidden = dataclasses.replace(test, identities=exact)
    predictions = baseline_predictions(train, hidden, SPECS)
    np.testing.assert_array_equal(
        predictions["identity"]["density"], predictions["mean"]["density"]
    )


def _species(formula: str) -> np.ndarray:
    return Atoms(formula).numbers


def test_mean_is_that_of_labelled_training_rows(train, test):
    mean = baseline_predictions(train, test, SPECS)["mean"]
    labels = train.labels["debye_temperature"]
    assert 0 < np.isnan(labels).sum() < labels.size
    np.testing.assert_allclose(mean["debye_temperature"], np.nanmean(labels), rtol=1e-6)
    share = np.mean(train.labels["is_metal"] == 1)
    np.testing.assert_allclose(mean["is_metal"][:, 1], share)


def test_nothing_is_fitted_on_test_rows(train, test):
    """Other test labels, and other test rows beside a row, change no prediction of it."""
    changed = {name: np.flip(values) for name, values in test.labels.items()}
    expected = baseline_predictions(train, test, SPECS)
    relabelled = baseline_predictions(train, dataclasses.replace(test, labels=changed), SPECS)
    first = _first(test, 1, {})
    alone = baseline_predictions(train, first, SPECS)
    for baseline, predictions in expected.items():
        for name, values in predictions.items():
            np.testing.assert_array_equal(values, relabelled[baseline][name])
            np.testing.assert_allclose(values[:1], alone[baseline][name], rtol=1e-9)


def test_ridge_learns_and_missing_training_labels_are_left_out(train, test):
    metrics = baseline_metrics(train, test, SPECS)
    assert set(metrics) == set(BASELINES)
    assert metrics["ridge"]["bulk_modulus"]["r2"] > 0.4 > metrics["mean"]["bulk_modulus"]["r2"]
    assert metrics["ridge"]["is_metal"]["roc_auc"] > 0.7
    # Dropping the unlabelled rows beforehand gives the same predictions.
    kept = np.isfinite(train.labels["debye_temperature"])
    fewer = Rows(
        {name: values[kept] for name, values in train.labels.items()},
        train.grid_mean[kept], train.volume[kept],
        {name: values[kept] for name, values in train.identities.items()},
    )
    spec = get_specs(["debye_temperature"])
    for baseline in ("mean", "ridge"):
        np.testing.assert_allclose(
            baseline_predictions(train, test, spec)[baseline]["debye_temperature"],
            baseline_predictions(fewer, test, spec)[baseline]["debye_temperature"],
        )


def test_class_missing_from_training_gets_probability_zero(train, test):
    spec = TARGETS["crystal_system"]
    labels = np.where(train.labels["crystal_system"] == 6, -1, train.labels["crystal_system"])
    hidden = dataclasses.replace(train, labels={"crystal_system": labels})
    for probabilities in (
        baseline_predictions(hidden, test, [spec])[b]["crystal_system"] for b in ("mean", "ridge")
    ):
        assert probabilities.shape == (test.volume.size, 7)
        assert np.all(probabilities[:, 6] == 0)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_training_rows(train, test, n):
    few = _first(train, n, {k: v[:n] for k, v in train.labels.items()})
    specs = get_specs(["bulk_modulus", "density", "is_metal"])
    for predictions in baseline_predictions(few, test, specs).values():
        for values in predictions.values():
            assert np.all(np.isfinite(values))


def test_no_training_label_is_an_error(train, test):
    empty = dataclasses.replace(train, labels={"bulk_modulus": np.full(train.volume.size, np.nan)})
    with pytest.raises(UserError, match="'bulk_modulus' has no label in the training rows"):
        baseline_predictions(empty, test, get_specs(["bulk_modulus"]))
