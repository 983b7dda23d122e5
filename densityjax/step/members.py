"""Predictions of several states of one task, which see the same views."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from densityjax.step import parallel, steps
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState

PyTree = Any


class PredictMembers:
    """What M states say of the evaluation views, over all devices.

    A call `(members, batch [D, b, ...])` gives ({target: [D, b, M, V, width]}, embedding
    [D, b, M, E], the views' mean) on the host. The batch is that of `steps.predict_step`, but for
    descriptors [D, b, M, D'], for each state its own.

    One program makes a view, which M states then see, and another asks a state. A single one would
    loop over views and states, and takes XLA's CPU compiler twice as long.

    Args:
        task: of all states.
        num_views: evaluation views.
        quick: for few calls, which are over before programs that run fast are compiled.
        at_once: all states in one call, which takes M times the memory, instead of in turn.
    """

    def __init__(self, task: Task, num_views: int, quick: bool, at_once: bool):
        self._num_views, self._at_once = num_views, at_once
        self._see = parallel.map_prediction(
            functools.partial(steps.see_view, task=task), (0, 0, None), quick
        )
        answer = functools.partial(steps.apply_model, task)
        if at_once:  # parameters, statistics and descriptors are of each state, the view of all
            answer = jax.vmap(answer, (0, 0, None, None, None, 1), 1)
        self._answer = parallel.map_prediction(answer, (None, None, 0, 0, 0, 0), quick)

    def place(self, states: Sequence[TrainState]) -> list[PyTree]:
        """States on every device, as a call takes them."""
        members = [(state.ema_params, state.statistics) for state in states]
        if self._at_once:
            members = [jax.tree.map(lambda *leaves: np.stack([*map(np.asarray, leaves)]), *members)]
        return parallel.replicate(members)

    def __call__(
        self, members: Sequence[PyTree], batch: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        placed, descriptors = parallel.spread((batch, self._own(batch["descriptors"])))
        said = []
        for view in range(self._num_views):
            field, lattice = self._see(placed["density"], placed["lattice"], np.int32(view))
            said.append([
                self._answer(*member, field, lattice, placed["num_electrons"], own)
                for member, own in zip(members, descriptors, strict=True)
            ])
        views = [self._joined(jax.tree.map(np.asarray, of_view)) for of_view in said]
        outputs, embedding = jax.tree.map(lambda *leaves: np.stack(leaves, axis=3), *views)
        return outputs, embedding.mean(axis=3)

    def compile(self, members: Sequence[PyTree], batch: dict[str, jax.ShapeDtypeStruct]) -> None:
        """Compiles for these shapes, so that a call with them does not."""
        placed = parallel.spread_shapes(batch)
        to_see = placed["density"], placed["lattice"], jax.ShapeDtypeStruct((), np.int32)
        self._see.compile(*to_see)
        seen = jax.eval_shape(self._see, *to_see)
        own = jax.eval_shape(self._own, batch["descriptors"])[0]
        (field, lattice), own = parallel.spread_shapes((seen, own))
        self._answer.compile(*members[0], field, lattice, placed["num_electrons"], own)

    def _own(self, descriptors: np.ndarray) -> list[np.ndarray]:
        """[D, b, M, D'] as the calls of a view take them."""
        if self._at_once:
            return [descriptors]
        return [descriptors[:, :, member] for member in range(descriptors.shape[2])]

    def _joined(self, of_view: list[PyTree]) -> PyTree:
        """Leaves [D, b, M, ...] of what the calls of a view gave."""
        if self._at_once:
            return of_view[0]
        return jax.tree.map(lambda *leaves: np.stack(leaves, axis=2), *of_view)


@functools.lru_cache(maxsize=64)
def _members_program(task: Task, num_views: int, quick: bool, at_once: bool) -> PredictMembers:
    return PredictMembers(task, num_views, quick, at_once)


def members_program(
    task: Task, num_views: int, quick: bool = False, at_once: bool = False
) -> PredictMembers:
    """`PredictMembers`, the same object for runs that differ in data and seed alone."""
    return _members_program(parallel.without_optimizer(task), num_views, quick, at_once)
