"""How long a user waits: for --help, and for the first training step of the default config.

    python -m benchmarks.startup --json benchmarks/results/startup.json

The dataset lies in data/ already. 'cold' starts with an empty compilation cache, 'warm' with what a
cold start left there. A run tells in run.json when its first step had ended, in seconds since its
process started, and is stopped then.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAGES = ("imports", "build", "initialise", "compile_ahead", "first_step")


def help_seconds() -> float:
    """Wall time of `--help`."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "densityjax.main", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "--workdir" not in result.stdout:
        raise RuntimeError(f"--help printed no help: {result.stderr}")
    return time.perf_counter() - started


def first_step(config: str, data_dir: str, cache: Path) -> dict[str, float]:
    """Starts a run with this compilation cache, stops it after its first step.

    Returns:
        Seconds of the stages, and 'wall', the same as 'first_step' by this process's clock.
    """
    with tempfile.TemporaryDirectory() as root:
        workdir = Path(root) / "run"
        command = [
            sys.executable, "-m", "densityjax.main", f"--config={config}", f"--workdir={workdir}",
            f"--config.data.data_dir={data_dir}", "--config.data.build=False",
        ]
        environ = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
        environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)
        with open(Path(root) / "log", "w+") as log:
            started = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                while time.perf_counter() - started < 300:
                    wall = time.perf_counter() - started
                    if (workdir / "run.json").exists():
                        seconds = json.loads((workdir / "run.json").read_text())["seconds"]
                        if "first_step" in seconds:
                            return {name: seconds[name] for name in STAGES} | {"wall": wall}
                    if process.poll() is not None:
                        break
                    time.sleep(0.05)
            finally:
                process.kill()
                process.wait()
            log.seek(0)
            raise RuntimeError(f"no first step:\n{log.read()[-2000:]}")


def main() -> None:
    """Prints medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/elastic.py")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {"cpus": os.cpu_count(), "config": options.config}
    result["help"] = round(statistics.median(help_seconds() for _ in range(5)), 2)
    print(f"--help: {result['help']} s", flush=True)
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(options.repeats):
        cache = Path(tempfile.mkdtemp())
        for kind, found in runs.items():
            found.append(first_step(options.config, options.data_dir, cache))
            print(kind, found[-1], flush=True)
        shutil.rmtree(cache)
    for kind, found in runs.items():
        result[kind] = {
            name: round(statistics.median(run[name] for run in found), 2) for name in found[0]
        } | {"each": [run["first_step"] for run in found]}
        print(f"first step, {kind}: {result[kind]['first_step']} s", flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
