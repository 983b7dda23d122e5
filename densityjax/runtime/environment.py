"""What this process runs in: versions, commit, hardware, time and memory used; for run.json."""

import os
import platform
import resource
import socket
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import psutil

from densityjax.runtime.commit import running_commit

_PACKAGES = (
    "densityjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain",
    "tensorflow-datasets",
)


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a source tree that is not installed
            found[package] = "not installed"
    return found


def describe_environment(seed: int) -> dict[str, Any]:
    """Versions, flags, commit and hardware of this process, for run.json."""
    device = jax.devices()[0]
    return {
        "versions": versions(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "command": " ".join(sys.argv),
        "commit": running_commit(),
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
