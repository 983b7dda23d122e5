"""Features and affinities that models give: those of the run that they stand for."""

from pathlib import Path

import numpy as np
import pytest

from densityjax.configs import smoke
from densityjax.data.dataset import open_dataset
from densityjax.data.records import load_records
from densityjax.results.predictions import predict_members
from densityjax.target_grouping.model_similarity import fit_model_similarities
from densityjax.targets import get_specs
from densityjax.training.run import train_and_evaluate
from densityjax.training.trained_model import restore_run
from tests.small_model import SMALL_MODEL

FOLDS = (2, 3, 4)
TARGETS = ("bulk_modulus", "fermi_energy", "is_metal")


def small_config(data_dir: Path):
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.data.build = False
    config.data.train_folds = FOLDS
    config.update_from_flattened_dict(SMALL_MODEL)
    config.targets = TARGETS
    config.grouping.epochs = config.train.epochs = 2
    config.train.evaluate_every_epochs = 2  # once, at the end: best and latest are one state
    return config


@pytest.mark.slow
def test_features_are_those_of_a_run_with_the_target_alone(small_dataset: Path, tmp_path: Path):
    config = small_config(small_dataset)
    builder = open_dataset(config.data.name, str(small_dataset), build=False)
    specs = get_specs(TARGETS[:1])
    # restore_run predicts with the views of evaluation, features are averaged over validation's.
    config.view.validation_views = config.view.evaluation_views
    found = fit_model_similarities(config, builder, FOLDS, specs, ("transfer",))
    assert np.isnan(found.lookahead).all()  # was not asked for

    alone = small_config(small_dataset)
    alone.targets = TARGETS[:1]
    train_and_evaluate(alone, tmp_path)
    run = restore_run(tmp_path)
    records = load_records(
        builder, [f"fold{fold}" for fold in FOLDS], specs, channels=1, spin_polarized_only=False,
        cache_in_memory=True,
    )
    (expected,) = predict_members(
        run.program, run.program.place([run.state]), [records], specs, [run.statistics], 16
    )
    # Another program, of members, which rounds elsewhere.
    np.testing.assert_allclose(
        found.features[TARGETS[0]], expected.embedding, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_affinities_of_every_epoch(small_dataset: Path):
    config = small_config(small_dataset)
    builder = open_dataset(config.data.name, str(small_dataset), build=False)
    which = ("task_affinity", "gradient_cosine")
    found = fit_model_similarities(config, builder, FOLDS, get_specs(TARGETS), which)
    assert found.features == {}
    assert found.lookahead.shape == found.cosine.shape == (2, 3, 3)
    np.testing.assert_allclose(np.einsum("eii->ei", found.cosine), 1, atol=1e-4)
    np.testing.assert_allclose(found.cosine, found.cosine.swapaxes(1, 2), atol=1e-4)
    # A small step on a target lowers its own loss.
    assert (np.einsum("eii->ei", found.lookahead) > 0).all()
    # Asking for one of them, or twice, changes no number.
    again = fit_model_similarities(config, builder, FOLDS, get_specs(TARGETS), which[:1])
    np.testing.assert_array_equal(again.lookahead, found.lookahead)
