"""A config becomes a hashable, static task."""

from densityjax.configs import elastic
from densityjax.step.create_task import create_task, field_size
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
