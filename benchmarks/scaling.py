"""The same run on 1, 2, 4 and 8 simulated devices, and as 2 and 4 processes of this machine.

    python -m benchmarks.scaling --json=benchmarks/results/scaling_cpu.json

Simulated devices share the cores, so no speed-up is to be had: what is measured is whether the
result stays, and what splitting costs (smaller kernels, sums over devices, other processes).
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

_CONFIG = flags.DEFINE_string("config", "configs/smoke.py", "Config file of the run.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where its dataset is, or will be built.")
_JSON = flags.DEFINE_string("json", None, "Where to write the result.")
_LAYOUTS = flags.DEFINE_list(
    "layouts", ["1x1", "1x2", "1x4", "1x8", "2x4", "4x2"], "PROCESSESxDEVICES, the first to compare"
)
ROOT = Path(__file__).parents[1]


def run(layout: str, workdir: Path) -> None:
    """Trains in processes of their own.

    Raises:
        RuntimeError: one of them failed.
    """
    processes, devices = map(int, layout.split("x"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    flag = f"--xla_force_host_platform_device_count={devices}"
    environ = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}
    command = [
        sys.executable, "-m", "densityjax.main", f"--config={_CONFIG.value}",
        f"--workdir={workdir}", f"--config.data.data_dir={Path(_DATA_DIR.value).absolute()}",
    ]
    started = []
    for process in range(processes):
        if processes > 1:
            environ |= {
                "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(process),
            }
        started.append(subprocess.Popen(command, cwd=ROOT, env=environ))
    if any([process.wait() for process in started]):  # a list: all are waited for
        raise RuntimeError(f"{layout} failed")


def losses(workdir: Path) -> list[float]:
    """Training and validation losses in the order of metrics.jsonl."""
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").open()]


def main(argv: Sequence[str]) -> None:
    """Runs every layout and prints a table."""
    cases, first = [], None
    with tempfile.TemporaryDirectory() as folder:
        for layout in _LAYOUTS.value:
            workdir = Path(folder) / layout
            run(layout, workdir)
            facts, found = json.loads((workdir / "run.json").read_text()), losses(workdir)
            first = first or found
            average = json.loads((workdir / "metrics.json").read_text())["average"]["test"]["r2"]
            cases.append({
                "layout": layout,
                "seconds_per_epoch": facts["seconds_per_epoch"],
                "compile_seconds": facts["seconds"]["compile"],
                "total_seconds": facts["seconds"]["total"],
                "peak_memory_gib": facts["peak_memory_gib"],
                "test_average_r2": average,
                "largest_relative_loss_difference": max(
                    abs(a - b) / abs(b) for a, b in zip(found, first, strict=True)
                ),
            })
            print(json.dumps(cases[-1]), flush=True)
    if _JSON.value:
        result = {
            "config": _CONFIG.value, "cases": cases, "versions": facts["versions"],
            "commit": facts["commit"], "cpu_count": facts["cpu_count"],
        }
        Path(_JSON.value).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
