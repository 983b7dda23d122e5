"""Several processes as one run: the losses of one process, one set of files, a death, a restart."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from densityjax.configs import smoke
from densityjax.results.predictions import share_of_rows
from densityjax.runtime import distributed, preemption
from densityjax.runtime.errors import UserError
from densityjax.training.run import train_and_evaluate
from tests.small_model import SMALL_MODEL

ROOT = Path(__file__).parents[2]
HEARTBEAT_SECONDS = 8
# What a survivor may take: the heartbeat, JAX's own round of telling, and a busy machine.
LIMIT_SECONDS = HEARTBEAT_SECONDS + 30
# 6 batches of 8, of 18 materials: every third is padded. Small, since each process compiles.
SETTINGS = SMALL_MODEL | {
    "targets": ("bulk_modulus", "is_metal"),
    "data.build": False, "train.batch_size": 8,
    "train.epochs": 2, "train.evaluate_every_epochs": 1, "train.checkpoint_every_steps": 2,
    "train.log_every_steps": 1, "train.heartbeat_seconds": HEARTBEAT_SECONDS,
}


def _start(
    workdir: Path, data_dir: Path, processes: int, devices: int, fault: str = ""
) -> list[subprocess.Popen]:
    """The processes of a run; their output goes to files beside `workdir`."""
    flags = re.sub(r"(device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"])
    environ = os.environ | {"XLA_FLAGS": flags, "FAULT": fault, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable, "tests/one_of_several.py", "--config=configs/smoke.py",
        f"--workdir={workdir}", f"--config.data.data_dir={data_dir}",
        *(f"--config.{key}={value}" for key, value in SETTINGS.items()),
    ]
    port, started = _free_port(), []
    for process in range(processes):
        if processes > 1:
            environ |= {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(processes), "JAX_PROCESS_ID": str(process),
            }
        with _log_path(workdir, process).open("a") as log:
            started.append(
                subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environ)
            )
    return started


def _log_path(workdir: Path, process: int) -> Path:
    return workdir.with_name(f"{workdir.name}.{process}.log")


def _log(workdir: Path, process: int) -> str:
    return _log_path(workdir, process).read_text()


def _run(
    workdir: Path, data_dir: Path, processes: int, devices: int, fault: str = "", status: int = 0
) -> None:
    """A whole run, or the rest of one, which has to end with this status."""
    started = _start(workdir, data_dir, processes, devices, fault)
    try:
        statuses = [process.wait(timeout=300) for process in started]
    finally:
        _end(started)
    assert statuses == [status] * processes, [_log(workdir, i)[-3000:] for i in range(processes)]


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _losses(workdir: Path) -> dict[tuple[int, str], float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert len({(line["step"], line["split"]) for line in lines}) == len(lines)
    return {(line["step"], line["split"]): line["loss"] for line in lines}


def _predictions(workdir: Path) -> dict[tuple[str, str], list[float]]:
    with (workdir / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for row in rows:
        numbers = row["probabilities"].split(";") if row["probabilities"] else [row["prediction"]]
        found[row["id"], row["target"]] = [float(number) for number in numbers]
    assert len(found) == len(rows)  # every material exactly once
    return found


@pytest.mark.slow
def test_two_interrupted_processes_equal_one(small_dataset: Path, tmp_path: Path):
    """A preemption and a death end both; at last they have the losses and files of 1 x 8 and 1 x 1.

    The last checkpoint is damaged before the last start: both pass it over.
    """
    workdir = tmp_path / "2x4"
    _run(workdir, small_dataset, 2, 4, fault="preempt:1:2", status=preemption.EXIT_STATUS)
    (saved,) = {re.search(r"Saved after step (\d)", _log(workdir, i)).group(1) for i in range(2)}
    assert saved in "234"
    started = _start(workdir, small_dataset, 2, 4, fault="die:1:5")
    try:
        assert started[1].wait(timeout=240) == -signal.SIGKILL, _log(workdir, 1)[-3000:]
        killed = time.monotonic()
        status = started[0].wait(timeout=LIMIT_SECONDS)
        print(f"the survivor ended {time.monotonic() - killed:.1f} s later, status {status}")
    finally:
        _end(started)
    assert status not in (0, 75)
    # The message is JAX's: its service names the dead by their numbers.
    assert re.search(r"unhealthy \(stopped sending heartbeats\):\n1\n", _log(workdir, 0))
    assert not (workdir / "metrics.json").exists()

    *_, before, last = sorted(
        int(path.name) for path in (workdir / "checkpoints/latest").iterdir() if path.name.isdigit()
    )
    position = workdir / f"checkpoints/latest/{last}/position/metadata"
    position.write_text(position.read_text()[:-9])
    _run(workdir, small_dataset, 2, 4)
    for process in range(2):
        assert f"Resuming {workdir} after step {saved}\n" in _log(workdir, process)
        assert f"latest/{last} is passed over" in _log(workdir, process)
        assert f"Resuming {workdir} after step {before}\n" in _log(workdir, process)
    states = [json.loads((workdir / "digests" / f"{i}.json").read_text()) for i in range(2)]
    assert states[0] == states[1]  # bit for bit
    assert json.loads((workdir / "run.json").read_text())["num_devices"] == 8
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    losses, predictions = _losses(workdir), _predictions(workdir)
    assert {step for step, split in losses if split == "train"} == set(range(1, 7))
    assert {step for step, split in losses if split == "validation"} == {3, 6}

    config = smoke.get_config()
    config.data.data_dir = str(small_dataset)
    config.update_from_flattened_dict(SETTINGS)
    train_and_evaluate(config, tmp_path / "1x8")
    _run(tmp_path / "1x1", small_dataset, 1, 1)
    for name in ("1x8", "1x1"):
        expected, expected_predictions = _losses(tmp_path / name), _predictions(tmp_path / name)
        assert losses.keys() == expected.keys()
        for key, loss in losses.items():
            np.testing.assert_allclose(loss, expected[key], rtol=1e-5, err_msg=str(key))
        assert predictions.keys() == expected_predictions.keys()
        for key, values in predictions.items():
            np.testing.assert_allclose(
                values, expected_predictions[key], rtol=1e-4, atol=1e-5, err_msg=str(key)
            )
    assert {path.name for path in (tmp_path / "1x1").iterdir()} == {
        path.name for path in workdir.iterdir()
    }


WATCHED = """
import sys, time
from densityjax.runtime import distributed
import jax
jax.distributed.initialize(sys.argv[1], 1, 0)
for name in ("closed", "watching"):
    watchdog = distributed.Watchdog(1.5)
    for step in range(4, 8):
        watchdog.beat(f"batch {step}")
        time.sleep(0.5)  # together longer than the limit
    print(name, flush=True)
    if name == "closed":
        watchdog.close()
        time.sleep(2.5)
time.sleep(100)
"""


@pytest.mark.slow
def test_watchdog():
    """It ends a process whose steps stop coming, and none that goes on or has finished."""
    result = subprocess.run(
        [sys.executable, "-c", WATCHED, f"127.0.0.1:{_free_port()}"], cwd=ROOT, timeout=90,
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (result.returncode, result.stdout) == (1, "closed\nwatching\n"), result.stderr
    assert "no batch for 2 s (config.train.watchdog_seconds)" in result.stderr
    assert "after batch 7" in result.stderr


def test_the_watchdog_names_the_process_that_is_behind():
    def said(*places: tuple[int, bool, str]) -> str:
        values = [json.dumps([*place, f"host{number}"]) for number, place in enumerate(places)]
        return distributed._behind({f"a/{i:06}": value for i, value in enumerate(values)}, 3, 60)

    ahead, waiting, behind = (9, True, "batch 8"), (8, False, "batch 7"), (8, True, "batch 7")
    assert "process 1 on host1 stuck after batch 7, reading" in said(ahead, behind, ahead)
    assert "process 1 on host1 stuck after batch 7, computing" in said(ahead, waiting, ahead)
    # The others wait for a sum; this one has no batch to compute with.
    assert "process 1 on host1 stuck after batch 7" in said(waiting, behind, waiting)
    assert "process 2 on its host stuck after nothing" in said(waiting, waiting)
    assert "all 3 processes are after batch 7" in said(behind, behind, behind)


@pytest.mark.parametrize(("records", "hosts"), [(7, 2), (8, 2), (1, 3), (10, 4)])
def test_shares_of_rows(records: int, hosts: int):
    """Equally many on each host; in their order all rows, then copies of the last."""
    shares = [share_of_rows(records, host, hosts) for host in range(hosts)]
    assert len({len(share) for share in shares}) == 1
    rows = np.concatenate(shares)
    assert rows[:records].tolist() == list(range(records))
    assert set(rows[records:]) <= {records - 1}


JAX = {
    "JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1",
    "JAX_PLATFORMS": "cpu",
}
SLURM = {
    "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0",
    "SLURM_STEP_NUM_NODES": "2", "JAX_PLATFORMS": "cpu",
}


def test_settings_from_the_environment():
    explicit = distributed.settings(SLURM | JAX)
    assert explicit["coordinator_address"] == "a:1"
    assert (explicit["num_processes"], explicit["process_id"]) == (2, 1)
    assert distributed.settings(SLURM) == {"cluster_detection_method": "slurm"}
    four = distributed.settings(SLURM | {"SLURM_GPUS_ON_NODE": "4"})
    assert four["local_device_ids"] == [0, 1, 2, 3]  # a task per node has all of its GPUs
    assert distributed.settings(SLURM | {"SLURM_NTASKS": "1"}) is None
    assert distributed.settings({"JAX_PLATFORMS": "cpu"}) is None


@pytest.mark.parametrize("change", [{"JAX_PROCESS_ID": ""}, {"JAX_NUM_PROCESSES": "two"}])
def test_incomplete_settings(change: dict[str, str]):
    with pytest.raises(UserError, match="JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROC"):
        distributed.settings(JAX | change)
