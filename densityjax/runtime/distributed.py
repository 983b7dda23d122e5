"""Several processes as one run: how they find each other, wait, agree, and end together.

JAX's coordination service, which process 0 serves, does the work: heartbeats tell when a process is
dead, a key-value store tells what ended it, and its preemption service agrees on a step to save at.
"""

import collections
import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src import distributed as jax_distributed  # the client has no public name
from jax._src.clusters import GceTpuCluster, GkeTpuCluster
from jax.experimental import multihost_utils

from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json

log = logging.getLogger("densityjax")

_FAILED, _STEP, _EQUAL = "densityjax/failed/", "densityjax/step/", "densityjax/equal/"
# To wait where processes come at about the same time, and where one has work of its own.
_HOUR, _DAY = 3600.0, 24 * 3600.0
# The first step is compiled, which on a large machine may take long.
_FIRST_STEP_SECONDS = _HOUR
_heartbeat_seconds = 60
_calls: collections.Counter[str] = collections.Counter()  # the same in every process


class DisagreementError(UserError):
    """Processes of one run were started with other settings or data."""


def settings(environ: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`, or None where there is one process.

    In this order: JAX_COORDINATOR_ADDRESS (host:port of process 0) with JAX_NUM_PROCESSES and
    JAX_PROCESS_ID; a step of Slurm with several tasks; the hosts of a TPU slice, unless
    TPU_PROCESS_BOUNDS makes each a machine of its own, as launch/ablation_pod.sh does.

    Raises:
        UserError: the variables are not complete or not numbers.
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = {name: environ[name] for name in names if environ.get(name)}
    if names[0] in given:
        missing = [name for name in names if name not in given]
        numbers = [given.get(name, "0") for name in names[1:]]
        if missing or not all(number.isdecimal() for number in numbers):
            raise UserError(
                f"several processes need {', '.join(names)} (host:port of process 0, how many, "
                f"which one from 0); the environment has "
                + ", ".join(f"{name}={value}" for name, value in given.items())
            )
        return {
            "coordinator_address": given[names[0]], "num_processes": int(numbers[0]),
            "process_id": int(numbers[1]), "cluster_detection_method": "deactivate",
        }
    tasks = environ.get("SLURM_NTASKS", "1")
    if int(tasks) > 1 and {"SLURM_STEP_NODELIST", "SLURM_PROCID"} <= environ.keys():
        found: dict[str, Any] = {"cluster_detection_method": "slurm"}
        gpus = environ.get("SLURM_GPUS_ON_NODE", "")
        if environ.get("SLURM_STEP_NUM_NODES") == tasks and gpus.isdecimal():
            # A task per node: JAX would give it one GPU, the first.
            found["local_device_ids"] = list(range(int(gpus)))
        return found
    if "TPU_PROCESS_BOUNDS" not in environ and _on_tpu(environ):
        return {}
    return None


def _on_tpu(environ: Mapping[str, str]) -> bool:
    """Whether JAX finds the hosts of a slice; a TPU of a notebook service names none."""
    if "tpu" not in (environ.get("JAX_PLATFORMS") or "tpu"):
        return False
    return GkeTpuCluster.is_env_present() or GceTpuCluster.is_env_present()


def initialize(heartbeat_seconds: int, environ: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes, if the environment names any; before anything else of JAX.

    Args:
        heartbeat_seconds: a process that is silent for so long counts as dead, and all others end.

    Raises:
        UserError: as `settings`.
    """
    global _heartbeat_seconds
    arguments = settings(environ)
    if arguments is None:
        return
    _heartbeat_seconds = heartbeat_seconds
    jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=heartbeat_seconds)
    threading.Thread(target=_end_with_the_others, name="others", daemon=True).start()
    address = jax_distributed.global_state.coordinator_address
    log.info(
        "%s of %d; process 0, which JAX calls the leader, at %s", _who(), jax.process_count(),
        address,
    )


def several() -> bool:
    """Whether this is one of several processes; does not start JAX's backend in a single one."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_writer() -> bool:
    """Whether this process writes the files of the run: process 0, or the only one."""
    return not several() or jax.process_index() == 0


def write_json(path: Path, content: Any) -> None:
    """Replaces a JSON file in one step; of several processes, one does."""
    if is_writer():
        replace_json(path, content)


def barrier(name: str, seconds: float = _HOUR) -> None:
    """Returns once every process has called it; JAX raises if one has not come by then."""
    if several():
        _calls[name] += 1
        _client().wait_at_barrier(f"densityjax/{name}/{_calls[name]}", int(1000 * seconds))


def wait_for_work(name: str) -> None:
    """A barrier for processes of which one may have work for hours."""
    barrier(name, _DAY)


def check_equal(name: str, value: str) -> None:
    """Raises DisagreementError, in the process that differs, if process 0 has another value."""
    if not several():
        return
    _calls[name] += 1
    key = f"{_EQUAL}{name}/{_calls[name]}"
    if jax.process_index() == 0:
        _client().key_value_set(key, value)
    first = _client().blocking_key_value_get(key, int(1000 * _HOUR))
    if first != value:
        raise DisagreementError(
            f"{_who()} has another {name} than process 0:\n{value}\nhere,\n{first}\nthere; start "
            "all processes with the same command, on the same data"
        )


def any_process(flag: bool) -> bool:
    """Whether it is so in any process; every one has to ask."""
    if not several():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def preemption_reached() -> bool:
    """Whether to save and end now: True at the same call in every process, and only at that one.

    Once any process gets SIGTERM, JAX's preemption service agrees on a call that none has made
    yet. To be asked after every batch, in every process.
    """
    _calls["preemption"] += 1
    return multihost_utils.reached_preemption_sync_point(_calls["preemption"])


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Where this process ends by an error, the others are told why and end, too.

    A process that merely left would wait in JAX's shutdown for others, which wait for its share of
    a sum over devices. One that has finished waits for those that still write.
    """
    try:
        yield
        wait_for_work("finished")
    except BaseException as error:
        if not several() or (isinstance(error, SystemExit) and _expected(error)):
            raise
        if isinstance(error, SystemExit):
            print(error.code, file=sys.stderr)
        else:
            traceback.print_exc()
        if _of_jax(error):
            log.warning(
                "Most likely a process has gone and the above follows from it; which one JAX says "
                "within %d s", _heartbeat_seconds + 5,
            )
            time.sleep(_heartbeat_seconds + 5)
        reason = str(error).strip().removeprefix("error: ") or type(error).__name__
        _end(f"{_who()} ended with an error: {reason}")


def _of_jax(error: BaseException | None) -> bool:
    """Whether an error of JAX led to this one."""
    while error is not None and not isinstance(error, jax.errors.JaxRuntimeError):
        error = error.__cause__ or error.__context__
    return error is not None


def _expected(error: SystemExit) -> bool:
    """Finished, or preempted as all processes are."""
    return error.code in (None, 0, 75)


class Watchdog:
    """Ends all processes, with a word on which one is behind, when batches stop coming.

    A stuck process still sends heartbeats; the others wait for its share of a sum without end.
    """

    def __init__(self, seconds: float):
        """Starts watching.

        Args:
            seconds: longest time between two beats, 0 for none; the first may take an hour.
        """
        self._seconds, self._beats, self._reading, self._place = seconds, 0, True, "the start"
        self._time, self._closed = time.monotonic(), threading.Event()
        _calls["watchdog"] += 1  # each has a place of its own, without what one before has left
        self._folder = f"{_STEP}{_calls['watchdog']}/"
        if seconds > 0:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def beat(self, place: str) -> None:
        """Says that this process is getting on, and how far it is; all processes say the same."""
        self._beats, self._reading, self._place = self._beats + 1, True, place
        self._time = time.monotonic()

    def has_read(self) -> None:
        """Says that the batch after that of the last beat is there, and is now computed with."""
        self._reading = False

    def close(self) -> None:
        """Ends watching."""
        self._closed.set()

    def _watch(self) -> None:
        published = None
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            value = json.dumps([self._beats, self._reading, self._place, socket.gethostname()])
            if published != value:
                published = value
                key = f"{self._folder}{jax.process_index():06}"
                _client().key_value_set(key, value, allow_overwrite=True)
            limit = self._seconds if self._beats > 1 else max(self._seconds, _FIRST_STEP_SECONDS)
            if time.monotonic() - self._time > limit:
                places = dict(_client().key_value_dir_get(self._folder))
                _end(_behind(places, jax.process_count(), limit))


def _behind(places: Mapping[str, str], num_processes: int, seconds: float) -> str:
    """What the watchdog says.

    Args:
        places: {'.../000001': '[12, true, "batch 11", "host"]'} of the processes: beats, whether
          the next batch is still to be read, the last beat's place. One that has none is missing.
    """
    found = {number: [0, True, "nothing", "its host"] for number in range(num_processes)}
    found |= {int(key.rpartition("/")[2]): json.loads(value) for key, value in places.items()}

    def progress(number: int) -> tuple[int, bool]:
        beats, reading, _, _ = found[number]
        return beats, not reading

    lowest = min(map(progress, found))
    late = [number for number in sorted(found) if progress(number) == lowest]
    _, reading, place, _ = found[late[0]]
    if len(late) == len(found):
        which = f"all {len(found)} processes are after {place}"
    else:
        names = ", ".join(f"process {number} on {found[number][3]}" for number in late)
        which = f"{names} stuck after {place}, {'reading' if reading else 'computing'} the next"
    return (
        f"no batch for {seconds:.0f} s (config.train.watchdog_seconds): {which}; start again to "
        "resume from the last checkpoint"
    )


def _end_with_the_others() -> None:
    while True:
        time.sleep(1.0)
        try:
            failed = _client().key_value_dir_get(_FAILED)
        except Exception:  # the service has gone, of which JAX's own client tells
            return
        if failed:
            _exit(failed[0][1])


def _end(message: str) -> None:
    """Ends this process and tells the others why; process 0, which serves them, goes last."""
    with contextlib.suppress(Exception):  # another was faster, or the service has gone
        _client().key_value_set(f"{_FAILED}first", message)
    if jax.process_index() == 0:
        time.sleep(4.0)
    _exit(message)


def _exit(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)  # Python's own way out waits for the others


def _who() -> str:
    return f"process {jax.process_index()} on {socket.gethostname()}"


def _client() -> Any:
    return jax_distributed.global_state.client
