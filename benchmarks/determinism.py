"""Does the real training step give the same bits every time?

Runs one update of a config `--repeats` times from the same state on the same batch of real records
and counts the distinct results, then the same for the predict step.

    python -m benchmarks.determinism --config=configs/elastic.py --repeats=200
"""

import hashlib
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from densityjax.data.batches import evaluation_batches
from densityjax.step import create_task, parallel
from densityjax.step.train_state import create_train_state
from densityjax.training.setup import prepare_run

config_flags.DEFINE_config_file("config", "configs/elastic.py")
_REPEATS = flags.DEFINE_integer("repeats", 200, "Runs of the same step.")
_JSON = flags.DEFINE_string("json", None, "Write the counts here.")


def digest(tree) -> str:
    """Hash of every bit of a pytree of arrays."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()[:16]


def main(_) -> None:
    """Prints how often each result came out."""
    config = flags.FLAGS.config
    with tempfile.TemporaryDirectory() as workdir:
        run = prepare_run(config, Path(workdir))
    make_state = lambda: parallel.replicate(  # noqa: E731
        create_train_state(
            run.task.model, run.task.tx, run.statistics.arrays(bool(run.task.constraints)),
            config.seed,
            create_task.field_size(config, run.splits["train"].grid),
        )
    )
    step = parallel.mapped_train_step(run.task)
    batches = [
        parallel.split_batch(run.source[i], config.train.accumulation_steps) for i in range(3)
    ]
    start, _ = step(make_state(), batches[0])  # past the zero learning rate of the first step
    start, _ = step(start, batches[1])
    kept = jax.device_get(start)
    counts: dict[str, Counter] = {"train": Counter(), "predict": Counter()}
    for _ in range(_REPEATS.value):
        counts["train"][digest(step(parallel.replicate(kept), batches[2]))] += 1
    predict = parallel.mapped_predict_step(run.task, config.view.validation_views)
    batch = next(evaluation_batches(run.splits["validation"], config.train.batch_size))
    state = parallel.replicate(kept)
    for _ in range(_REPEATS.value):
        counts["predict"][digest(parallel.predict_batch(predict, state, batch))] += 1
    result = {
        "jax": jax.__version__,
        "cpus": os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "repeats": _REPEATS.value,
        "distinct": {name: len(count) for name, count in counts.items()},
    }
    print(json.dumps(result, indent=1))
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
