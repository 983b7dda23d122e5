"""Every key of a training config has a rule; a value that breaks it is named before anything."""

import importlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from ml_collections import ConfigDict

from densityjax.config import (
    MODEL_RULES,
    RULES,
    YARDSTICK_NAMES,
    check,
    check_grid,
    check_rules,
    completed,
    one_of,
    positive,
)
from densityjax.configs import elastic, elastic_paper
from densityjax.configs.ecd import autoencoder, latent
from densityjax.model import create
from densityjax.model.field import FieldTransform
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.model.losses import LossConfig
from densityjax.model.ops.conv3d import Implementation
from densityjax.model.views import ViewConfig
from densityjax.results.yardsticks import YARDSTICKS
from densityjax.runtime.errors import ConfigError
from densityjax.runtime.files import flatten


def _changed(**changes: Any) -> ConfigDict:
    config = elastic.get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def test_every_key_has_a_rule():
    content = elastic.get_config().to_dict()
    content.pop("grouping")  # has a table of its own
    assert set(RULES | MODEL_RULES["msa3dcnn"]) == set(flatten(content))


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("input.transform", get_args(FieldTransform)),
        ("input.lattice_features", NUM_FEATURES),
        ("view.kind", get_args(ViewConfig.__annotations__["kind"])),
        ("model.implementation", get_args(Implementation)),
        ("model.name", create.MODELS),
        ("loss.regression", get_args(LossConfig.__annotations__["regression"])),
        ("loss.weighting", get_args(LossConfig.__annotations__["weighting"])),
    ],
)
def test_choices_are_those_that_the_code_has(key: str, known):
    assert (RULES | MODEL_RULES["msa3dcnn"])[key].text == "one of " + ", ".join(map(repr, known))


@pytest.mark.parametrize(
    ("key", "value", "must"),
    [
        ("seed", -1, "a whole number of at least 0"),
        ("groups", "", "a text that is not empty"),
        ("data.split", "random", "one of 'auto', 'fold'"),
        ("data.train_folds", (), "1 or more, each a whole number"),
        ("data.train_folds", (2, -3), "each a whole number of at least 0"),
        ("data.held_out_elements", ("Xx",), "the symbol of an element"),
        ("input.channels", 3, "one of 1, 2"),
        ("input.transform", "sqrt", "one of 'linear'"),
        ("input.log_clamp", 0.0, "a number above 0"),
        ("input.log_clamp", float("nan"), "a number above 0"),
        ("input.lattice_features", "lengths", "one of 'none'"),
        ("view.kind", "polar", "one of 'fractional', 'cartesian'"),
        ("view.padding", "reflect", "one of 'zero', 'valid'"),
        ("view.spacing", -0.3, "a number above 0"),
        ("view.evaluation_views", 0, "a whole number from 1 to 1024"),
        ("model.name", "resnet", "one of 'msa3dcnn'"),
        ("model.attention", ("temporal",), "each one of 'channel', 'spatial'"),
        ("model.dilations", (0,), "each a whole number of at least 1"),
        ("model.dilations", (), "1 or more"),
        ("model.dropout", 1.0, "a number from 0 to under 1"),
        ("model.implementation", "fft", "one of 'auto'"),
        ("model.dtype", "float16", "one of 'float32', 'bfloat16'"),
        ("loss.regression", "mae", "one of 'mse', 'huber'"),
        ("loss.weighting", "learned", "one of 'fixed', 'uncertainty'"),
        ("optimizer.learning_rate", -1e-3, "a number of at least 0"),
        ("optimizer.warmup_fraction", 1.5, "a number from 0 to 1"),
        ("optimizer.clip_norm", 0.0, "a number above 0"),
        ("train.epochs", 0, "a whole number of at least 1"),
        ("train.ema_decay", 1.0, "a number from 0 to under 1"),
        ("train.checkpoint_every_steps", -1, "a whole number of at least 0"),
        ("train.max_skipped_steps", 0, "a whole number of at least 1"),
        ("train.heartbeat_seconds", 0, "a whole number of at least 1"),
    ],
)
def test_a_broken_rule_names_key_value_and_what_it_must_be(key: str, value, must: str):
    config = elastic.get_config()
    config.update_from_flattened_dict({key: value})
    start = re.escape(f"config.{key}={value!r}: it must be ")
    with pytest.raises(ConfigError, match=f"^{start}.*{re.escape(must)}"):
        check(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__test_fold": 2}, "config.data.test_fold=2 use a fold in two roles"),
        ({"data__train_folds": (2, 2)}, "two roles"),
        ({"model__blocks": (1, 2, 3)}, "widths has 2 stages and config.model.blocks 3"),
        ({"model__widths": (1, 64)}, r"config.model.widths=\(1, 64\): each must be at least 2"),
        ({"model__constraints": ("elastik",)}, "each one of 'elastic', 'gap', 'positive'"),
        ({"model__constraints": ("gap",)}, "add these .* or take the constraint out"),
        ({"targets": ("bulk_modulos",)}, "did you mean bulk_modulus"),
        ({"targets": ("volume", "volume")}, "each target once"),
        ({"targets": ("bulk_modulus,volume",)}, "several targets are a tuple"),
        ({"pretraining__objectives__masked": 1.0, "pretraining__block": 4.0},
         r"block=4.0 Å is too large for a view of 24 x 0.3 Å"),
        ({"pretraining__objectives__masked": 1.0, "view__kind": "fractional"}, "take 'cartesian'"),
        ({"pretraining__objectives__denoising": 1.0, "view__padding": "valid"}, "take 'zero'"),
        ({"pretraining__objectives__masked": 1.0, "pretraining__objectives__reconstruction": 1.0},
         "reconstruction hides nothing, masked does"),
    ],
)
def test_values_that_do_not_fit_together(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        check(_changed(**changes))


def test_targets_of_a_folder_are_checked_with_the_folder():
    config = _changed(targets=("hardness",), data__name="density_folder/grid32")
    check(config)
    check(_changed(targets=(), data__source="/my/folder"))


def test_target_weights():
    config = elastic.get_config()
    config.targets = ("bulk_modulus", "density")
    with config.loss.unlocked():
        config.loss.target_weights = ConfigDict({"density": 0.25})
        check(config)
        config.loss.target_weights = ConfigDict({"volume": 0.25})
        with pytest.raises(ConfigError, match="target_weights names volume, not in"):
            check(config)
        config.loss.target_weights = ConfigDict({"density": 0.0})
        with pytest.raises(ConfigError, match=r"weights=\{'density': 0.0\}: it must be a sect"):
            check(config)


def test_the_batch_divides_over_devices_and_micro_batches():
    config = _changed(train__batch_size=32, train__accumulation_steps=2)
    check(config, 8)
    config.train.batch_size = 24
    check(config)  # it is not known yet on how many
    with pytest.raises(ConfigError, match=r"=24 does not divide over 8 .* multiple of 16"):
        check(config, 8)


def test_the_grid_of_a_periodic_field_divides_by_the_strides():
    config = _changed(view__kind="fractional")
    check_grid(config, 24)
    with pytest.raises(ConfigError, match=r"grid of 30 does not divide .* \(4\)"):
        check_grid(config, 30)
    check_grid(_changed(view__kind="cartesian"), 30)


def test_a_table_of_another_folder():
    rules = {"linkage": one_of("average"), "epochs": positive}
    check_rules(ConfigDict({"linkage": "average", "epochs": 1}), rules, "config.grouping.")
    with pytest.raises(ConfigError, match=r"config\.grouping\.linkage='ward': it must be one of"):
        check_rules(ConfigDict({"linkage": "ward", "epochs": 1}), rules, "config.grouping.")


def test_a_config_of_before_has_what_it_had():
    """Settings that came later are off, whatever configs/elastic.py says of them now."""
    before = elastic_paper.get_config().to_dict()
    later = ("input", "invariants"), ("data", "train_fraction"), ("model", "constraints")
    for section, key in later:
        del before[section][key]
    del before["stack"], before["auxiliary"], before["ensemble"], before["yardsticks"]
    before["train"]["epochs"] = 7
    found = completed(before)
    assert found.train.epochs == 7
    assert (found.input.invariants, tuple(found.stack.learners)) == (0, ())
    assert found.yardsticks == ()
    assert found.to_dict() == elastic_paper.get_config().to_dict() | {
        "train": found.train.to_dict(), "yardsticks": (),
    }


def test_yardsticks_of_the_rules_are_those_that_there_are():
    assert tuple(YARDSTICKS) == YARDSTICK_NAMES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view__kind": "cartesian"}, r"config\.view\.kind='cartesian' does not go with "
                                      r"config\.input\.encoder, .*: set --config\.view\.kind=frac"),
        ({"view__cube_operations": True}, "they turn a density, not what stands in its latent"),
        ({"input__transform": "log"}, "a latent is no density"),
        ({"model__constraints": ("even_spin",)}, "'even_spin' changes the sign of a magnetisation"),
        ({"pretraining__objectives__reconstruction": 1.0}, "learn them with the autoencoder"),
    ],
)
def test_latents_go_with_few_settings(changes: dict[str, Any], message: str):
    config = latent.get_config()
    check(config)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    with pytest.raises(ConfigError, match=message):
        check(config)


def test_an_autoencoder_is_of_the_periodic_field():
    config = autoencoder.get_config()
    check(config)
    check_grid(config, 48)
    with pytest.raises(ConfigError, match=r"grid of 44 does not divide .* \(8\)"):
        check_grid(config, 44)
    config.view.kind = "cartesian"
    with pytest.raises(ConfigError, match="an autoencoder is of the periodic field"):
        check(config)


def test_configs_of_the_autoencoder_system():
    """Each is sound, and its header gives its command."""
    for path in sorted((Path(elastic.__file__).parent / "ecd").glob("[a-z]*.py")):
        module = importlib.import_module(f"densityjax.configs.ecd.{path.stem}")
        check(module.get_config())
        assert f"--config=configs/ecd/{path.name}" in module.__doc__
