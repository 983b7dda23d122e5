"""Where a run stands after a batch: beside its state, all that a resumed run needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

# Metrics of one step, by the number of its batch.
LoggedStep = tuple[int, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Position:
    """Where a run stands; the checkpoint of the step holds it as JSON.

    Attributes:
        step: the last batch, whether it made an update or was skipped.
        best_loss, best_step: of the best state so far, by the loss of the validation fold.
        waited: evaluations since then.
        seconds: of the loop up to the last save, in all parts of the run.
        evaluation_seconds, compile_seconds: of `seconds`.
        evaluated: whether the evaluation that was due after this step has been made.
        window: steps whose metrics have not been written yet.
        skipped: batches that made no update, as their loss or gradient was not finite.
        skipped_in_a_row: of them, the last ones without an update in between.
        best_evaluations: (loss, step) of the best ones, the best first, and one more than
          config.ensemble.epochs; empty where that is 1.
    """

    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    waited: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    compile_seconds: float = 0.0
    evaluated: bool = True
    window: tuple[LoggedStep, ...] = ()
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_evaluations: tuple[tuple[float, int], ...] = ()

    def rank(self, loss: float, num_best: int) -> tuple[tuple[float, int], ...]:
        """`best_evaluations` with that of this step.

        One more is kept than is used: a run that goes on from the checkpoint before this
        evaluation then still has all that were the best there.
        """
        if num_best == 1:
            return ()
        return tuple(sorted([*self.best_evaluations, (loss, self.step)])[: num_best + 1])

    def to_json(self) -> dict[str, Any]:
        """JSON values; a metric of `window` is its value and its type, so that no bit is lost."""
        window = [
            [step, {name: [np.asarray(v).tolist(), str(np.asarray(v).dtype)]
                    for name, v in metrics.items()}]
            for step, metrics in self.window
        ]
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not self.best_evaluations:
            fields.pop("best_evaluations")
        return fields | {"window": window}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Position":
        """Inverse of `to_json`."""
        window = tuple(
            (step, {name: np.asarray(value, kind) for name, (value, kind) in metrics.items()})
            for step, metrics in content["window"]
        )
        best = tuple((loss, step) for loss, step in content.get("best_evaluations", ()))
        return cls(**{**content, "window": window, "best_evaluations": best})
