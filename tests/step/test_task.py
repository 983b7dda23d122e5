"""A config becomes a hashable, static task."""

import pytest

from densityjax.configs import elastic
from densityjax.step.task import create_task, field_size
from densityjax.targets import get_specs


def test_task_is_static_and_follows_the_view():
    config = elastic.get_config()
    specs = get_specs(config.targets)
    task = create_task(config, specs, 10)
    hash((task.model, task.specs, task.view, task.loss))
    assert task.model.padding == "zero"
    assert field_size(config, 32) == config.view.size
    config.view.kind = "fractional"
    task = create_task(config, specs, 10)
    assert task.model.padding == "circular"
    assert field_size(config, 32) == 32


def test_target_weights():
    config = elastic.get_config()
    config.targets = ("bulk_modulus", "volume")
    with config.loss.target_weights.unlocked():
        config.loss.target_weights.volume = 0.25
    assert create_task(config, get_specs(config.targets), 10).loss.weights == (1.0, 0.25)
    config.targets = ("bulk_modulus", "density")
    with pytest.raises(ValueError, match=r"target_weights names \['volume'\]"):
        create_task(config, get_specs(config.targets), 10)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("view", "padding", "reflect"),
        ("loss", "regression", "mae"),
        ("loss", "weighting", "learned"),
        ("input", "transform", "sqrt"),
        ("input", "lattice_features", "lengths"),
        ("model", "implementation", "fft"),
        ("model", "dtype", "float16"),
        ("model", "attention", ("temporal",)),
        ("model", "blocks", (1, 2, 3)),
        ("model", "widths", (1, 64)),
        ("input", "log_clamp", 0.0),
    ],
)
def test_unknown_choice_names_the_key(section: str, key: str, value):
    config = elastic.get_config()
    config[section][key] = value
    with pytest.raises(ValueError, match=rf"config\.{section}\.{key}"):
        create_task(config, get_specs(config.targets), 10)
