"""Word that this machine is about to be taken away, and the status that a run ends with then."""

import contextlib
import logging
import os
import select
import signal
import threading
from collections.abc import Iterator
from typing import Protocol

from densityjax.runtime import distributed

log = logging.getLogger("densityjax")

# EX_TEMPFAIL of sysexits.h: the same command, run again, goes on. Job scripts requeue on it.
EXIT_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A signal always ends a run: if saving hangs (a dead file system, say), without it after so long.
_END_SECONDS = 300.0


class Preempted(SystemExit):
    """The run has saved what it had and ends; rerunning it resumes.

    A SystemExit, so that no `except Exception` keeps the process and its status is right in every
    command that trains.
    """

    def __init__(self) -> None:
        super().__init__(EXIT_STATUS)


class Watch(Protocol):
    """What a run asks whether its machine is about to be taken away."""

    def reached(self, step: int) -> bool:
        """Whether to save after batch `step` and end; every process gets the same answer."""

    def has_read(self) -> None:
        """To be told that the next batch is there."""

    def saving(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, `reached` and `requested` tell, and no exception comes by itself."""

    def requested(self) -> bool:
        """Whether to leave off work that can be done again, such as an evaluation."""


class NoWatch:
    """A `Watch` that hears nothing: of a thread other than the main one, which gets no signals."""

    def reached(self, step: int) -> bool:
        """See `Watch`."""
        return False

    def has_read(self) -> None:
        """See `Watch`."""

    def saving(self) -> contextlib.AbstractContextManager[None]:
        """See `Watch`."""
        return contextlib.nullcontext()

    def requested(self) -> bool:
        """See `Watch`."""
        return False


class Signals:
    """SIGTERM and SIGINT of one process; the second signal ends it at once."""

    def __init__(self) -> None:
        self._requested, self._saving = False, False

    def reached(self, step: int) -> bool:
        """See `Watch`."""
        return self._requested

    def has_read(self) -> None:
        """See `Watch`."""

    def requested(self) -> bool:
        """See `Watch`."""
        return self._requested

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """See `Watch`; outside of it there is nothing to save, and a signal raises `Preempted`."""
        self._saving = True
        try:
            if self._requested:
                raise Preempted
            yield
        finally:
            self._saving = False

    def handle(self, number: int, frame: object) -> None:
        """The Python part of the handler, run by the main thread between two operations."""
        if not self._requested:
            name = signal.Signals(number).name
            log.warning("%s: saving and ending; a second signal ends at once", name)
        self._requested = True
        if not self._saving:
            raise Preempted


class SyncPoint:
    """One of several processes: JAX's own service takes SIGTERM, and all end after the same batch.

    A second SIGTERM changes nothing. Being asked is what the watchdog takes for progress.
    """

    def __init__(self, watchdog_seconds: float) -> None:
        self._seconds, self._ending = watchdog_seconds, False
        self._step, self._evaluated = 0, 0
        self._watchdog: distributed.Watchdog | None = None

    def reached(self, step: int) -> bool:
        """See `Watch`."""
        self._step, self._evaluated = step, 0
        return self._ask(f"batch {step}")

    def requested(self) -> bool:
        """See `Watch`; all processes leave off at the same batch."""
        place = f"batch {self._step} and {self._evaluated} of an evaluation"
        self._evaluated += 1
        return self._ask(place)

    def has_read(self) -> None:
        """See `Watch`."""
        if self._watchdog is not None:
            self._watchdog.has_read()

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """See `Watch`; the watchdog watches while it lasts."""
        self._watchdog = distributed.Watchdog(self._seconds)
        try:
            yield
        finally:
            self._watchdog.close()

    def _ask(self, place: str) -> bool:
        if self._watchdog is not None:
            self._watchdog.beat(place)
        self._ending = self._ending or distributed.preemption_reached()
        return self._ending


@contextlib.contextmanager
def watch(watchdog_seconds: float = 0.0) -> Iterator[Watch]:
    """Listens for preemption while it lasts and puts the handlers of before back.

    Args:
        watchdog_seconds: of several processes, see `distributed.Watchdog`.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if distributed.several():
        before = signal.signal(signal.SIGINT, _as_sigterm) if in_main_thread else None
        try:
            yield SyncPoint(watchdog_seconds)
        finally:
            if in_main_thread:
                signal.signal(signal.SIGINT, before)
        return
    if not in_main_thread:
        yield NoWatch()
        return
    signals = Signals()
    # Python runs handlers in the main thread, which a compiler may hold for a minute. The bytes
    # that the interpreter's C handler writes reach this thread at once.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def end_if_it_must() -> None:
        seen = 0
        while True:
            ready, _, _ = select.select([reader], [], [], _END_SECONDS if seen else None)
            if not ready:  # whatever the main thread waits for, it does not come
                log.error("No end for %.0f s: ending without saving; the same command resumes "
                          "from the last checkpoint", _END_SECONDS)
                os._exit(EXIT_STATUS)
            byte = os.read(reader, 1)
            if not byte:
                break
            seen += byte[0] in _SIGNALS
            if seen == 2:
                os._exit(128 + byte[0])
        os.close(reader)

    threading.Thread(target=end_if_it_must, name="preemption", daemon=True).start()
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, signals.handle) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)


def _as_sigterm(number: int, frame: object) -> None:
    """Passes the first on to JAX's service, which takes SIGTERM alone; the second ends at once."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
