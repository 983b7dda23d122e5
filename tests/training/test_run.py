"""Whole runs on real records: a killed run equals an uninterrupted one, bad input ends clearly."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from densityjax.configs import smoke
from densityjax.data.batches import BatchSource, iterate_batches
from densityjax.data.dataset import DatasetError
from densityjax.runtime import preemption
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.step import parallel
from densityjax.training.checkpoint import Checkpoints, digests
from densityjax.training.compatibility import check_workdir
from densityjax.training.errors import RunError
from densityjax.training.loop import train
from densityjax.training.run import train_and_evaluate
from densityjax.training.setup import prepare_run
from tests.small_model import SMALL_MODEL

pytestmark = pytest.mark.slow  # compiles a step, or a whole run, in nearly every test

ROOT = Path(__file__).parents[2]


def _tiny(data_dir: Path) -> ConfigDict:
    """A run of seconds: 169 materials of one fold for each role."""
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.data.train_folds = (2,)
    config.train.epochs = 2
    config.train.evaluate_every_epochs = 1
    config.update_from_flattened_dict(SMALL_MODEL)
    return config


def _command(workdir: Path, data_dir: Path) -> list[str]:
    return [
        sys.executable, "-m", "densityjax.main", "--config=configs/smoke.py",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in _settings(data_dir).items()),
    ]


def _interrupt(
    workdir: Path, data_dir: Path, number: signal.Signals, moment: Callable[[], bool]
) -> int:
    """Runs the command in its own process and signals it at a moment; returns its status."""
    process = subprocess.Popen(
        _command(workdir, data_dir), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    deadline = time.time() + 240
    while not moment():
        assert process.poll() is None, process.stdout.read().decode()
        assert time.time() < deadline, "the moment did not come"
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait(timeout=120)


def _digests(workdir: Path, role: str) -> dict[str, str]:
    """SHA-256 of every array of a run's last or best state."""
    steps = (workdir / "checkpoints" / role).iterdir()
    last = max((path for path in steps if path.name.isdigit()), key=lambda path: int(path.name))
    return json.loads((last / "manifest" / "metadata").read_text())["digests"]


def _settings(data_dir: Path) -> dict[str, Any]:
    """Flattened settings of a run of 124 steps."""
    return SMALL_MODEL | {
        "data.data_dir": str(data_dir), "train.epochs": 4, "train.evaluate_every_epochs": 2,
        "train.checkpoint_every_steps": 10,
    }


@pytest.fixture(scope="module")
def whole_run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run with those settings: read it only."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    config = smoke.get_config()
    config.update_from_flattened_dict(_settings(data_dir))
    train_and_evaluate(config, workdir)
    return workdir


@pytest.mark.slow
def test_killed_run_equals_uninterrupted_run(whole_run: Path, data_dir: Path, tmp_path: Path):
    """The same bytes of predictions, metrics and parameters on 8 devices."""
    workdir = tmp_path / "killed"
    facts, folder = workdir / "run.json", workdir / "checkpoints"

    def stepping() -> bool:
        return facts.exists() and "first_step" in json.loads(facts.read_text())["seconds"]

    # In the middle of an epoch; while a checkpoint is being written.
    assert _interrupt(workdir, data_dir, signal.SIGTERM, stepping) == preemption.EXIT_STATUS
    saved = max(int(path.name) for path in (folder / "latest").iterdir())
    assert 0 < saved < 124
    status = _interrupt(
        workdir, data_dir, signal.SIGKILL, lambda: any(folder.glob("*/*orbax-checkpoint-tmp*"))
    )
    assert status == -signal.SIGKILL
    assert not (workdir / "metrics.json").exists()
    result = subprocess.run(
        _command(workdir, data_dir), cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert "Resuming" in result.stderr
    assert (workdir / "report.html").exists()
    for name in ("predictions.csv", "predictions_validation.csv", "metrics.jsonl", "metrics.json"):
        assert (workdir / name).read_bytes() == (whole_run / name).read_bytes(), name
    for role in ("latest", "best"):  # SHA-256 of each array, as the restored ones had it
        arrays, expected = _digests(workdir, role), _digests(whole_run, role)
        assert len(expected) > 50
        assert arrays == expected
    assert len(list((workdir / "tensorboard").iterdir())) == 1  # written anew at each start


def test_beats_the_mean(smoke_run: Path):
    """Better than knowing nothing, on materials that it has not seen."""
    metrics = json.loads((smoke_run / "metrics.json").read_text())
    for role in ("test", "validation"):
        mean = metrics["baselines"][role]["mean"]
        for target in ("bulk_modulus", "fermi_energy", "volume"):
            assert metrics[role][target]["mae"] < 0.9 * mean[target]["mae"]
        assert metrics[role]["is_metal"]["roc_auc"] > 0.6


def test_finished_run_only_evaluates(smoke_run: Path, data_dir: Path, tmp_path: Path):
    """A second call trains nothing and reports the same."""
    config = _tiny(data_dir)
    first = train_and_evaluate(config, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    facts = (tmp_path / "run.json").read_text()
    second = train_and_evaluate(config, tmp_path)
    assert first == second
    assert (tmp_path / "run.json").read_text() == facts  # still describes the training
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_run_files(smoke_run: Path):
    """What a report and a reader need is there."""
    metrics = json.loads((smoke_run / "metrics.json").read_text())
    assert metrics["test"]["bulk_modulus"]["n"] == 180
    assert metrics["validation"]["bulk_modulus"]["n"] == 169
    assert metrics["test"]["is_metal"].keys() >= {"accuracy", "balanced_accuracy", "pr_auc"}
    facts = json.loads((smoke_run / "run.json").read_text())
    assert facts["dataset"]["train_examples"] == 491
    assert facts["num_devices"] == jax.device_count()
    assert facts["seconds"]["train"] > 0
    lines = [json.loads(line) for line in (smoke_run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["split"] == "train"]
    assert steps == sorted(set(steps))
    assert any((smoke_run / "tensorboard").iterdir())


def test_another_config_is_refused(smoke_run: Path, data_dir: Path):
    """The message names the key and both values; the run stays as it was."""
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.model.widths = (8, 24)
    with pytest.raises(RunError, match=r"model\.widths: \[8, 16\] there, \[8, 24\] now"):
        train_and_evaluate(config, smoke_run)


def test_other_data_are_refused(smoke_run: Path, data_dir: Path, tmp_path: Path):
    """The same name with other contents is another dataset."""
    facts = json.loads((smoke_run / "run.json").read_text())
    facts["dataset"]["fingerprint"] = "something else"
    (tmp_path / "run.json").write_text(json.dumps(facts))
    config = _tiny(data_dir)
    with pytest.raises(RunError, match="trained on other data: something else there"):
        train_and_evaluate(config, tmp_path)


def test_moved_data_is_no_other_config(smoke_run: Path):
    config = smoke.get_config()
    config.data.data_dir = "/elsewhere"
    check_workdir(config, smoke_run)


def test_missing_dataset(data_dir: Path, tmp_path: Path):
    config = _tiny(tmp_path / "nothing")
    config.data.build = False
    with pytest.raises(DatasetError, match="python -m tfds_builders elastic_densities/grid24"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.test_fold": 7}, "fold7.*fold0, fold1"),
        ({"targets": ("is_stable",)}, "is_stable.*not in dataset"),
        ({"view.padding": "valid", "view.size": 2}, "too small for a 3.* kernel"),
        ({"data.name": "elastic_densities/grid99"}, "config.data.name.*grid99"),
    ],
)
def test_a_setting_that_does_not_fit_the_dataset(
    change: dict, message: str, data_dir: Path, tmp_path: Path
):
    config = _tiny(data_dir)
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()  # the directory stays free


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.batch_size": 12}, "12 does not divide over 8 devices"),
        ({"train.max_skipped_steps": 0}, r"config\.train\.max_skipped_steps=0"),
        ({"view.kind": "polar"}, r"config\.view\.kind='polar'"),
    ],
)
def test_a_setting_is_checked_before_a_dataset_is_opened(
    change: dict, message: str, tmp_path: Path
):
    config = _tiny(tmp_path / "data")
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_non_finite_losses_are_skipped_then_end_with_the_last_good_state(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """One bad batch costs one update; batches that stay bad end the run with its state saved."""
    config = _tiny(data_dir)
    config.train.max_skipped_steps = 3
    run = prepare_run(config, tmp_path)
    source = _PoisonedSource(**{f: getattr(run.source, f) for f in run.source.__dataclass_fields__})
    run = dataclasses.replace(run, source=source)
    checkpoints = Checkpoints(tmp_path)
    state, template = (run.initial_state() for _ in range(2))  # training donates the first
    try:
        with pytest.raises(RunError, match=r"not finite at step 14 .* 3 batches in a row"):
            train(run, state, checkpoints)
        restored, position = checkpoints.restore_latest(parallel.replicate(template))
    finally:
        checkpoints.close()
    assert int(restored.step) == 10  # 11 batches, one of them bad
    assert position["step"] > 11
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.params))
    bad = run.source[4]["index"]
    ids = run.splits["train"].material_id[np.isin(run.splits["train"].index, bad)]
    line = next(line for line in caplog.messages if "Not finite at step 5 " in line)
    assert all(name in line for name in ids)


class _PoisonedSource(BatchSource):
    """Turns densities to NaN at the fifth batch and from the second epoch on."""

    def __getitem__(self, step: int):
        batch = super().__getitem__(step)
        if step == 4 or step >= self.steps_per_epoch:
            batch["density"] = batch["density"] * np.nan
        return batch


def test_a_checkpoint_is_the_state_when_it_was_saved(small_dataset: Path, tmp_path: Path):
    """Although steps on its donated buffers run while it is written."""
    config = _tiny(small_dataset)
    config.train.batch_size, config.train.epochs = 8, 9
    run = prepare_run(config, tmp_path)
    state, template = (parallel.replicate(run.initial_state()) for _ in range(2))
    batches = parallel.place_ahead(iterate_batches(run.source, 0, 1), 1)
    checkpoints = Checkpoints(tmp_path)
    for step in range(1, 7):
        donated = state
        state, _ = run.train_step(state, next(batches))
        if step != 4:  # of which a writer may hold the buffers; then JAX takes others
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(donated.params))
        if step == 3:
            expected = digests(state)
            checkpoints.save(state, step, {"step": step}, best=True)
    jax.block_until_ready(state)
    restored, position = checkpoints.restore_latest(template)
    best, _ = checkpoints.restore_best(template)
    checkpoints.close()
    assert position == {"step": 3}
    assert digests(restored) == digests(best) == expected != digests(state)


def test_changes_that_leave_the_state_usable_need_a_flag(
    whole_run: Path, data_dir: Path, tmp_path: Path
):
    workdir = tmp_path / "run"
    shutil.copytree(whole_run, workdir)
    command = [*_command(workdir, data_dir), "--config.train.epochs=5"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "train.epochs: 4 there, 5 now" in result.stderr
    assert "go on all the same with --allow-config-change" in result.stderr

    config = smoke.get_config()
    config.update_from_flattened_dict(_settings(data_dir) | {"train.epochs": 5})
    config.model.head_width += 1
    with pytest.raises(RunError, match=r"model\.head_width"):
        train_and_evaluate(config, workdir, allow_config_change=True)
    config.model.head_width -= 1
    train_and_evaluate(config, workdir, allow_config_change=True)
    facts = json.loads((workdir / "run.json").read_text())
    assert facts["steps"] == 155
    assert facts["parts"][-1]["after_step"] == 124


def test_early_stop(data_dir: Path, tmp_path: Path):
    """Stops after so many evaluations without a better loss, and stays stopped on a rerun."""
    config = _tiny(data_dir)
    config.train.epochs = 6
    config.train.early_stop_evaluations = 1
    config.optimizer.learning_rate = 0.0
    config.train.ema_decay = 0.0  # or rounding would move the average
    train_and_evaluate(config, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 22
    train_and_evaluate(config, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 22
