"""Density files read ahead of their prediction, with what is computed of each alone."""

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from densityjax.prediction.materials import Material, Needs, prepare, read_material

_AHEAD = 2**25  # bytes of densities on the grid of the model that wait to be predicted
_LARGE = 2**26  # bytes of a file, whose density on its own grid may take gigabytes
_PROCESSES = 2


@contextlib.contextmanager
def processes(paths: Sequence[Path]) -> Iterator[Executor | None]:
    """Processes that read, forked now; None where they cannot be.

    Half of the time of a prediction is spent on its file, in small steps that hold Python's lock.
    JAX must not have started, for its threads do not survive a fork; so these start first, and read
    while JAX starts and compiles. Of large files one is read at a time.
    """
    if sys.platform != "linux" or (os.cpu_count() or 1) < 2:
        yield None
        return
    count = 1 if any(_size(path) > _LARGE for path in paths) else _PROCESSES
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(count, context, initializer=_leave_interrupts_to_the_parent)
    try:
        pool.submit(int).result()  # starts them
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):
        return 0


def read(path: Path, needs: Needs) -> Material | str:
    """The prepared material of a file, or what is wrong with the file."""
    found = read_material(path, needs.grid)
    return found if isinstance(found, str) else prepare(found, needs)


def read_ahead(
    paths: Sequence[Path], size: int, needs: Needs, pool: Executor | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Sequence[Path], list[Material | str]]]:
    """Batches of paths, and of each its material or what is wrong with it.

    The next batches are read while one is predicted, each file by itself.

    Args:
        size: of a batch.
        pool: of `processes`; None for a thread.
        meanwhile: called while the first are read.
    """
    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    depth = max(1, _AHEAD // (size * needs.grid**3 * 4))  # batches, of float32
    own = ThreadPoolExecutor(1, "read") if pool is None else None
    executor = own or pool

    try:
        waiting = collections.deque(
            _submitted(executor, batch, needs) for batch in batches[: depth + 1]
        )
        meanwhile()
        for place, batch in enumerate(batches):
            results = zip(waiting.popleft(), batch, strict=True)
            yield batch, [_result(future, path, needs) for future, path in results]
            if place + 1 + depth < len(batches):
                waiting.append(_submitted(executor, batches[place + 1 + depth], needs))
    finally:
        if own is not None:
            own.shutdown(cancel_futures=True)


def _submitted(executor: Executor, paths: Sequence[Path], needs: Needs) -> list[Future | None]:
    try:
        return [executor.submit(read, path, needs) for path in paths]
    except BrokenProcessPool:
        return [None] * len(paths)


def _result(future: Future | None, path: Path, needs: Needs) -> Material | str:
    """What was read; what a process that was killed has not read is read here."""
    with contextlib.suppress(BrokenProcessPool):
        if future is not None:
            return future.result()
    return read(path, needs)
