"""How fast density files become records, side by side with pymatgen's and ASE's readers.

    python -m benchmarks.ingest --json benchmarks/results/ingest.json

The files are one real density of the shipped dataset, interpolated to a small (24^3), a median
(56 x 84 x 140 voxels), a 128^3 and a large grid (300^3) and written as VASP writes: five numbers of
11 digits a line. Everything runs on one core, with BLAS on one thread; what is compared runs in
turns, and the fastest of each is given: what else the machine does slows single calls. MB are those
of the plain text, 10^6 bytes, also where the file is compressed.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy starts: speeds are those of one core

import argparse
import gzip
import json
import multiprocessing
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase.calculators.vasp import VaspChargeDensity
from pymatgen.io.vasp.outputs import Chgcar

from densityjax.density import grid
from densityjax.density.reader import read_density, read_density_bytes
from densityjax.density.record import make_record

ARCHIVE = Path(__file__).parents[1] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
MATERIAL = "mp-10000"
GRIDS = {
    "small": (24, 24, 24), "median": (56, 84, 140), "128": (128, 128, 128),
    "large": (300, 300, 300),
}
SIZE = 32  # of the record
WORKER_FILES = 24  # median ones, for each run with workers


def write_files(root: Path) -> None:
    """The files of GRIDS, plain and compressed with gzip at its default level."""
    with tarfile.open(ARCHIVE) as archive:
        data = archive.extractfile(f"densities/{MATERIAL}.CHGCAR.xz").read()
    density = read_density_bytes(data, MATERIAL)
    header = [MATERIAL, "1.0", *(" ".join(f"{x:.9f}" for x in row) for row in density.lattice)]
    header += ["Hf S", "4 2", "Direct"]
    header += [" ".join(f"{x:.9f}" for x in row) for row in density.positions]
    for name, shape in GRIDS.items():
        numbers = (grid.resample(density.values, shape) * density.volume).ravel(order="F")
        with open(root / f"{name}.CHGCAR", "w") as file:
            file.write("\n".join([*header, "", " ".join(map(str, shape)), ""]))
            for start in range(0, len(numbers), 500_000):
                piece = numbers[start : start + 500_000]
                lines, rest = divmod(len(piece), 5)
                form = " %.11E %.11E %.11E %.11E %.11E\n" * lines + " %.11E" * rest
                file.write(form % tuple(piece))
            file.write("\n")
        with open(root / f"{name}.CHGCAR", "rb") as file:
            (root / f"{name}.CHGCAR.gz").write_bytes(gzip.compress(file.read(), 6))


def process(path: Path) -> dict:
    """File to record, as builders do it."""
    return make_record(read_density(path), SIZE)


def side_by_side(calls: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Fewest seconds of each, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: min(found) for name, found in seconds.items()}


def peak_memory(path: Path) -> float:
    """MB that making a record of a file adds to a process that has made a small one (VmHWM)."""
    code = (
        "import re, sys; from benchmarks import ingest; from pathlib import Path\n"
        "status = lambda: open('/proc/self/status').read()\n"
        "kb = lambda key: int(re.search(key + r':\\s+(\\d+)', status())[1])\n"
        "ingest.process(Path(sys.argv[1])); before = kb('VmRSS')\n"
        "open('/proc/self/clear_refs', 'w').write('5')  # the peak starts anew\n"
        "ingest.process(Path(sys.argv[2])); print((kb('VmHWM') - before) * 1024 / 1e6)"
    )
    small = path.parent / "small.CHGCAR"
    command = [sys.executable, "-c", code, str(small), str(path)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _pin(cores: "multiprocessing.Queue") -> None:
    """Gives a worker a core of its own, and makes it ready."""
    os.sched_setaffinity(0, {cores.get()})


def workers_seconds(path: Path, workers: int, cores: list[int]) -> float:
    """Seconds that this many processes take for WORKER_FILES files, once they have started."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for core in cores[:workers]:
        queue.put(core)
    with context.Pool(workers, _pin, (queue,)) as pool:
        pool.map(process, [path] * 2 * workers, chunksize=1)
        started = time.perf_counter()
        pool.map(process, [path] * WORKER_FILES, chunksize=1)
        return time.perf_counter() - started


def measure(root: Path, repeats: int) -> dict:
    """All figures, see the keys."""
    cores = sorted(os.sched_getaffinity(0))
    runs = {1: [], 2: []}
    for _ in range(max(2, repeats // 2)):
        for workers, seconds in runs.items():
            seconds.append(workers_seconds(root / "median.CHGCAR.gz", workers, cores))
    one, two = (min(seconds) for seconds in runs.values())
    result = {
        "cpus": len(cores), "repeats": repeats, "load_average_before": os.getloadavg()[0],
        "workers": {
            "files": WORKER_FILES, "1_files_per_s": WORKER_FILES / one,
            "2_files_per_s": WORKER_FILES / two, "speed_up": one / two,
            "seconds": {str(workers): seconds for workers, seconds in runs.items()},
        },
        "grids": {},
    }
    os.sched_setaffinity(0, {cores[-1]})
    for name, shape in GRIDS.items():
        path, compressed = root / f"{name}.CHGCAR", root / f"{name}.CHGCAR.gz"
        megabytes = path.stat().st_size / 1e6
        seconds = side_by_side(
            {
                "read": lambda path=path: read_density(path),
                "pymatgen": lambda path=path: Chgcar.from_file(path),
                "record": lambda path=path: process(path),
                "gz_record": lambda path=compressed: process(path),
            },
            max(2, repeats // (4 if name == "large" else 1)),
        )
        values = read_density(path).values
        seconds["resample"] = side_by_side({"": lambda v=values: grid.resample(v, SIZE)}, 5)[""]
        del values
        if name == "128":
            ase = {"ase": lambda path=path: VaspChargeDensity(str(path))}
            seconds |= side_by_side(ase, 2)
        row = {"shape": shape, "megabytes": megabytes}
        row["gz_megabytes"] = compressed.stat().st_size / 1e6
        for call, found in seconds.items():
            row[call] = {"ms": 1e3 * found, "mb_per_s": megabytes / found, "files_per_s": 1 / found}
        row["read_over_pymatgen"] = seconds["read"] / seconds["pymatgen"]
        row["gz_record_speed_over_pymatgen"] = seconds["pymatgen"] / seconds["gz_record"]
        row["peak_megabytes"] = {
            "array": 8e-6 * np.prod(shape).item(),
            "record": peak_memory(path), "gz_record": peak_memory(compressed),
        }
        result["grids"][name] = row
        print(table_row(name, row), flush=True)
    row = result["grids"]["128"]
    result["required"] = {
        "read 128^3: at most 1.15 times pymatgen": row["read_over_pymatgen"],
        "read 128^3: at least 10 times faster than ASE": row["ase"]["ms"] / row["read"]["ms"],
        "gz file to record, 128^3: at least 0.5 of pymatgen's speed": row[
            "gz_record_speed_over_pymatgen"
        ],
        "two workers: at least 1.8 times one": result["workers"]["speed_up"],
    }
    return result


def table_row(name: str, row: dict) -> str:
    """One line of the printed table."""
    cells = [f"{name} {' x '.join(map(str, row['shape']))}", f"{row['megabytes']:.1f}"]
    for call in ("pymatgen", "read", "record", "gz_record"):
        cells.append(f"{row[call]['mb_per_s']:.0f} ({row[call]['files_per_s']:.3g}/s)")
    cells += [f"{row['resample']['ms']:.1f}", f"{row['peak_megabytes']['gz_record']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Prints a table and what the issue requires."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print("| grid | MB | pymatgen MB/s | read | to record | gz to record | resample ms | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        write_files(Path(root))
        result = _rounded(measure(Path(root), options.repeats))
    for name, found in result["required"].items():
        print(f"{name}: {found:.3g}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
