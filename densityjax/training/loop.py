"""The training loop: steps, evaluations and saves, in an order that no kill changes."""

import dataclasses
import json
import logging
import time
from typing import Any

import jax

from densityjax.data.batches import iterate_batches
from densityjax.runtime import distributed, environment
from densityjax.runtime.preemption import NoWatch, Preempted, Watch
from densityjax.step import parallel
from densityjax.step.train_state import TrainState
from densityjax.training.checkpoint import Checkpoints, digests
from densityjax.training.errors import RunError
from densityjax.training.facts import read_facts
from densityjax.training.metric_log import MetricLog
from densityjax.training.position import Position
from densityjax.training.progress import Progress
from densityjax.training.setup import PreparedRun
from densityjax.training.step_log import TooManySkipped, Window, log_evaluation
from densityjax.training.validation import validation_of

log = logging.getLogger("densityjax")


def train(
    run: PreparedRun, state: TrainState, checkpoints: Checkpoints, watch: Watch | None = None
) -> TrainState:
    """Goes on after the latest checkpoint to the end; `checkpoints` then has all states.

    The loop counts batches: position `step` is the number of the last one, whether it made an
    update or was skipped, so order of data, epochs and the end of the run do not depend on skipped
    batches. `state.step`, which the schedule, the averages and the random views follow, counts
    updates alone. Both are in the checkpoint, and all that a resumed run needs.

    Args:
        state: before the first step.
        watch: asked after each batch whether to save and end.

    Raises:
        RunError: the loss is not finite time after time.
        CheckpointError: a checkpoint cannot be written or read.
        Preempted: the run has been saved.
    """
    state, position = parallel.replicate(state), Position()
    restored = checkpoints.restore_latest(state)
    if restored is not None:
        state, position = restored.state, Position.from_json(restored.position)
        log.info("Resuming %s after step %d", run.workdir, position.step)
    if distributed.several():  # storage may show one process an older checkpoint than another
        distributed.check_equal("state", json.dumps([position.step, digests(state)], indent=1))
    earlier = read_facts(run.workdir)
    if "finished" in earlier and _is_over(run, position):
        run.facts.restore(earlier)
        return state
    run.facts.begin_part(position.step, earlier)
    return Loop(run, state, position, checkpoints, watch or NoWatch()).run()


def _is_over(run: PreparedRun, position: Position) -> bool:
    patience = run.config.train.early_stop_evaluations
    return position.step == run.source.num_steps or 0 < patience <= position.waited


class Loop:
    """A run in training.

    Attributes:
        state: after the batch of `position`, on all devices; a step donates its buffers.
        position: where the run stands; its times and window are those of the last save.
    """

    def __init__(
        self, run: PreparedRun, state: TrainState, position: Position, checkpoints: Checkpoints,
        watch: Watch,
    ):
        """Starts reading batches, and waits for the step that compiles in another thread."""
        self._created = time.monotonic()
        self._started = self._created - position.seconds
        self.state, self.position = state, position
        self._run, self._config, self._facts = run, run.config.train, run.facts
        self._checkpoints, self._watch = checkpoints, watch
        self._first, self._saved = position.step + 1, position.step
        self._validate = validation_of(run)
        self._metric_log = MetricLog(run.workdir, position.step, position.evaluated)
        self._progress = Progress(
            run.source.num_steps, position.step, run.source.steps_per_epoch
        )
        self._window = Window(run, self._metric_log, self._progress, position)
        self._batches = parallel.place_ahead(
            iterate_batches(run.source, position.step, self._config.num_threads),
            self._config.accumulation_steps,
        )
        self._facts.write()
        if run.compiling is not None:
            self._facts.note_seconds(compile_ahead=run.compiling.result())

    def run(self) -> TrainState:
        """Trains to the end and returns the last state; raises as `train`."""
        try:
            with self._watch.saving():
                while True:
                    if not self.position.evaluated:
                        self.evaluate()
                    ending = self._watch.reached(self.position.step)
                    if ending or self._is_save_due():
                        self.save_once()
                    if ending:
                        self._leave()
                    if _is_over(self._run, self.position):
                        break
                    self.step()
        except TooManySkipped as error:
            # No skipped batch changed the state, so it is good; a restart may try as many again.
            self.save(skipped_in_a_row=0)
            self._checkpoints.wait()
            raise RunError(str(error)) from None
        finally:
            self._progress.close()
            self._metric_log.close()
        self._checkpoints.wait()
        self._note_facts()
        return self.state

    def step(self) -> None:
        """Takes the next batch. Raises TooManySkipped, of earlier ones."""
        batch = next(self._batches)
        self._watch.has_read()
        self.state, metrics = self._run.train_step(self.state, batch)
        step = self.position.step + 1
        self._change(step=step, evaluated=not self._is_evaluation_due(step))
        if step == self._first:  # the call returns once it has been compiled
            seconds = time.monotonic() - self._created
            self._change(compile_seconds=self.position.compile_seconds + seconds)
        self._window.add(step, metrics)
        if step == self._first:
            jax.block_until_ready(metrics)
            self._facts.note_seconds(first_step=environment.seconds_since_start())
            self._facts.write()

    def evaluate(self) -> None:
        """Evaluates on the validation fold and saves, unless the watch has it left off."""
        self._window.flush()
        run, before, paused = self._run, self.position, time.monotonic()
        found = self._validate(self.state, self._watch.requested)
        if found is None:
            return
        loss = found.loss
        log_evaluation(run, self._metric_log, self._progress, before.step, found)
        better = loss < before.best_loss
        best_evaluations = before.rank(loss, run.config.ensemble.epochs)
        self.save(
            best=better or before.step in (step for _, step in best_evaluations),
            best_evaluations=best_evaluations,
            best_loss=loss if better else before.best_loss,
            best_step=before.step if better else before.best_step,
            waited=0 if better else before.waited + 1,
            evaluation_seconds=before.evaluation_seconds + time.monotonic() - paused,
            evaluated=True,
        )

    def save(self, best: bool = False, **changes: Any) -> None:
        """Starts writing a checkpoint. Raises TooManySkipped, of steps before.

        Args:
            best: write it as one of the best states, too.
            changes: of the position; they win over what is found.
        """
        found = {"seconds": time.monotonic() - self._started} | self._window.unwritten()
        self._change(**found | changes)
        self._checkpoints.save(
            parallel.to_global(self.state), self.position.step, self.position.to_json(), best,
            [step for _, step in self.position.best_evaluations],
        )
        self._saved = self.position.step

    def save_once(self) -> None:
        """Saves, unless this step has been."""
        if self._saved != self.position.step:
            self.save()

    def _change(self, **changes: Any) -> None:
        self.position = dataclasses.replace(self.position, **changes)

    def _is_evaluation_due(self, step: int) -> bool:
        epoch, rest = divmod(step, self._run.source.steps_per_epoch)
        due = rest == 0 and epoch % self._config.evaluate_every_epochs == 0
        return due or step == self._run.source.num_steps

    def _is_save_due(self) -> bool:
        every = self._config.checkpoint_every_steps
        return every > 0 and self.position.step % every == 0

    def _leave(self) -> None:
        self._checkpoints.wait()
        log.warning(
            "Saved after step %d; the same command goes on from there", self.position.step
        )
        raise Preempted

    def _note_facts(self) -> None:
        position = self.position
        self._facts.note(steps=position.step, skipped_steps=position.skipped)
        self._facts.note_seconds(
            train=position.seconds, validate=position.evaluation_seconds,
            compile=position.compile_seconds,
        )
        stepping = position.seconds - position.evaluation_seconds - position.compile_seconds
        per_epoch = stepping * self._run.source.steps_per_epoch / position.step
        self._facts.note(seconds_per_epoch=round(per_epoch, 2))
