"""Density files read ahead of their prediction, with what is computed of each alone."""

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from densityjax.config import completed
from densityjax.features.descriptors import descriptor_sizes
from densityjax.prediction.materials import Material, Needs, prepare, read_material
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import UserError

MANY = 30  # files; for fewer, compilation and processes take longer than what they save
_AHEAD = 2**25  # bytes of densities on the grid of the model that wait to be predicted
_LARGE = 2**26  # bytes of a file, whose density on its own grid may take gigabytes
_PROCESSES = 2
_TOGETHER = 8  # files of a process's answer: for one each, the answers took twice the time


def read(path: Path, needs: Needs) -> Material | str:
    """The prepared material of a file, or what is wrong with the file."""
    found = read_material(path, needs.grid)
    return found if isinstance(found, str) else prepare(found, needs)


class Reader:
    """Reads files in order, some ahead of those that are asked for.

    Args:
        needs: of the model.
        executor: what reads them.
        together: files that a call of the executor reads.
    """

    def __init__(
        self, paths: Sequence[Path], needs: Needs, executor: Executor, together: int = 1
    ):
        self._needs, self._executor, self._together = needs, executor, together
        self._rest = iter(paths)
        self._waiting: collections.deque[tuple[list[Path], Future | None]] = collections.deque()
        self._ahead = max(1, _files_ahead(needs) // together)  # calls
        self._fill()
        self._found = self._each()

    def take(self, count: int) -> list[tuple[Path, Material | str]]:
        """The next files, and of each its material or what is wrong with it; [] at the end."""
        return list(itertools.islice(self._found, count))

    def _each(self) -> Iterator[tuple[Path, Material | str]]:
        while self._waiting:
            paths, future = self._waiting.popleft()
            found = self._result(paths, future)
            self._fill()
            yield from zip(paths, found, strict=True)

    def _fill(self) -> None:
        while len(self._waiting) < self._ahead and (
            paths := list(itertools.islice(self._rest, self._together))
        ):
            future = None
            with contextlib.suppress(BrokenProcessPool):
                future = self._executor.submit(_read_all, paths, self._needs)
            self._waiting.append((paths, future))

    def _result(self, paths: list[Path], future: Future | None) -> list[Material | str]:
        """What was read; what a process that was killed has not read is read here."""
        with contextlib.suppress(BrokenProcessPool):
            if future is not None:
                return future.result()
        return _read_all(paths, self._needs)


def _files_ahead(needs: Needs) -> int:
    return _AHEAD // (needs.grid**3 * 4)  # of float32


def _read_all(paths: Sequence[Path], needs: Needs) -> list[Material | str]:
    return [read(path, needs) for path in paths]


@contextlib.contextmanager
def in_thread(paths: Sequence[Path], needs: Needs) -> Iterator[Reader]:
    """A reader that reads file by file: densities on their own grids may take gigabytes."""
    pool = ThreadPoolExecutor(1, "read")
    try:
        yield Reader(paths, needs, pool)
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def in_processes(paths: Sequence[Path], folder: Path) -> Iterator[Reader | None]:
    """A reader in processes that are forked now; None where it cannot be had.

    Two thirds of the work of a prediction are on its file alone, in small steps that hold Python's
    lock. JAX must not have been asked for anything, for its threads do not survive a fork. So the
    processes start first, and read while JAX is imported and compiles. Of large files one is read
    at a time.

    Args:
        folder: of the model.
    """
    needs = needs_of_run(RunDirectory(folder))
    if needs is None or sys.platform != "linux" or (os.cpu_count() or 1) < 2:
        yield None
        return
    large = any(_size(path) > _LARGE for path in paths)
    count = 1 if large else _PROCESSES
    # Of large grids fewer files, so that every process has its next call waiting.
    most = _files_ahead(needs) // (2 * _PROCESSES)
    together = 1 if large else max(1, min(_TOGETHER, most))
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(count, context, initializer=_serve)
    try:
        yield Reader(paths, needs, pool, together)
    finally:
        pool.shutdown(cancel_futures=True)


def needs_of_run(run: RunDirectory) -> Needs | None:
    """What the models of a run see, read without JAX; None where the run is damaged.

    Whoever opens the run then says what is wrong with it.
    """
    try:
        model = run.members()[0].groups()[0]
        config = completed(model.read_config())
        with np.load(model.applicability) as content:
            grid = int(content["grid"])
        sizes = descriptor_sizes(config.input).values()
        return Needs(grid, config.input.core, any(sizes) or bool(config.stack.learners))
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _serve() -> None:
    """Interrupts are the parent's; it has the first claim to a core, for all wait for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):
        return 0
