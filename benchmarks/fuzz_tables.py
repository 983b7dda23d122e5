"""Damages tables of labels at random and reads them: sound labels or a clear error, nothing else.

    python -m benchmarks.fuzz_tables --count 20000 --json benchmarks/results/fuzz_tables.json

The tables are those of tests/tfds_builders/field_cases, as people have them, and the shipped
dataset's. They lie in a folder with density files of the names that they use, which the inventory
does not read. Case n of a seed is always the same (--first n --count 1); the ways of damage are
those of benchmarks/fuzz_density.py. tests/benchmarks/test_fuzz_tables.py runs 300 of them.
"""

import csv
import math
import signal
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.fuzz_density import ARCHIVE, HANG, BrokenPromise, begin, case, finish
from densityjax.runtime.errors import UserError
from tfds_builders.density_folder.inventory import Inventory, take_inventory
from tfds_builders.density_folder.matching import MAX_FOLD

FIELD_CASES = Path(__file__).parents[1] / "tests/tfds_builders/field_cases"
ROWS = 40  # of the shipped table


def tables() -> dict[str, bytes]:
    """Tables by name, undamaged."""
    found = {}
    for path in sorted(FIELD_CASES.glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            member = next(m for m in archive.getmembers() if m.name.endswith("labels.csv"))
            found[path.name.removesuffix(".tar.xz")] = archive.extractfile(member).read()
    with tarfile.open(ARCHIVE) as archive:
        lines = archive.extractfile("labels.csv").read().splitlines(keepends=True)
    return found | {"shipped": b"".join(lines[: ROWS + 1])}


def make_folder(folder: Path) -> None:
    """Files by the names that the tables use; the inventory looks at names, sizes and times."""
    shipped = csv.DictReader(tables()["shipped"].decode().splitlines())
    names = [f"mp-{number}.CHGCAR" for number in range(100, 124)]
    for name in (*names, *(row["file"] for row in shipped), "mp-100/static/CHGCAR", "mp-101/CHG"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def check(folder: Path, data: bytes) -> Inventory | None:
    """Reads a table. What it gives, which is sound, or None for a clear error.

    Raises:
        BrokenPromise: what it gives is not sound or the error not clear.
        Exception: whatever the inventory should not have raised.
    """
    (folder / "labels.csv").write_bytes(data)
    try:
        with warnings.catch_warnings(action="error"):
            inventory = take_inventory(folder)
            reason = inventory.unusable()
    except UserError as error:
        reason, inventory = str(error), None
    named = str(folder) in reason or "labels.csv" in reason
    if reason and (not named or len(reason) > 6000):
        raise BrokenPromise(f"the error is not clear: {reason[:200]}")
    if inventory is None:
        return None
    classes = [(c.labels, len(c.spec.classes)) for c in inventory.columns if c.spec.classes]
    numbers = [c.labels for c in inventory.columns if not c.spec.classes]
    names = [column.spec.name for column in inventory.columns]
    promises = {
        "targets have different names": len(set(names)) == len(names),
        "labels of classes are indices": all(
            labels.dtype == np.int32 and ((labels >= -1) & (labels < count)).all()
            for labels, count in classes
        ),
        "labels are finite or missing": all(
            labels.dtype == np.float32 and not np.isinf(labels).any() for labels in numbers
        ),
        "every row has a file": all(Path(row.path).is_file() for row in inventory.rows),
        "no file is taken twice": len({row.path for row in inventory.rows}) == len(inventory.rows),
        "folds can be stored": all(
            row.fold is None or 0 <= row.fold <= MAX_FOLD for row in inventory.rows
        ),
        "problems say what and why": all(p.kind and p.message for p in inventory.problems),
    }
    if broken := [promise for promise, kept in promises.items() if not kept]:
        raise BrokenPromise(f"not so: {', '.join(broken)}")
    return inventory


def run(first: int, count: int, seed: int) -> dict:
    """Counts of what came of cases, and those that broke the promise."""
    seeds, outcome, failures = tables(), Counter(), []
    slowest, started = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder)
        for number in range(first, first + count):
            name, data = case(seeds, seed, number)
            before = time.perf_counter()
            signal.alarm(HANG)
            try:
                inventory = check(folder, data)
            except Exception as error:
                failures.append(f"case {number} ({name}): {type(error).__name__}: {error}")
                outcome["broken"] += 1
                continue
            finally:
                signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - before)
            usable = inventory is not None and inventory.rows and inventory.columns
            outcome["refused" if inventory is None else "read" if usable else "unusable"] += 1
    return {
        "cases": count, "seed": seed, "tables": len(seeds), **outcome,
        "broken": outcome["broken"], "failures": failures[:20],
        "slowest_ms": round(1e3 * slowest, 1),
        "seconds": math.ceil(time.perf_counter() - started),
    }


def main() -> None:
    """Prints counts; exits with the first cases that broke the promise."""
    options = begin(__doc__.splitlines()[0])
    result = run(options.first, options.count, options.seed)
    finish(result, result["broken"], options.json)


if __name__ == "__main__":
    main()
