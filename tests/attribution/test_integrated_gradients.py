"""The map and the descriptors add up to what the network says, and the map is the gradient's."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from densityjax.attribution.explain import Settings, explain
from densityjax.attribution.integrated_gradients import integrated_gradients
from densityjax.attribution.references import reference_density
from densityjax.attribution.tables import warnings_of
from densityjax.prediction.answers import answers
from tests.attribution.conftest import ATOMS, SPECS, crystal, question_of, with_seed


@pytest.mark.parametrize("target", [spec.name for spec in SPECS])
def test_map_and_descriptors_add_up_in_the_targets_unit(seeing_invariants, target):
    question = question_of(seeing_invariants, target)
    record = question.material.record
    found = integrated_gradients(question, reference_density(record, None), 16)
    (said,) = [a for a in answers(question.model.members, [question.material])
               if a.spec.name == target]
    expected = said.values[0] if said.values.ndim == 1 else said.values[0].max()
    assert found.prediction == pytest.approx(expected, rel=1e-4)
    flat = {**record, "density": np.full_like(record["density"], record["density"].mean())}
    flat = dataclasses.replace(question.material, record=flat)
    (said,) = [a for a in answers(question.model.members, [flat]) if a.spec.name == target]
    expected = said.values[0] if said.values.ndim == 1 else said.values[0][question.which]
    assert found.reference == pytest.approx(expected, rel=1e-4)
    assert abs(found.through_descriptors) > 1e-3 * abs(found.difference)
    assert found.total == pytest.approx(found.difference, rel=0.01)
    assert found.error < 0.01
    assert found.by_view.mean(0) == pytest.approx(found.values, rel=1e-4, abs=1e-6)


def test_a_network_without_descriptors_is_explained_by_its_map_alone(seeing_invariants):
    model = seeing_invariants
    ignorant = dataclasses.replace(
        model, statistics=dataclasses.replace(
            model.statistics, feature_std=np.array([1, 1e9, 1e9, 1e9])
        ),
    )
    question = question_of(ignorant)
    found = integrated_gradients(question, reference_density(question.material.record, ATOMS), 8)
    assert abs(found.through_descriptors) < 1e-4
    # The atoms of these crystals are the average atoms: nothing differs from the reference.
    assert found.difference == pytest.approx(0, abs=1e-2)


def test_other_weights_make_another_map(seeing_invariants):
    record = crystal().record
    reference = reference_density(record, None)
    maps = [
        integrated_gradients(question_of(with_seed(seeing_invariants, seed)), reference, 4).values
        for seed in (0, 0, 1)
    ]
    assert spearmanr(maps[0].ravel(), maps[1].ravel()).statistic == pytest.approx(1)
    assert abs(spearmanr(maps[0].ravel(), maps[2].ravel()).statistic) < 0.8


def test_too_few_steps_are_warned_of_and_the_sum_survives_smoothing(seeing_invariants):
    question = question_of(seeing_invariants)
    good = explain(question, Settings(steps=16, orders=0))
    raw = explain(question, Settings(steps=16, orders=0, smooth=0.0))
    assert not [w for w in good.warnings if "miss" in w]
    assert good.found.values.sum() == pytest.approx(raw.found.values.sum(), rel=1e-6)
    assert np.abs(good.found.values).max() < np.abs(raw.found.values).max()
    shares = [row["share"] for row in good.rows]
    assert sum(shares) == pytest.approx(good.found.values.sum(), rel=1e-6)
    assert np.mean([row["value"] for row in good.rows]) == pytest.approx(sum(shares))
    wrong = dataclasses.replace(good.found, reference=good.found.reference + 10)
    assert wrong.error > 0.05
    assert "take more --steps" in warnings_of(question, wrong)[0]


def test_a_model_that_sees_no_cores_is_explained_by_what_it_sees(seeing_invariants):
    config = seeing_invariants.config.copy_and_resolve_references()
    config.input.core = "charge"
    question = question_of(dataclasses.replace(seeing_invariants, config=config))
    record = question.material.record
    seen = question.density
    assert np.abs(seen - record["density"]).max() > 0.1 * record["density"].max()
    found = integrated_gradients(question, reference_density(record, None), 8)
    said = answers(question.model.members, [question.material])[0].values[0]
    assert found.prediction == pytest.approx(said, rel=1e-4)
    assert found.error < 0.01
