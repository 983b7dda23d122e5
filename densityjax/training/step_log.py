"""What the loop writes to the metric log: averages over training steps, and evaluations."""

import logging
from typing import Any

import jax
import numpy as np

from densityjax.step.optimizer import create_schedule
from densityjax.training.errors import RunError
from densityjax.training.metric_log import MetricLog
from densityjax.training.position import LoggedStep, Position
from densityjax.training.progress import Progress
from densityjax.training.setup import PreparedRun
from densityjax.training.validation import Validation

log = logging.getLogger("densityjax")


class TooManySkipped(RunError):
    """The loss or gradient of so many batches in a row was not finite."""


class Window:
    """Collects step metrics on the device and writes their averages some steps later.

    Reading a value of the step just started would make the host wait for it; by the time a window
    is written the next one has been queued. Skipped batches are noticed then, too.
    """

    def __init__(
        self, run: PreparedRun, metric_log: MetricLog, progress: Progress, position: Position
    ):
        """Goes on with what another window had not written at `position`."""
        self._run, self._log, self._progress = run, metric_log, progress
        self._schedule = create_schedule(run.config.optimizer, run.source.num_steps)
        self._current: list[LoggedStep] = list(position.window)
        self._previous: list[LoggedStep] = []
        self._skipped, self._in_a_row = position.skipped, position.skipped_in_a_row
        self._checked, self._stopping = position.step, False

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Notes one step.

        Raises:
            TooManySkipped: of the steps up to now.
        """
        self._current.append((step, metrics))
        self._progress.advance()
        if len(self._current) == self._run.config.train.log_every_steps:
            previous, self._previous, self._current = self._previous, self._current, []
            self._write(previous)

    def flush(self) -> None:
        """Writes everything noted; waits for the device. Raises as `add`."""
        windows, self._previous, self._current = (self._previous, self._current), [], []
        for window in windows:
            self._write(window)

    def unwritten(self) -> dict[str, Any]:
        """Fields of a `Position` from which another window goes on with the same lines.

        Waits for the device. Raises as `add`.
        """
        previous, self._previous = self._previous, []
        self._write(previous)
        self._current = self._fetch(self._current)
        return {
            "window": tuple(self._current), "skipped": self._skipped,
            "skipped_in_a_row": self._in_a_row,
        }

    def _fetch(self, window: list[LoggedStep]) -> list[LoggedStep]:
        """The same on the host, with skipped batches reported."""
        values = jax.device_get([metrics for _, metrics in window])
        fetched = [(step, value) for (step, _), value in zip(window, values)]
        for step, value in fetched:
            if step <= self._checked:
                continue
            self._checked = step
            self._in_a_row = self._in_a_row + 1 if value["skipped"] else 0
            if value["skipped"]:
                self._skipped += 1
                self._report(step, value)
        return fetched

    def _report(self, step: int, value: dict[str, np.ndarray]) -> None:
        what = f"(loss {value['loss']}, gradient norm {value['grad_norm']})"
        batch, records = self._run.source[step - 1], self._run.splits["train"]
        used = batch["index"][batch["mask"].any(1)]
        ids = ", ".join(records.material_id[np.isin(records.index, used)])
        log.warning("Not finite at step %d %s: update skipped; the batch: %s", step, what, ids)
        limit = self._run.config.train.max_skipped_steps
        if self._in_a_row >= limit and not self._stopping:
            self._stopping = True  # what is noted until then is still to be saved
            raise TooManySkipped(
                f"the training loss is not finite at step {step} {what}, and {limit} batches in a "
                f"row (config.train.max_skipped_steps) were skipped; the last good state stays in "
                f"{self._run.workdir}: look for labels or densities out of range in the batches "
                "named above, or lower config.optimizer.learning_rate, in another --workdir or "
                "with --allow-config-change"
            )

    def _write(self, window: list[tuple[int, dict]]) -> None:
        if not window:
            return
        values = [value for _, value in self._fetch(window) if not value["skipped"]]
        if not values:
            return  # the log says so
        step = window[-1][0]
        sums, counts = (sum(v[k] for v in values) for k in ("target_sum", "target_count"))
        scalars = {
            "loss": float(np.mean([v["loss"] for v in values])),
            "learning_rate": float(self._schedule(max(step - self._skipped - 1, 0))),
            "grad_norm": float(np.mean([v["grad_norm"] for v in values])),
            "skipped_steps": self._skipped,
        }
        for spec, total, count in zip(self._run.task.columns, sums, counts):
            scalars[f"loss/{spec.name}"] = float(total / count) if count else None
        epoch = step / self._run.source.steps_per_epoch
        self._log.write(step, epoch, "train", scalars)
        self._progress.note(loss=scalars["loss"])


def log_evaluation(
    run: PreparedRun, metric_log: MetricLog, progress: Progress, step: int, found: Validation
) -> None:
    """Writes and shows what the validation fold says of the state after a step."""
    scalars = {"loss": found.loss} | found.scalars
    metric_log.write(step, step / run.source.steps_per_epoch, "validation", scalars)
    progress.note(**{"validation loss": found.loss} | found.shown)
    progress.line()
