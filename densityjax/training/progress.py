"""How far a run is, for the person who waits."""

import logging
import sys
import time

from tqdm import tqdm

from densityjax.runtime import distributed

log = logging.getLogger("densityjax")


class Progress:
    """A bar with ETA on a terminal, a plain line now and then elsewhere."""

    def __init__(self, num_steps: int, done: int, steps_per_epoch: int):
        self._bar = (
            tqdm(total=num_steps, initial=done, unit="step", dynamic_ncols=True)
            if sys.stderr.isatty() and distributed.is_writer()
            else None
        )
        self._num_steps, self._done, self._first = num_steps, done, done
        self._steps_per_epoch, self._started = steps_per_epoch, time.monotonic()
        self._facts: dict[str, float] = {}

    def advance(self) -> None:
        """Counts one step."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def note(self, **facts: float) -> None:
        """Shows values beside the bar, or with the next line."""
        self._facts |= facts
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in self._facts.items()})

    def line(self) -> None:
        """Prints a plain line, without a terminal; of several processes, one does."""
        if self._bar is not None or not distributed.is_writer():
            return
        taken = time.monotonic() - self._started
        left = taken / max(self._done - self._first, 1) * (self._num_steps - self._done)
        facts = ", ".join(f"{name} {value:.3f}" for name, value in self._facts.items())
        log.info(
            "epoch %d of %d, step %d of %d: %s; %.0f s left",
            self._done // self._steps_per_epoch, self._num_steps // self._steps_per_epoch,
            self._done, self._num_steps, facts, left,
        )

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
