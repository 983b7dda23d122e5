"""The files that a run writes about itself: metrics.jsonl, TensorBoard, run.json."""

import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import psutil

from densityjax import distributed

_PACKAGES = (
    "densityjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain",
    "tensorflow-datasets",
)  # fmt: skip


def write_json(path: Path, content: Any) -> None:
    """Replaces a JSON file atomically; of several processes, one does."""
    if distributed.is_writer():
        _replace(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


class MetricLog:
    """Appends scalars to metrics.jsonl and to TensorBoard files under `workdir/tensorboard`."""

    def __init__(self, workdir: Path, restored_step: int, evaluated: bool = True):
        """Opens the log; on resume, lines after `restored_step` are cut, they will come again.

        Args:
            evaluated: whether the evaluation of that step stays, or comes again as well.

        TensorBoard's files, which a kill leaves without their last minutes and which hold steps
        after `restored_step`, are made anew from the lines that stay.
        """
        self._path, self._directory = workdir / "metrics.jsonl", workdir / "tensorboard"
        self._kept: list[str] = []
        self._writes = distributed.is_writer()
        if self._writes and self._path.exists():
            lines = self._path.read_text().splitlines()
            self._kept = [
                line for line in lines if _step_of(line) <= restored_step
                and (evaluated or json.loads(line)["split"] == "train"
                     or json.loads(line)["step"] < restored_step)
            ]  # fmt: skip
            _replace(self._path, "".join(line + "\n" for line in self._kept))
        self._board = None

    def write(self, step: int, epoch: float, split: str, scalars: dict[str, float | None]) -> None:
        """Writes one line; None marks an undefined metric and is left out of TensorBoard."""
        if not self._writes:
            return
        if self._board is None:
            # Not before the first step: it takes a second to import where PyTorch is installed.
            self._open_board()
        line = {"step": step, "epoch": round(epoch, 4), "split": split} | scalars
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._show(line)

    def close(self) -> None:
        """Flushes TensorBoard's queue."""
        if self._board is None and self._kept:
            self._open_board()
        if self._board is not None:
            self._board.close()

    def _open_board(self) -> None:
        from tensorboardX import SummaryWriter

        for path in self._directory.glob("events.out.tfevents.*"):
            path.unlink()
        self._board = SummaryWriter(str(self._directory))
        for line in self._kept:
            self._show(json.loads(line))

    def _show(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "epoch", "split") and value is not None:
                self._board.add_scalar(f"{line['split']}/{name}", value, line["step"])


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # the last line of a killed run may be cut
        return float("inf")


def describe_environment(seed: int) -> dict[str, Any]:
    """Versions, flags, commit and hardware of this process, for run.json."""
    device = jax.devices()[0]
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a source tree that is not installed
            versions[package] = "not installed"
    return {
        "versions": versions,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "command": " ".join(sys.argv),
        "commit": _commit(),
        "seed": seed,
        "hostname": socket.gethostname(),
        "platform": device.platform,
        "device_kind": device.device_kind,
        "num_devices": jax.device_count(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def seconds_since_start() -> float:
    """Age of this process, imports included."""
    try:  # to 10 ms; the start that psutil reports is rounded to seconds
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # not Linux
        return time.time() - psutil.Process().create_time()


def peak_memory_gib() -> float:
    """Largest resident size of this process so far, GiB (Linux counts in KiB)."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def _commit() -> str:
    """Commit of the source tree, '-dirty' with uncommitted changes, 'unknown' outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        here = Path(__file__).parent
        result = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() or "unknown"
