"""Every config loads, validates and has the shapes of a step; every key is declared and read."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from densityjax.config import check
from densityjax.configs import elastic
from densityjax.data.batches import MODEL_INPUTS
from densityjax.features.descriptors import descriptor_sizes
from densityjax.model.field import num_fields
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.step import parallel
from densityjax.step.create_task import create_task, field_size, objective_names
from densityjax.step.train_state import train_state_shapes
from densityjax.targets import get_specs

ROOT = Path(__file__).parents[1]
NOT_CONFIGS = ("__init__", "target_groups")
NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem not in NOT_CONFIGS)
PRETRAINING = sorted(
    f"pretrain/{p.stem}" for p in (ROOT / "configs/pretrain").glob("*.py") if p.stem != "__init__"
)


def _load(name: str) -> ConfigDict:
    return _module(name).get_config()


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"densityjax.configs.{name.replace('/', '.')}")


def _keys(config: ConfigDict, prefix: str = "") -> set[str]:
    keys = set()
    for key, value in config.items():
        free = f"{prefix}{key}" == "loss.target_weights"
        nested = isinstance(value, ConfigDict) and not free
        keys |= _keys(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}"}
    return keys


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str):
    """A whole training step, traced without arrays, on 8 devices."""
    config = _load(name)
    check(config, jax.device_count())
    # Those of a folder are the columns of its table; any of them has the same shapes.
    specs = get_specs(config.targets or ("bulk_modulus", "is_metal"))
    grid = int(re.search(r"grid(\d+)$", config.data.name).group(1))
    if name.startswith("paper") or name in ("gpu8", "tpu_pod"):
        assert grid >= 64
    task = create_task(config, specs, num_steps=100)
    channels = config.input.channels
    fields = num_fields(channels, config.input.transform)
    descriptors = sum(descriptor_sizes(config.input).values())
    features = NUM_FEATURES[config.input.lattice_features] + descriptors
    statistics = {
        "field_mean": jnp.zeros(fields),
        "field_std": jnp.ones(fields),
        "feature_mean": jnp.zeros(features),
        "feature_std": jnp.ones(features),
        "class_weights": {s.name: jnp.ones(len(s.classes)) for s in specs if s.classes},
    }
    size = field_size(config, grid)
    state = train_state_shapes(task.model, task.tx, statistics, size)
    devices, steps = jax.device_count(), config.train.accumulation_steps
    share = config.train.batch_size // devices // steps

    def leaf(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((devices, steps, share, *shape), dtype)

    batch = {
        "density": leaf(grid, grid, grid, channels),
        "lattice": leaf(3, 3),
        "num_electrons": leaf(),
        "descriptors": leaf(descriptors),
        "index": leaf(dtype=jnp.int32),
        "labels": leaf(len(task.specs)),
        "mask": leaf(len(task.specs)),
    }
    new_state, metrics = jax.eval_shape(parallel.mapped_train_step(task), state, batch)
    assert jax.tree.map(lambda a: a.shape, new_state) == jax.tree.map(lambda a: a.shape, state)
    assert metrics["target_sum"].shape == (len(specs),)
    inputs = {
        name: jax.ShapeDtypeStruct((devices, share, *batch[name].shape[3:]), jnp.float32)
        for name in MODEL_INPUTS
    }
    outputs, _ = jax.eval_shape(parallel.mapped_predict_step(task, 3), new_state, inputs)
    for spec in specs:
        assert outputs[spec.name].shape == (devices, share, 3, spec.num_outputs)


@pytest.mark.parametrize("name", [*NAMES, *PRETRAINING, "modules/elastic"])
def test_declares_no_key_of_its_own(name: str):
    """elastic.py declares all; a variant with another key, or another type, is an error."""
    check(_load(name))
    assert _keys(_load(name)) == _keys(elastic.get_config())
    with pytest.raises((AttributeError, KeyError)):
        _load(name).train.epoch = 3


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining_has_objectives_and_no_targets(name: str):
    config = _load(name)
    assert config.targets == ()
    assert objective_names(config)


@pytest.mark.parametrize("name", [*NAMES, *PRETRAINING, "modules/elastic"])
def test_header_gives_the_command(name: str):
    doc = _module(name).__doc__
    assert f"--config=configs/{name}.py" in doc


def test_every_key_is_read():
    """A key that no code names would be a setting without effect."""
    code = "\n".join(p.read_text() for p in sorted((ROOT / "densityjax").rglob("*.py")))
    model_fields = importlib.import_module("densityjax.model.msa3dcnn").MSA3DCNN.__annotations__
    unread = []
    for key in _keys(elastic.get_config()):
        section, _, name = key.rpartition(".")
        if section == "model" and name in model_fields:
            continue  # passed on as the fields of the model
        read = rf"\.{name}\b" if section else rf"config\.{name}\b"
        if not re.search(read, code) and not re.search(rf'"{name}"', code):
            unread.append(key)
    assert not unread


def test_fold_roles():
    """Nothing is trained or chosen on the test fold."""
    for name in NAMES:
        data = _load(name).data
        if name == "elastic_pretrained":  # which is given away
            assert data.test_fold == -1
            assert {data.validation_fold, *data.train_folds} == set(range(5))
            continue
        assert data.test_fold == 0
        assert data.validation_fold == 1
        assert set(data.train_folds) == {2, 3, 4}
