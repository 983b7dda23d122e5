"""Logs are cut back to the restored step, JSON files are replaced whole."""

import json
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from densityjax.runtime import environment, files
from densityjax.training.metric_log import MetricLog


def _lines(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_resume_cuts_later_and_broken_lines(tmp_path: Path):
    log = MetricLog(tmp_path, restored_step=0)
    for step in (10, 20, 30):
        log.write(step, step / 10, "train", {"loss": 1 / step, "undefined": None})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss')  # as a kill leaves it
    log = MetricLog(tmp_path, restored_step=20)
    assert [line["step"] for line in _lines(tmp_path)] == [10, 20]
    log.write(30, 3.0, "train", {"loss": 0.5})
    log.close()
    assert [line["step"] for line in _lines(tmp_path)] == [10, 20, 30]
    assert _lines(tmp_path)[0]["undefined"] is None
    assert _board(tmp_path) == [(10, 1 / 10), (20, 1 / 20), (30, 0.5)]


def _board(workdir: Path) -> list[tuple[int, float]]:
    """(Step, value) of each scalar in TensorBoard's files: length, checksum, event, checksum."""
    found = []
    for path in (workdir / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:
            size = struct.unpack_from("<Q", data)[0]
            event = Event.FromString(data[12 : 12 + size])
            found += [(event.step, pytest.approx(v.simple_value)) for v in event.summary.value]
            data = data[16 + size :]
    return found


def test_an_evaluation_that_comes_again_is_cut(tmp_path: Path):
    log = MetricLog(tmp_path, restored_step=0)
    log.write(20, 2.0, "train", {"loss": 0.5})
    log.write(20, 2.0, "validation", {"loss": 0.6})
    log.close()
    MetricLog(tmp_path, restored_step=20, evaluated=False)
    assert [line["split"] for line in _lines(tmp_path)] == ["train"]


def test_write_json_replaces(tmp_path: Path):
    path = tmp_path / "a.json"
    files.replace_json(path, {"unit": "Å³"})
    files.replace_json(path, {"unit": "GPa"})
    assert json.loads(path.read_text()) == {"unit": "GPa"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_environment_names_what_ran():
    facts = environment.describe_environment(seed=3)
    assert facts["seed"] == 3
    assert facts["versions"]["jax"].count(".") >= 2
    assert facts["num_devices"] == 8
    assert environment.peak_memory_gib() > 0.05


def test_a_full_disk_under_tensorboard_does_not_stop_the_run(tmp_path: Path, monkeypatch, caplog):
    log = MetricLog(tmp_path, restored_step=0)
    log.write(10, 1.0, "train", {"loss": 0.5})
    # /dev/full takes no byte: the same error as a full disk.
    with open("/dev/full", "wb", buffering=0) as full:
        log._board._writer._py_recordio_writer._writer = full
        for step in range(11, 60):  # more than any queue holds
            log.write(step, step / 10, "train", {"loss": 0.5, "grad_norm": 1.0})
        log.close()
    assert len(_lines(tmp_path)) == 50
    assert caplog.text.count("TensorBoard's files") == 1


def test_a_directory_without_tensorboard_is_logged_all_the_same(tmp_path: Path):
    (tmp_path / "tensorboard").write_text("a file where the folder belongs")
    log = MetricLog(tmp_path, restored_step=0)
    log.write(10, 1.0, "train", {"loss": 0.5})
    log.write(20, 2.0, "train", {"loss": 0.4})
    log.close()
    assert [line["step"] for line in _lines(tmp_path)] == [10, 20]
