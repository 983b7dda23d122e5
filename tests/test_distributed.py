"""Several processes as one run: the losses of one process, one set of files, a death, a restart."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from densityjax import distributed
from densityjax.evaluate import share_of_rows

ROOT = Path(__file__).parents[1]
HEARTBEAT_SECONDS = 10
# What a survivor may take: the heartbeat, JAX's own round of telling, and a busy machine.
LIMIT_SECONDS = HEARTBEAT_SECONDS + 30
FILES = (
    "metrics.jsonl", "metrics.json", "predictions.csv", "predictions_validation.csv",
    "statistics.json",
)  # fmt: skip


def _start(
    workdir: Path, data_dir: Path, process: int, processes: int, devices: int, port: int,
    fault: str = "",
) -> subprocess.Popen:  # fmt: skip
    """A process of a run of 18 batches of 8, of 18 materials; its output goes to a file."""
    environ = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "FAULT": fault,
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    if processes > 1:
        environ |= {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(process),
        }  # fmt: skip
    command = [
        sys.executable, "tests/one_of_several.py", "--config=configs/smoke.py",
        f"--workdir={workdir}", f"--config.data.data_dir={data_dir}", "--config.data.build=false",
        "--config.train.batch_size=8", "--config.train.epochs=6",
        "--config.train.evaluate_every_epochs=3", "--config.train.checkpoint_every_steps=2",
        "--config.train.log_every_steps=1", "--config.view.evaluation_views=2",
        f"--config.train.heartbeat_seconds={HEARTBEAT_SECONDS}",
    ]  # fmt: skip
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir.parent / f"{workdir.name}.{process}.log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | environ)


def _log(workdir: Path, process: int) -> str:
    return (workdir.parent / f"{workdir.name}.{process}.log").read_text()


def _run(workdir: Path, data_dir: Path, processes: int, devices: int) -> None:
    """A whole run, which has to end well."""
    port = _free_port()
    started = [_start(workdir, data_dir, i, processes, devices, port) for i in range(processes)]
    try:
        statuses = [process.wait(timeout=300) for process in started]
    finally:
        _end(started)
    assert statuses == [0] * processes, [_log(workdir, i)[-3000:] for i in range(processes)]


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


@pytest.fixture(scope="module")
def two_processes(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run of 2 processes with 4 devices each."""
    workdir = tmp_path_factory.mktemp("distributed") / "2x4"
    _run(workdir, small_dataset, processes=2, devices=4)
    return workdir


@pytest.mark.slow
def test_two_processes_equal_one(two_processes: Path, small_dataset: Path):
    """Losses of every step and evaluation, and predictions, to float error; one set of files."""
    names = {path.name for path in two_processes.iterdir()}
    assert {"config.json", "run.json", "report.html", "checkpoints", *FILES} <= names
    assert len(list((two_processes / "tensorboard").iterdir())) == 1
    states = [json.loads((two_processes / "digests" / f"{i}.json").read_text()) for i in range(2)]
    assert states[0] == states[1]  # bit for bit
    assert json.loads((two_processes / "run.json").read_text())["num_devices"] == 8
    losses, predictions = _losses(two_processes), _predictions(two_processes)
    assert {step for step, split in losses if split == "train"} == set(range(1, 19))
    assert {step for step, split in losses if split == "validation"} == {9, 18}
    for devices in (8, 1):
        other = two_processes.with_name(f"1x{devices}")
        _run(other, small_dataset, processes=1, devices=devices)
        expected, expected_predictions = _losses(other), _predictions(other)
        assert losses.keys() == expected.keys()
        print(f"1x{devices}:", {key: (losses[key], expected[key]) for key in losses})
        for key, loss in losses.items():
            np.testing.assert_allclose(loss, expected[key], rtol=1e-4, err_msg=str(key))
        assert predictions.keys() == expected_predictions.keys()
        for key, values in predictions.items():
            np.testing.assert_allclose(
                values, expected_predictions[key], rtol=1e-3, atol=1e-4, err_msg=str(key)
            )
        assert {path.name for path in other.iterdir()} == names


@pytest.mark.slow
def test_a_dead_process_ends_the_other_and_a_restart_resumes(
    two_processes: Path, small_dataset: Path
):
    """SIGKILL in the middle; then the files of the uninterrupted run, byte for byte."""
    workdir, port = two_processes.with_name("killed"), _free_port()
    started = [_start(workdir, small_dataset, i, 2, 4, port, fault="die:1:12") for i in range(2)]
    try:
        assert started[1].wait(timeout=240) == -9, _log(workdir, 1)[-3000:]
        killed = time.monotonic()
        status = started[0].wait(timeout=LIMIT_SECONDS)
        seconds = time.monotonic() - killed
    finally:
        _end(started)
    print(f"the survivor ended {seconds:.1f} s after the other with status {status}")
    assert status not in (0, 75)
    # The message is JAX's: its service names the dead by their numbers.
    assert re.search(r"unhealthy \(stopped sending heartbeats\):\n1\n", _log(workdir, 0))
    assert not (workdir / "metrics.json").exists()

    _run(workdir, small_dataset, processes=2, devices=4)
    for process in range(2):
        assert "Resuming" in _log(workdir, process)
    for name in FILES:
        assert (workdir / name).read_bytes() == (two_processes / name).read_bytes(), name
    digests = [(path / "digests" / "0.json").read_text() for path in (workdir, two_processes)]
    assert digests[0] == digests[1]


WATCHED = """
import sys, time
from densityjax import distributed
import jax
jax.distributed.initialize(sys.argv[1], 1, 0)
watchdog = distributed.Watchdog(1.5)
for step in range(4, 8):
    watchdog.beat(step)
    time.sleep(0.5)  # together longer than the limit
print("going", flush=True)
if sys.argv[2] == "close":
    watchdog.close()
time.sleep(4 if sys.argv[2] == "close" else 100)
print("slept", flush=True)
"""


@pytest.mark.parametrize("then", ["stop", "close"])
def test_watchdog(then: str):
    """It ends a process whose steps stop coming, and none that goes on or has finished."""
    result = subprocess.run(
        [sys.executable, "-c", WATCHED, f"127.0.0.1:{_free_port()}", then], cwd=ROOT, timeout=90,
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.stdout.startswith("going"), result.stderr
    if then == "close":
        assert (result.returncode, result.stdout) == (0, "going\nslept\n"), result.stderr
        return
    assert (result.returncode, result.stdout) == (1, "going\n"), result.stderr
    assert "no step for 2 s (config.train.watchdog_seconds)" in result.stderr
    assert "after batch 7" in result.stderr


def test_the_watchdog_names_the_process_that_is_behind():
    steps = {f"densityjax/step/{i:06}": f"{step} host{i}" for i, step in enumerate((8, 7, 8))}
    assert "process 1 on host1 stuck after batch 7" in distributed._behind(steps, 60)
    steps = {"a/000000": "7.5 host0", "a/000001": "7 host1"}  # waits for a sum; has no batch yet
    assert "process 1 on host1 stuck after batch 7, reading" in distributed._behind(steps, 60)
    steps = dict.fromkeys(("a/000000", "a/000001"), "7 host")
    assert "all 2 processes are after batch 7" in distributed._behind(steps, 60)


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
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0",
    "SLURM_STEP_NUM_NODES": "2", "JAX_PLATFORMS": "cpu",
}  # fmt: skip


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
    with pytest.raises(ValueError, match="JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROC"):
        distributed.settings(JAX | change)
