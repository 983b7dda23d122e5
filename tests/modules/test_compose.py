"""An adapter is trained, kept, verified and composed with another, on 18 materials."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from densityjax.configs import smoke
from densityjax.data.dataset import open_from_config
from densityjax.model.layers import ADAPTER
from densityjax.modules import compose as module_of_compose
from densityjax.modules.compose import compose
from densityjax.modules.embedding import embed
from densityjax.modules.hub import HubError, load_start, read_hub, read_module, save_start
from densityjax.modules.train import train_modules
from densityjax.results.manifest import write_manifest
from densityjax.results.predictions import predict_records
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.step import parallel
from densityjax.step.create_task import create_task
from densityjax.step.weights import save_weights
from densityjax.targets import get_specs
from densityjax.training.initial import read_start
from densityjax.training.setup import fit_inputs, load_role
from tests.small_model import SMALL_MODEL


def _config(data_dir: Path, *targets: str):
    config = smoke.get_config()
    config.update_from_flattened_dict(SMALL_MODEL | {"model.blocks": (1,)})
    config.data.data_dir, config.targets = str(data_dir), targets
    config.train.epochs = config.train.evaluate_every_epochs = 1
    config.train.batch_size = 8
    return config


@pytest.fixture(scope="module")
def start(small_dataset: Path, tmp_path_factory) -> Path:
    """A random trunk as pretraining leaves one."""
    folder, config = tmp_path_factory.mktemp("start"), _config(small_dataset, "volume")
    builder, specs = open_from_config(config.data), get_specs(("volume",))
    inputs = fit_inputs(config, specs, load_role(config, builder, specs, "train", False), 1)
    inputs.statistics.save(folder / "statistics.json")
    save_weights(folder / "network.safetensors", [inputs.initial_state()])
    config.targets = ()
    (folder / "config.json").write_text(config.to_json_best_effort())
    (folder / "run.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def hub(start: Path, small_dataset: Path, tmp_path_factory) -> Path:
    """One module as it was trained; another with the same heads and other adapters."""
    hub = tmp_path_factory.mktemp("modules") / "hub"
    config = _config(small_dataset, "band_gap", "fermi_energy")
    config.init, config.model.adapter = str(start), 2
    for _ in range(2):  # the second time it is there
        assert train_modules(config, hub, (0, 2)) == [hub / "band_gap"]
    other = hub / "fermi_energy"
    shutil.copytree(hub / "band_gap", other)
    state = read_module(other).model.state
    network = jax.tree.map(np.array, state.ema_params["model"])
    network["stage0_block0"][ADAPTER]["up"]["kernel"] += 0.5
    save_weights(other / "network.safetensors", [
        state.replace(ema_params={**state.ema_params, "model": network})
    ])
    facts = read_module(hub / "band_gap").facts
    write_manifest(other, {"name": "other", "module": {**facts, "target": "fermi_energy"}})
    return hub


def test_only_adapters_of_a_module_learn(hub: Path):
    modules, (begun, _) = read_hub(hub), load_start(hub)
    assert [module.target for module in modules] == ["band_gap", "fermi_energy"]
    trunk = jax.tree.map(np.asarray, modules[0].trunk)
    assert abs(trunk["stage0_block0"].pop(ADAPTER)["up"]["kernel"]).max() > 0
    jax.tree.map(_close, trunk, {name: begun[name] for name in trunk})
    assert "adapters of width 2, the trunk frozen" in (hub / "band_gap/README.md").read_text()
    assert modules[0].facts["data"]["train_folds"] == [2, 3, 4]


def _close(found: np.ndarray, expected: np.ndarray) -> None:
    """But for the rounding of averages over steps."""
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_embeddings_are_those_of_each_network(hub: Path, small_dataset: Path):
    config = _config(small_dataset, "band_gap")
    config.model.adapter = 2
    specs, modules = get_specs(config.targets), read_hub(hub)
    records = load_role(config, open_from_config(config.data), specs, "train", False)
    rows = np.arange(len(records))
    trunks, statistics = [module.trunk for module in modules], modules[0].model.statistics
    found = embed(trunks, config, statistics, records, rows)
    for module, embedding in zip(modules, found, strict=True):
        model = module.model
        mapped = parallel.mapped_predict_step(
            create_task(model.config, model.specs, 1), model.config.view.evaluation_views
        )
        own = predict_records(mapped, model.state, records, specs, model.statistics, 8)
        np.testing.assert_allclose(embedding, own.embedding[:, : found.shape[2]], atol=1e-5)
    assert abs(found[0] - found[1]).max() > 0.01
    together = embed(trunks, config, statistics, records, rows[:8], at_once=True)
    np.testing.assert_allclose(together, found[:, :8], atol=1e-5)


def test_a_new_target(
    hub: Path, small_dataset: Path, tmp_path: Path, capsys, caplog,
    monkeypatch: pytest.MonkeyPatch,
):
    trained = []
    monkeypatch.setattr(module_of_compose, "train_ensemble", lambda *args: trained.append(args))
    config = _config(small_dataset, "bulk_modulus")
    config.model.adapter, config.optimizer.head_first = 2, 0.5
    config.data.train_folds, config.data.test_fold = (0, 3, 4), 2
    config.modules.bootstraps = 5
    beside = [module.path / "encoder.safetensors" for module in read_hub(hub)]
    for path in beside:  # as modules of latents have it
        path.write_bytes(b"an autoencoder")
    content = compose(config, hub, tmp_path / "run")
    for path in beside:
        path.unlink()
    assert content["labels"] == 18
    assert (tmp_path / "run/start/encoder.safetensors").read_bytes() == b"an autoencoder"
    said = capsys.readouterr().out
    assert "bulk_modulus: 18 labels of" in said
    config.init = str(tmp_path / "run/start")
    ((own, workdir),) = trained
    assert (own.init, workdir) == (config.init, tmp_path / "run")
    begun = read_start(config, tmp_path / "none")
    assert begun.parameters["band_gap_out"]  # a head that no run of the new target takes
    modules, weights = read_hub(hub), [row.get("weight") for row in content["modules"].values()]
    kernels = [m.trunk["stage0_block0"][ADAPTER]["up"]["kernel"] for m in modules]
    for module, weight in zip(modules, weights):
        warned = f"{module.path} was trained on fold 2, config.data.test_fold of" in caplog.text
        assert warned == bool(weight)
    if not content["fallback"]:
        mean = sum(w * np.asarray(kernel) for w, kernel in zip(weights, kernels))
        kernel = begun.parameters["stage0_block0"][ADAPTER]["up"]["kernel"]
        np.testing.assert_allclose(kernel, mean, atol=1e-6)
    (tmp_path / "run/config.json").write_text(config.to_json_best_effort())
    config.init = ""
    assert compose(config, hub, tmp_path / "run") == content  # a run that has begun goes on
    assert trained[1] == trained[0]
    assert capsys.readouterr().out == said
    for other, determining, message in (
        (tmp_path, False, f"was composed with --hub={hub}, not {tmp_path}"),
        (hub, True, "was composed with --use_determining=False, not True"),
    ):
        with pytest.raises(ConfigError, match=message):
            compose(config, other, tmp_path / "run", determining)


def test_too_few_labels_fall_back_to_the_start(hub: Path, small_dataset: Path, tmp_path: Path):
    config = _config(small_dataset, "bulk_modulus")
    config.model.adapter, config.modules.min_labels = 2, 19
    content = compose(config, hub, tmp_path, train=False)
    assert "18 labels are fewer" in content["fallback"]
    config.init = str(tmp_path / "start")
    begun = read_start(config, tmp_path / "none")
    np.testing.assert_array_equal(
        begun.parameters["stem"]["dilation1"]["kernel"],
        load_start(hub)[0]["stem"]["dilation1"]["kernel"],
    )


def test_mistakes(hub: Path, start: Path, small_dataset: Path, tmp_path: Path):
    config = _config(small_dataset, "bulk_modulus")
    for changes, message in (
        ({}, "config.model.adapter: 2 there, 0 here"),
        ({"targets": ("bulk_modulos",)}, "did you mean bulk_modulus"),
        ({"targets": ("c11", "c12")}, "modules are composed for one target"),
        ({"init": "elastic"}, "the start is composed from --hub"),
    ):
        own = config.copy_and_resolve_references()
        own.update(changes)
        with pytest.raises(UserError, match=message):
            compose(own, hub, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"config\.init is empty"):
        train_modules(config, tmp_path / "other")
    assert not (tmp_path / "run").exists()
    config.init, config.model.adapter = str(start), 2
    for changes, message in (
        ({"model.adapter": 3}, r"model\.adapter: 2 there, 3 now"),
        ({"train.epochs": 2}, r"train\.epochs: 1 there, 2 now"),
        ({"data.train_folds": (2, 3)}, r"data\.train_folds: \[2, 3, 4\] there, \[2, 3\] now"),
    ):
        own = _config(small_dataset, "band_gap")
        own.update_from_flattened_dict(
            {"init": str(start), "model.adapter": 2} | changes
        )
        with pytest.raises(HubError, match=message):
            train_modules(own, hub)
    begun = read_start(config, tmp_path / "none")
    begun.facts["sha256"] = "another"
    with pytest.raises(HubError, match="was made from another start"):
        save_start(hub, begun)
    copy = tmp_path / "hub"
    shutil.copytree(hub, copy)
    path = copy / "start.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(HubError, match="its content is not what its hash says"):
        load_start(copy)
    path = copy / "band_gap" / "network.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(UserError, match=r"network.safetensors is not the file that was exported"):
        read_hub(copy)
    manifest = copy / "band_gap" / "model.json"
    content = json.loads(manifest.read_text())
    content["files"] = {}
    for change, message in (
        ({"module": {"format": 2}}, "a module of format 2; this densityjax reads 1"),
        ({"module": None}, "is a model and no module"),
    ):
        manifest.write_text(json.dumps(content | change))
        with pytest.raises(HubError, match=message):
            read_hub(copy)
