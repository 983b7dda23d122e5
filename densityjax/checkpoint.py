"""Best and latest training states on disk, verified when they are read.

Written by Orbax, asynchronously and atomically: a step's directory gets its name once everything is
in it. Restoring reads arrays (tensorstore) and JSON; nothing in a checkpoint is ever executed.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from densityjax import distributed
from densityjax.train_state import TrainState

log = logging.getLogger("densityjax")

# With two, a damaged one leaves the one before, and a best state that came after it another.
_KEPT = 2


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read, or is of another run; the message says what to do."""


class Restored(NamedTuple):
    """A state with the JSON values that belong to it."""

    state: TrainState
    position: dict[str, Any]


class Checkpoints:
    """Two Orbax managers under `workdir/checkpoints`: the latest states, and the best so far."""

    def __init__(
        self, workdir: Path, read_only: bool = False, identity: Mapping[str, Any] | None = None,
        may_differ: Sequence[str] = (),
    ):  # fmt: skip
        """Opens the directory and removes what a killed run had half written.

        Args:
            identity: JSON values under dotted keys that say what is trained on what. They are
              stored with every state, and a state with others is refused; None accepts any.
            may_differ: beginnings of keys of `identity` that are not compared.
        """
        self._root = (workdir / "checkpoints").absolute()
        self._identity, self._may_differ = identity, tuple(may_differ)
        self._failed = False
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else _KEPT, create=not read_only, read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )  # fmt: skip
        self._read_only = read_only
        self._latest = ocp.CheckpointManager(self._root / "latest", options=options)
        self._best = ocp.CheckpointManager(self._root / "best", options=options)

    def save(self, state: TrainState, step: int, position: dict[str, Any], best: bool) -> None:
        """Starts writing; the buffers may be donated once this returns.

        Args:
            state: placed in whatever way, as long as this process can read it whole.
            position: JSON values that belong to the step (best loss so far, evaluations waited).
            best: write it as the best state, too.

        Raises:
            CheckpointError: this state or the one before cannot be written, a full disk for one.
        """
        manifest = {"identity": dict(self._identity or {}), "digests": digests(state)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            position=ocp.args.JsonSave(position),
            manifest=ocp.args.JsonSave(manifest),
        )
        if best:
            self._checked(lambda: self._best.save(step, args=items))
            # On disk before a latest state that names it: a kill between the two loses nothing.
            self._checked(self._best.wait_until_finished)
        # Orbax takes no step twice: where only the position has changed, the state is the same.
        if step in self._latest.all_steps():
            self._checked(self._latest.wait_until_finished)
            self._latest.delete(step)
        self._checked(lambda: self._latest.save(step, args=items))

    def restore_latest(self, template: TrainState) -> Restored | None:
        """The latest whole state, or None if nothing was saved.

        A damaged one is reported and moved to `checkpoints/damaged`. Best states from after the
        restored step are removed: they will come again.

        Raises:
            CheckpointError: it is of another run, or none can be read.
        """
        restored = self._restore(self._latest, template)
        if restored is not None and not self._read_only:
            for step in self._best.all_steps():
                if step > restored.position["step"]:
                    self._best.delete(step)
        return restored

    def restore_best(self, template: TrainState) -> Restored | None:
        """The best state, or None if nothing was saved; otherwise as `restore_latest`."""
        return self._restore(self._best, template)

    def wait(self) -> None:
        """Returns once everything is on disk.

        Raises:
            CheckpointError: it could not be written.
        """
        self._checked(self._best.wait_until_finished)
        self._checked(self._latest.wait_until_finished)

    def close(self) -> None:
        """Waits for writes, unless one has failed, and releases the managers' threads."""
        if self._failed:
            return  # it would fail again, and hide the error that was raised
        self.wait()
        self._best.close()
        self._latest.close()

    def _checked(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:  # Orbax and tensorstore pass on many kinds
            self._failed = True
            steps = sorted(
                int(path.name) for path in (self._root / "latest").glob("*") if path.name.isdigit()
            )
            last = f"the last good one, after step {steps[-1]}, stays" if steps else "there is none"
            raise CheckpointError(
                f"cannot write a checkpoint to {self._root} ({last}): {_last_line(error)}; make "
                "room or mend the disk, and run the same command again"
            ) from error

    def _restore(self, manager: ocp.CheckpointManager, template: TrainState) -> Restored | None:
        steps = sorted(manager.all_steps(), reverse=True)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        for step in steps:
            restored, error = self._read(manager, step, abstract)
            if distributed.any_process(error is not None):
                self._pass_over(manager, step, error)
            else:
                return restored
        if steps:
            raise CheckpointError(
                f"no checkpoint in {manager.directory} can be read: use another --workdir, or "
                "remove this one to start over"
            )
        return None

    def _read(
        self, manager: ocp.CheckpointManager, step: int, abstract: TrainState
    ) -> tuple[Restored | None, Exception | None]:
        """A verified state, or what is wrong with it; raises if it is of another run."""
        try:
            about = manager.restore(
                step,
                args=ocp.args.Composite(
                    position=ocp.args.JsonRestore(), manifest=ocp.args.JsonRestore()
                ),
            )
            identity, expected = about["manifest"]["identity"], about["manifest"]["digests"]
        except Exception as error:  # whatever half a file leads to
            return None, error
        self._check_identity(identity, step)
        try:
            state = manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            )["state"]
            found = digests(state)
            wrong = [name for name in expected if found.get(name) != expected[name]]
            if wrong or found.keys() != expected.keys():
                raise ValueError(f"the digest of {', '.join(wrong) or 'the tree'} is another")
        except Exception as error:  # as above
            return None, error
        return Restored(state, about["position"]), None

    def _check_identity(self, stored: Mapping[str, Any], step: int) -> None:
        if self._identity is None:
            return
        lines = differences(stored, self._identity, self._may_differ)
        if lines:
            raise CheckpointError(
                f"the checkpoint after step {step} in {self._root} is of another run:\n"
                + "\n".join(lines) + "\nuse another --workdir"
            )  # fmt: skip

    def _pass_over(
        self, manager: ocp.CheckpointManager, step: int, error: Exception | None
    ) -> None:
        folder = Path(manager.directory) / str(step)
        reason = _last_line(error) if error is not None else "another process cannot read it"
        log.warning("Damaged checkpoint %s is passed over: %s", folder, reason)
        if self._read_only:
            return
        if distributed.is_writer() and folder.exists():
            place = self._root / "damaged" / f"{folder.parent.name}_{step}"
            while place.exists():
                place = place.with_name(place.name + "_again")
            place.parent.mkdir(exist_ok=True)
            folder.rename(place)
        distributed.barrier("moved")
        manager.reload()


def digests(state: TrainState) -> dict[str, str]:
    """SHA-256 of shape, type and bytes of every array, by its path in the state."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.ascontiguousarray(leaf)
        digest = hashlib.sha256(f"{array.dtype} {np.shape(leaf)}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
        found[jax.tree_util.keystr(path)] = digest.hexdigest()
    return found


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], may_differ: Sequence[str]
) -> list[str]:
    """A line for each key whose values differ, but for keys that begin with one of `may_differ`."""
    return [
        f"  {key}: {old.get(key, 'absent')} there, {new.get(key, 'absent')} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(tuple(may_differ))
    ]


def _last_line(error: Exception) -> str:
    """The message without the traceback of another thread that Orbax puts into it."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:500] if lines else type(error).__name__
