"""Best and latest training state on disk."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from densityjax.train_state import TrainState


class Checkpoints:
    """Two Orbax managers under `workdir/checkpoints`: the latest state, and the best so far."""

    def __init__(self, workdir: Path, read_only: bool = False):
        root = (workdir / "checkpoints").absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else 1, create=not read_only, read_only=read_only
        )
        self._latest = ocp.CheckpointManager(root / "latest", options=options)
        self._best = ocp.CheckpointManager(root / "best", options=options)

    def save(self, state: TrainState, step: int, position: dict[str, Any], best: bool) -> None:
        """Starts writing; the buffers may be donated once this returns.

        Args:
            position: JSON values that belong to the step (best loss so far, evaluations waited).
            best: write it as the best state, too.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position)
        )
        if best:
            self._best.save(step, args=items)
            # On disk before a latest state that names it: a kill between the two loses nothing.
            self._best.wait_until_finished()
        self._latest.save(step, args=items)

    def restore_latest(self, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The latest state and its position, or None if nothing was saved."""
        return _restore(self._latest, template)

    def restore_best(self, template: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The best state and its position, or None if nothing was saved."""
        return _restore(self._best, template)

    def wait(self) -> None:
        """Returns once everything is on disk."""
        self._best.wait_until_finished()
        self._latest.wait_until_finished()

    def close(self) -> None:
        """Waits for writes and releases the managers' threads."""
        self.wait()
        self._best.close()
        self._latest.close()


def _restore(
    manager: ocp.CheckpointManager, template: TrainState
) -> tuple[TrainState, dict[str, Any]] | None:
    step = manager.latest_step()
    if step is None:
        return None
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    restored = manager.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore()
        ),
    )
    return restored["state"], restored["position"]
