"""Does input ever stall the training step, and does memory grow with the dataset?

`loop`: the training loop fed by the pipeline against the same loop on one batch that is already on
the devices, in turn (A B A B); and the pipeline alone, in examples per second, over what the step
consumes. With the densities in memory and without. `memory`: copies of the shipped records, under
other ids, are written as array_record files of several sizes to `--scratch` (100,000 records:
5 GB and a few minutes; removed afterwards); a fresh process each prepares a run on them, first
without the index file and then with it, and draws batches.

    python -m benchmarks.input_pipeline --json=benchmarks/results/input_pipeline.json
    python -m benchmarks.input_pipeline --parts=loop --config=configs/elastic_magnetic.py
"""

import dataclasses
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags
from array_record.python import array_record_module
from ml_collections import config_flags
from tensorflow_datasets.core.example_parser import tf_example_pb2

from densityjax.data.batches import iterate_batches
from densityjax.data.dataset import open_dataset
from densityjax.data.records import Records
from densityjax.runtime import environment, files
from densityjax.step import parallel
from densityjax.step.create_task import field_size
from densityjax.step.train_state import create_train_state
from densityjax.training.setup import PreparedRun, prepare_run

config_flags.DEFINE_config_file("config", "configs/elastic.py")
_PARTS = flags.DEFINE_list("parts", ["loop", "memory"], "What to measure.")
_TURNS = flags.DEFINE_integer("turns", 24, "Turns of each loop.")
_STEPS = flags.DEFINE_integer(
    "steps", 6, "Timed steps of a turn; where the pipeline is not much faster than the step (GPU), "
    "take many more than the 2 x threads batches that wait decoded at its start.",
)
_SIZES = flags.DEFINE_list("sizes", ["1000", "10000", "100000"], "Records of the datasets written.")
_BATCHES = flags.DEFINE_integer("batches", 200, "Batches drawn from each dataset written.")
_SCRATCH = flags.DEFINE_string("scratch", tempfile.gettempdir(), "Where they are written.")
_MEASURE = flags.DEFINE_string("measure", None, "For this program's own use.")
_JSON = flags.DEFINE_string("json", None, "Write the figures here; parts not run keep theirs.")

_LEAD = 2  # untimed steps of a turn, in which the other loop's traces vanish
_SECONDS = 3.0  # at least, that the pipeline alone is timed


def endless(run: PreparedRun) -> Iterator[dict[str, jax.Array]]:
    """Placed batches as training takes them, without an end."""
    source = dataclasses.replace(run.source, num_steps=10**6)
    config = run.config.train
    return parallel.place_ahead(
        iterate_batches(source, 0, config.num_threads), config.accumulation_steps
    )


def make_loop(run: PreparedRun) -> Callable[[Iterable], None]:
    """A function that takes as many training steps as there are batches."""
    state = create_train_state(
        run.task.model, run.task.tx, run.statistics.arrays(bool(run.task.constraints)),
        run.config.seed, field_size(run.config, run.splits["train"].grid),
    )
    held = {"state": parallel.replicate(state)}
    step = parallel.mapped_train_step(run.task)

    def loop(batches: Iterable) -> None:
        for batch in batches:
            held["state"], _ = step(held["state"], batch)
        jax.block_until_ready(held["state"])

    return loop


def measure_loop(cache_in_memory: bool) -> dict[str, Any]:
    """The loop on one batch and fed, and the pipeline alone."""
    config = flags.FLAGS.config.copy_and_resolve_references()
    config.data.cache_in_memory = cache_in_memory
    with tempfile.TemporaryDirectory() as workdir:
        run = prepare_run(config, Path(workdir))
    loop, batches = make_loop(run), endless(run)
    feeds = {"cached": itertools.repeat(next(batches)), "fed": batches}
    loop([next(batches)])  # compiles
    times: dict[str, list[float]] = {name: [] for name in feeds}
    for _ in range(_TURNS.value):
        for name, feed in feeds.items():
            loop(itertools.islice(feed, _LEAD))
            start = time.perf_counter()
            loop(itertools.islice(feed, _STEPS.value))
            times[name].append((time.perf_counter() - start) / _STEPS.value)
    ratios = np.asarray(times["cached"]) / np.asarray(times["fed"])
    size = config.train.batch_size
    alone = examples_per_second(batches, size)
    consumed = size / statistics.median(times["cached"])
    return {
        "cache_in_memory": cache_in_memory,
        "cached_ms": round(1e3 * statistics.median(times["cached"]), 2),
        "fed_ms": round(1e3 * statistics.median(times["fed"]), 2),
        "ratio": round(float(np.median(ratios)), 4),
        "ratio_quartiles": [round(float(q), 4) for q in np.quantile(ratios, (0.25, 0.75))],
        "pipeline_examples_per_s": round(alone),
        "step_examples_per_s": round(consumed, 1),
        "pipeline_over_step": round(alone / consumed, 1),
    }


def examples_per_second(batches: Iterator, size: int) -> float:
    """Of placed batches, when nothing else runs."""
    for batch in itertools.islice(batches, 10):  # what was decoded while it waited
        jax.block_until_ready(batch)
    start, taken = time.perf_counter(), 0
    while time.perf_counter() < start + _SECONDS:
        jax.block_until_ready(next(batches))
        taken += size
    return taken / (time.perf_counter() - start)


def write_copies(builder: Any, data_dir: Path, num_records: int) -> None:
    """Writes a dataset of `num_records`: those of `builder` in turn, with ids of their own."""
    target = data_dir / Path(builder.data_dir).relative_to(builder.data_dir_root)
    target.mkdir(parents=True)
    for name in ("features.json", "metadata.json", "dataset_info.json"):
        shutil.copy(Path(builder.data_dir) / name, target / name)
    info = json.loads((target / "dataset_info.json").read_text())
    splits = info["splits"]
    raw = tfds.decode.DeserializeMethod.RAW_BYTES

    def write(order: int) -> None:
        split = splits[order]
        source = builder.as_data_source(split=split["name"], deserialize_method=raw)
        shards, num_bytes = len(split["shardLengths"]), 0
        ids = np.array_split(np.arange(order, num_records, len(splits)), shards)
        for shard, rows in enumerate(ids):
            name = f"{builder.name}-{split['name']}.array_record-{shard:05d}-of-{shards:05d}"
            writer = array_record_module.ArrayRecordWriter(str(target / name), "group_size:1")
            for row in map(int, rows):
                example = tf_example_pb2.Example.FromString(source[row % len(source)])
                feature = example.features.feature
                feature["index"].int64_list.value[:] = [row]
                feature["material_id"].bytes_list.value[:] = [b"copy-%d" % row]
                content = example.SerializeToString()
                writer.write(content)
                num_bytes += len(content)
            writer.close()
        split["shardLengths"] = [str(len(rows)) for rows in ids]
        split["numBytes"] = str(num_bytes)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(len(splits))))
    (target / "dataset_info.json").write_text(json.dumps(info))


def memory_mib(field: str) -> float:
    """VmRSS (resident now) or VmHWM (its peak) of this process, MiB.

    Not `getrusage`: its peak includes that of the parent at the time of the fork.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise KeyError(field)


def held_bytes(records: Records) -> int:
    """Of the arrays with the small fields."""
    values = dataclasses.asdict(dataclasses.replace(records, source=(), densities=None))
    return sum(leaf.nbytes for leaf in jax.tree.leaves(values) if isinstance(leaf, np.ndarray))


def measure_start(data_dir: str) -> dict[str, Any]:
    """Prepares a run on the dataset in `data_dir` and draws batches: seconds and memory."""
    config = flags.FLAGS.config.copy_and_resolve_references()
    config.data.data_dir, config.data.build = data_dir, False
    config.data.cache_in_memory = False
    jax.block_until_ready(jax.numpy.zeros(()) + 1)
    before = memory_mib("VmRSS")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as workdir:
        run = prepare_run(config, Path(workdir))
    seconds = time.perf_counter() - start
    prepared = memory_mib("VmHWM")
    batches = endless(run)
    start = time.perf_counter()
    for batch in itertools.islice(batches, _BATCHES.value):
        jax.block_until_ready(batch)
    rate = _BATCHES.value * config.train.batch_size / (time.perf_counter() - start)
    splits = run.splits.values()
    return {
        "start_s": round(seconds, 2),
        "before_mib": before,
        "peak_start_mib": prepared,
        "peak_mib": memory_mib("VmHWM"),
        "bytes_per_record": round(sum(map(held_bytes, splits)) / sum(map(len, splits))),
        "pipeline_examples_per_s": round(rate),
    }


def measure_memory(num_records: int) -> dict[str, Any]:
    """First and second start on a dataset of this size, each in a process of its own."""
    data = flags.FLAGS.config.data
    builder = open_dataset(data.name, data.data_dir, build=True)
    with tempfile.TemporaryDirectory(dir=_SCRATCH.value) as scratch:
        start = time.perf_counter()
        write_copies(builder, Path(scratch), num_records)
        result: dict[str, Any] = {
            "records": num_records,
            "written_s": round(time.perf_counter() - start, 1),
            "disk_mib": round(sum(p.stat().st_size for p in Path(scratch).rglob("*-of-*")) / 2**20),
        }
        command = [sys.executable, "-m", "benchmarks.input_pipeline", f"--measure={scratch}"]
        command += [a for a in sys.argv[1:] if a.startswith(("--config", "--batches"))]
        for name in ("first", "second"):
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            result[name] = json.loads(out.splitlines()[-1])
        files = Path(scratch).rglob("index-*.npz")
        result["index_mib"] = round(sum(p.stat().st_size for p in files) / 2**20, 2)
    return result


def main(_) -> None:
    """Prints a row per case."""
    if _MEASURE.value:
        print(json.dumps(measure_start(_MEASURE.value)))
        return
    path = Path(_JSON.value) if _JSON.value else None
    content = json.loads(path.read_text()) if path and path.exists() else {}
    content["config"] = str(flags.FLAGS["config"].config_filename)
    for part in _PARTS.value:
        cases = []
        for value in (True, False) if part == "loop" else map(int, _SIZES.value):
            cases.append(measure_loop(value) if part == "loop" else measure_memory(value))
            print(json.dumps(cases[-1]), flush=True)
        described = environment.describe_environment(flags.FLAGS.config.seed)
        content[part] = {"cases": cases, "environment": described}
    if path:
        files.replace_json(path, content)


if __name__ == "__main__":
    app.run(main)
