"""Networks on latents: kept beside the dataset, never of an encoder that has seen the test fold."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from densityjax.attribution.question import ask
from densityjax.configs.ecd import autoencoder, latent_composition
from densityjax.data.dataset import open_from_config
from densityjax.prediction.answers import network_records, predict_materials
from densityjax.prediction.export import export_run
from densityjax.prediction.materials import Material
from densityjax.prediction.model import open_model
from densityjax.results.manifest import write_manifest
from densityjax.results.run_directory import RunDirectory, RunDirectoryError
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.step.encoder import Encoder
from densityjax.targets import get_specs
from densityjax.training.errors import RunError
from densityjax.training.initial import check_init
from densityjax.training.latents import encoder_from, encoder_of, read_encoder
from densityjax.training.pretraining import pretrain
from densityjax.training.run import train_and_evaluate
from densityjax.training.setup import load_folds, load_role
from tests.small_model import SMALL_MODEL

pytestmark = pytest.mark.slow
DATA = {"data.name": "elastic_densities/grid24", "data.build": False, "train.epochs": 1,
        "train.evaluate_every_epochs": 1}


@pytest.fixture(scope="module")
def data_dir(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of this module's own, beside which latents are kept."""
    return Path(shutil.copytree(small_dataset, tmp_path_factory.mktemp("latents") / "data"))


@pytest.fixture(scope="module")
def source(data_dir: Path) -> Path:
    """Directory of a finished autoencoder of folds 2 and 3: read it only."""
    config = autoencoder.get_config()
    config.update_from_flattened_dict(DATA | {
        "data.data_dir": str(data_dir), "data.train_folds": (2, 3), "model.widths": (3, 3),
        "model.latent": 3, "pretraining.decoder_width": 4,
    })
    pretrain(config, data_dir.parent / "autoencoder")
    return data_dir.parent / "autoencoder"


def _config(source: Path) -> ConfigDict:
    config = latent_composition.get_config()
    config.update_from_flattened_dict(DATA | SMALL_MODEL | {
        "data.data_dir": str(source.parent / "data"), "data.train_folds": (2, 3),
        "input.encoder": str(source), "input.composition": 2, "targets": ("bulk_modulus",),
    })
    return config


def _load(config: ConfigDict, folds=(0, 1)):
    builder = open_from_config(config.data)
    specs, encoder = get_specs(config.targets), read_encoder(config)
    return load_folds(config, builder, specs, folds, False, encoder=encoder)


def test_latents_are_those_of_the_density_and_are_kept(source: Path):
    config = _config(source)
    records, encoder = _load(config), encoder_from(RunDirectory(source))
    assert (records.grid, records.channels, records.coarsening) == (6, 3, 4)
    config.input.encoder = ""
    plain = _load(config)
    expected = encoder.encode([plain.density(row) for row in range(12)], plain.volume)
    np.testing.assert_allclose(np.stack(records.densities), expected, atol=1e-5)
    rolled = encoder.encode([np.roll(plain.density(3), (4, 0, 8), (0, 1, 2))], plain.volume[3:])
    np.testing.assert_allclose(rolled[0], np.roll(expected[3], (1, 0, 2), (0, 1, 2)), atol=1e-5)


def test_kept_latents_are_verified(source: Path, monkeypatch: pytest.MonkeyPatch):
    """A file is taken as it is, unless it is damaged or of another encoder."""
    config, encoder = _config(source), encoder_from(RunDirectory(source))
    first = np.stack(_load(config).densities)
    folder = source.parent / "data/elastic_densities/grid24"
    (path,) = folder.glob(f"*/latents-fold0-{encoder.sha256[:12]}.npz")
    calls: list[int] = []
    encode = Encoder.encode

    def counted(self, densities, volumes):
        calls.append(len(densities))
        return encode(self, densities, volumes)

    monkeypatch.setattr(Encoder, "encode", counted)
    np.testing.assert_array_equal(np.stack(_load(config).densities), first)
    assert calls == []
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(np.stack(_load(config).densities), first)
    assert calls == [6]
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    key = json.loads(str(arrays["key"]))
    assert encoder.sha256 in key
    np.savez(path, **arrays | {"key": json.dumps([*key[:-1], "another"]), "latents": first[:6] + 1})
    np.testing.assert_array_equal(np.stack(_load(config).densities), first)
    assert calls == [6, 6]


def test_an_encoder_that_saw_the_test_fold_is_refused(source: Path, tmp_path: Path, caplog):
    config, name = _config(source), "elastic_densities/grid24/2.0.0"
    assert encoder_of(config, tmp_path, name, "") is not None
    assert caplog.text == ""
    for fold in (1, 2, 3):  # the one that chose its state, too
        config.data.test_fold = fold
        with pytest.raises(ConfigError, match=f"folds 1, 2, 3, config.data.test_fold={fold} of "):
            encoder_of(config, tmp_path, name, "")
    assert encoder_of(config, tmp_path, "density_folder/grid24-0a1b/1.0.0", "") is not None
    config.data.test_fold, config.data.validation_fold = 0, 2
    encoder_of(config, tmp_path, name, "")
    assert "fitted on densities of fold 2, config.data.validation_fold" in caplog.text
    config.data.held_out_elements = ("O",)
    with pytest.raises(ConfigError, match=r"materials with O, which config\.data\.held_out"):
        encoder_of(config, tmp_path, name, "")


def test_an_encoder_that_saw_the_dataset_among_its_sources_is_refused(
    source: Path, tmp_path: Path
):
    config = _config(source)
    config.input.encoder = str(shutil.copytree(source, tmp_path / "other"))
    facts = json.loads((source / "run.json").read_text())
    facts["dataset"] |= {"name": "lemat_rho/grid24/1.0.0", "pretraining": {
        "withhold": "system", "fingerprints": ["elastic_densities/grid24:2.0.0 archive 1"],
    }}
    (tmp_path / "other/run.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"one of its config\.pretraining\.sources, config\.data"):
        encoder_of(config, tmp_path, "elastic_densities/grid24/2.0.0", "")


def test_what_does_not_fit_the_encoder_is_said(source: Path, tmp_path: Path):
    config = _config(source)
    config.input.core = "charge"
    with pytest.raises(ConfigError, match=r"config\.input\.core='charge', but the autoencoder"):
        encoder_of(config, tmp_path, "x", "")
    config.input.core = "all"
    encoder = encoder_from(RunDirectory(source))
    other = dataclasses.replace(encoder, settings=encoder.settings | {"grid": 32})
    other.save(RunDirectory(tmp_path).encoder)
    with pytest.raises(RunError, match="trained on latents of another autoencoder"):
        encoder_of(config, tmp_path, "x", "")
    given = RunDirectory(tmp_path / "given")
    shutil.copytree(source, given.path, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    write_manifest(given.path, {})
    assert encoder_from(given).sha256 == encoder.sha256
    given.weights.write_bytes(given.weights.read_bytes()[:-1] + b" ")
    with pytest.raises(UserError, match=r"network\.safetensors is not the file that was exported"):
        encoder_from(given)
    RunDirectory(tmp_path).encoder.write_bytes(b"no")
    with pytest.raises(RunDirectoryError, match=r"encoder\.safetensors is damaged"):
        encoder_of(config, tmp_path, "x", "")


def test_a_network_on_latents_predicts_files_without_its_autoencoder(
    source: Path, tmp_path: Path
):
    """As it predicts the dataset, from its own directory and exported."""
    config = _config(source)
    metrics = train_and_evaluate(config, tmp_path / "run")
    assert metrics["test"]["bulk_modulus"]["n"] == 6
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    shutil.rmtree(tmp_path / "run")
    model = open_model(tmp_path / "moved")
    assert model.grid == 24
    kept = read_encoder(config)
    config.input.encoder = "gone"  # what is read once more, and what does not read densities
    name = "elastic_densities/grid24/2.0.0"
    assert encoder_of(config, tmp_path / "moved", name, "").sha256 == kept.sha256
    with pytest.raises(UserError, match=r"config\.input\.encoder=gone: no such folder"):
        encoder_of(config, tmp_path / "nowhere", name, "")
    builder = open_from_config(config.data)
    assert load_role(config, builder, get_specs(config.targets), "test", False).grid == 24
    stored = builder.as_data_source(split="fold0")
    made = [
        {k: v.decode() if isinstance(v, bytes) else v for k, v in stored[row].items()}
        for row in range(6)
    ]
    (own,) = model.members[0]
    materials = [Material(one, "", "", ()) for one in made]
    known = load_role(config, builder, get_specs(config.targets), "test", False)
    moments = dict(zip(known.material_id, known.moment, strict=True))
    assert max(moments.values()) > 0.5
    seen = network_records(own, materials)
    np.testing.assert_allclose(seen.moment, [moments[m["material_id"]] for m in made], rtol=1e-5)
    assert seen.density(0).shape[-1] == 3
    said, _ = predict_materials(own, materials, config.train.batch_size)
    table = RunDirectory(tmp_path / "moved").read_predictions(own.specs)["bulk_modulus"]
    order = [list(table.ids).index(one["material_id"]) for one in made]
    np.testing.assert_allclose(said.values["bulk_modulus"], table.prediction[order], rtol=1e-3)
    given = export_run(tmp_path / "moved", tmp_path / "given", "small").members[0][0]
    assert given.encoder.sha256 == own.encoder.sha256
    for file in (tmp_path / "given").iterdir():
        assert str(source).encode() not in file.read_bytes()
    # It is a start where the encoder is the same, wherever that lies, and nowhere else.
    config.init = str(tmp_path / "given")
    config.input.encoder = str(shutil.copytree(source, tmp_path / "elsewhere"))
    check_init(config, tmp_path / "new")
    config.init = str(tmp_path / "moved")
    retrained = dataclasses.replace(kept, settings=kept.settings | {"log_clamp": 1.0})
    retrained.save(RunDirectory(tmp_path / "moved").encoder)
    with pytest.raises(ConfigError, match=r"latents of another autoencoder than that of conf"):
        check_init(config, tmp_path / "new")
    with pytest.raises(UserError, match=r"through an autoencoder \(config\.input\.encoder\)"):
        ask(model, materials[0], "bulk_modulus")
