"""Runs without targets: what they read, what they leave, and what starts from them."""

import csv
import json
import shutil
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

import tfds_builders
from densityjax.configs import elastic
from densityjax.data.dataset import DatasetError
from densityjax.report.page import write_report
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.runtime.preemption import NoWatch, Preempted
from densityjax.step import parallel, steps
from densityjax.step.weights import load_weights
from densityjax.training import initial, pretraining, run, setup
from densityjax.training.checkpoint import digests
from densityjax.training.trained_model import restore_run
from tests.small_model import SMALL_MODEL
from tests.small_pretraining import OBJECTIVES, small_config
from tests.tfds_builders.test_elastic_densities import SHIPPED, pack

pytestmark = pytest.mark.slow
FILES = ("metrics.json", "statistics.json", "average_atoms.npz")


@pytest.fixture(scope="module")
def source(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run: read it only."""
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    pretraining.pretrain(small_config(small_dataset), workdir)
    return workdir


def _same_files(first: Path, second: Path) -> None:
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    # Of the weights the arrays: safetensors writes its header in any order.
    one, other = (digests(load_weights(k / "network.safetensors", {})) for k in (first, second))
    assert one == other
    assert len(one) > 10


def test_losses_of_every_objective_stand_beside_trivial_ones(source: Path):
    found = RunDirectory(source).read_metrics("objectives")["objectives"]
    assert set(found) == set(OBJECTIVES)
    for name, values in found.items():
        assert ("interpolation" in values) == (name in ("masked", "denoising"))
        others = [values[kind] for kind in ("mean", "interpolation") if kind in values]
        assert values["explained"] == pytest.approx(1 - values["loss"] / min(others))
    assert 0.2 < found["denoising"]["interpolation"] < 0.3  # noise of 0.5
    lines = RunDirectory(source).read_history()
    assert {line["split"] for line in lines} == {"train", "validation"}
    assert all(f"loss/{name}" in line for line in lines for name in OBJECTIVES)


def test_labels_and_the_test_fold_change_nothing(
    source: Path, small_dataset: Path, tmp_path: Path
):
    """A dataset with other labels everywhere and other materials in fold 0."""
    with tarfile.open(small_dataset / "sample.tar") as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    rows = list(csv.DictReader(files["labels.csv"].decode().splitlines()))
    with tarfile.open(SHIPPED) as archive:
        table = archive.extractfile("labels.csv").read().decode().splitlines()
        used = {row["material_id"] for row in rows}
        spare = [r for r in csv.DictReader(table) if r["material_id"] not in used][:6]
        files |= {row["file"]: archive.extractfile(row["file"]).read() for row in spare}
    changed = []
    for row in rows:
        new = spare.pop() | {"fold": "0"} if row["fold"] == "0" else dict(row)
        new["bulk_modulus"], new["fermi_energy"] = "7.5", "-1.5"
        changed.append(new)
    other = pack(tmp_path / "other.tar", changed, files)
    data = tmp_path / "data"
    tfds_builders.load_builder("elastic_densities/grid24", data, other).download_and_prepare()
    pretraining.pretrain(small_config(data), tmp_path / "run")
    _same_files(tmp_path / "run", source)


def test_a_killed_run_ends_with_the_same_bytes(
    source: Path, small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Cut(NoWatch):
        def reached(self, step: int) -> bool:
            return step == 2

    train = run.train
    monkeypatch.setattr(run, "train", lambda *args: train(*args[:3], Cut()))
    with pytest.raises(Preempted):
        pretraining.pretrain(small_config(small_dataset), tmp_path)
    monkeypatch.undo()
    pretraining.pretrain(small_config(small_dataset), tmp_path)
    _same_files(tmp_path, source)


def test_training_starts_from_the_trunk(source: Path, small_dataset: Path, tmp_path: Path):
    """Without the pretrained run's checkpoints, which it does not need."""
    start = tmp_path / "start"
    shutil.copytree(source, start, ignore=shutil.ignore_patterns("checkpoints"))
    config = elastic.get_config()
    config.data.data_dir, config.data.name = str(small_dataset), "elastic_densities/grid24"
    config.update_from_flattened_dict(SMALL_MODEL)
    config.targets, config.init = ("bulk_modulus",), str(start)
    config.input.invariants, config.input.identified = 4, 4
    new = setup.prepare_run(config, tmp_path, start=initial.read_start(config, tmp_path))
    modules = new.initial_state().params["model"]
    (old,) = load_weights(start / "network.safetensors", {})
    trunk = old.ema_params["model"]
    assert set(modules) - set(trunk) == {"bulk_modulus_hidden", "bulk_modulus_out"}
    for name in set(trunk) - {"pooled_norm"}:
        jax.tree.map(np.testing.assert_array_equal, modules[name], trunk[name])
    scalers = json.loads((start / "statistics.json").read_text())
    assert new.statistics.field_mean.tolist() == scalers["field_mean"]
    assert len(new.statistics.feature_mean) == 1 + 4 + 4
    initial.say_start(new, modules)
    assert new.facts._content["init"]["heads"] == []


def test_the_number_of_devices_changes_nothing(source: Path, small_dataset: Path, tmp_path: Path):
    """The step on 8 devices, of a batch whose last rows are padding, against one array."""
    prepared = setup.prepare_run(pretraining.without_targets(small_config(small_dataset)), tmp_path)
    batch, state = prepared.source[2], prepared.initial_state()
    assert 0 < batch["mask"].all(1).sum() < len(batch["mask"])
    whole = jax.jit(lambda batch: steps.loss_sums(state.params, state, batch, task=prepared.task))
    expected = jax.device_get(whole(batch))  # [O]
    step = parallel.mapped_train_step(prepared.task)  # as `source` has compiled it
    _, found = step(parallel.replicate(state), parallel.split_batch(batch, 1))
    np.testing.assert_allclose(found["target_sum"], expected, rtol=1e-4)
    np.testing.assert_array_equal(found["target_count"], batch["mask"].sum(0))
    assert found["loss"] == pytest.approx((expected / batch["mask"].sum(0)).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("key", "value"), [("model.widths", (8,)), ("input.transform", "log"), ("view.spacing", 0.7)]
)
def test_another_trunk_is_refused(source: Path, tmp_path: Path, key: str, value):
    config = elastic.get_config()
    config.update_from_flattened_dict(SMALL_MODEL | {"init": str(source), key: value})
    with pytest.raises(ConfigError, match=f"has another trunk:\n  config.{key}: "):
        initial.check_init(config, tmp_path / "run")


@pytest.mark.parametrize("door", [restore_run, write_report])
def test_it_predicts_nothing_and_says_what_to_do(source: Path, door):
    with pytest.raises(UserError, match=r"no targets to predict: .* --config\.init="):
        door(source)


def test_the_rates_of_fine_tuning_do_not_count(small_dataset: Path):
    config = small_config(small_dataset)
    config.optimizer.trunk_rate, config.optimizer.head_first = 0.0, 0.5
    own = pretraining.without_targets(config).optimizer
    assert (own.trunk_rate, own.head_first) == (1, 0)


def test_a_config_without_objectives_is_refused(small_dataset: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"config\.pretraining\.objectives are all 0"):
        pretraining.pretrain(elastic.get_config(), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_atoms_without_a_name_are_refused(
    small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load = setup.load_records

    def nameless(*args, **options):
        records = load(*args, **options)
        records.species.values[3] = 0
        return records

    monkeypatch.setattr(setup, "load_records", nameless)
    with pytest.raises(DatasetError, match="nearest_element, deformation needs to know the atoms"):
        pretraining.pretrain(small_config(small_dataset), tmp_path / "run")
    assert not (tmp_path / "run").exists()
