"""densityjax.main as runtime/test_distributed.py starts it: observed, with faults after a batch.

FAULT=die:PROCESS:BATCH ends a process without a word, stuck:... keeps it alive without a step,
error:... raises there, preempt:... is a SIGTERM. The digests of its state after training go to
digests/PROCESS.json of the work directory.
"""

import json
import os
import signal
import sys
import time

import jax
from absl import app, flags

from densityjax import main
from densityjax.runtime.command_line import parse_flags
from densityjax.runtime.preemption import SyncPoint
from densityjax.training.checkpoint import digests
from densityjax.training.loop import Loop

_run, _reached = Loop.run, SyncPoint.reached


def _observed(loop: Loop):
    state = _run(loop)
    path = loop._run.workdir / "digests" / f"{loop._run.source.host}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(digests(state)))
    return state


def _faulty(point: SyncPoint, step: int) -> bool:
    kind, process, batch = os.environ["FAULT"].split(":")
    if jax.process_index() == int(process) and step == int(batch):
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "error":
            raise ValueError("a record cannot be read")
        if kind == "stuck":
            time.sleep(300)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3)  # JAX's service asks every second for signals
    return _reached(point, step)


if __name__ == "__main__":
    Loop.run = _observed
    if os.environ.get("FAULT"):
        SyncPoint.reached = _faulty
    flags.mark_flags_as_required(["config", "workdir"])
    sys.exit(app.run(main.main, flags_parser=parse_flags))
