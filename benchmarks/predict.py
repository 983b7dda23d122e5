"""What a prediction costs, from the shell to the table: one file, and many.

    python -m benchmarks.predict [--model=elastic] [--count=500] [--rounds=5]

Each round starts `densityjax predict` anew on one file and on COUNT of the densities that ship
(with copies, if there are fewer), with JAX's compilation cache off and Python's bytecode in place.
Printed: the median, fastest and slowest wall-clock time of one file, its peak memory, the time of
all, what it leaves to each further file, and what remains for each once GOAL seconds are taken off.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ARCHIVE = Path(__file__).parents[1] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
GOAL = 4.0  # seconds that one file may take


def unpack(folder: Path, count: int) -> list[Path]:
    """So many densities in a folder."""
    with tarfile.open(ARCHIVE) as archive:
        names = [name for name in archive.getnames() if "CHGCAR" in name]
        for place in range(count):
            name = names[place % len(names)]
            content = archive.extractfile(name).read()
            (folder / f"{place:04d}_{Path(name).name}").write_bytes(content)
    return sorted(folder.iterdir())


def measure(model: str, files: list[Path]) -> tuple[float, float]:
    """(seconds, peak MB) of one call."""
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "densityjax", "predict", f"--model={model}", *map(str, files)]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"failed: {' '.join(command[:5])}")
    return seconds, usage.ru_maxrss / 1e3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="elastic")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        files = unpack(Path(place), options.count)
        measure(options.model, files[:1])  # writes the bytecode
        one = [measure(options.model, files[:1]) for _ in range(options.rounds)]
        times = [seconds for seconds, _ in one]
        print(f"one file: median {statistics.median(times):.2f} s, {min(times):.2f} to "
              f"{max(times):.2f} s, {max(memory for _, memory in one):.0f} MB")
        many = [measure(options.model, files) for _ in range(options.rounds)]
        all_times = [seconds for seconds, _ in many]
        each, rest = (
            1e3 * (statistics.median(all_times) - first) / max(len(files) - 1, 1)
            for first in (statistics.median(times), GOAL)
        )
        print(f"{len(files)} files: median {statistics.median(all_times):.2f} s, "
              f"{min(all_times):.2f} to {max(all_times):.2f} s, {each:.1f} ms each beyond one, "
              f"{rest:.1f} ms beyond {GOAL:g} s, {max(memory for _, memory in many):.0f} MB")


if __name__ == "__main__":
    main()
