"""Best and latest training states on disk, verified when they are read.

Written by Orbax, asynchronously and atomically: a step's directory gets its name once everything is
in it. Restoring reads arrays (tensorstore) and JSON; nothing in a checkpoint is ever executed.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import distributed
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_text
from densityjax.step.train_state import TrainState

log = logging.getLogger("densityjax")

# With two, a damaged one leaves the one before, and a best state that came after it another.
_KEPT = 2
# The newest position of a step whose state was there before, as after an evaluation made again.
_POSITION = "position.json"
# Of several processes, the longest wait for the others' part of a write.
_WRITE_SECONDS = 300


class CheckpointError(UserError):
    """A checkpoint cannot be written or read, or is of another run; the message says what to do."""


class RestoredState(NamedTuple):
    """A state with the JSON values that belong to it."""

    state: TrainState
    position: dict[str, Any]


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """No: Orbax would ask JAX's service with numbers of its own, see `distributed`."""
        return False


class Checkpoints:
    """Two Orbax managers under `workdir/checkpoints`: the latest states, and the best so far."""

    def __init__(
        self, workdir: Path, read_only: bool = False, identity: Mapping[str, Any] | None = None,
        may_differ: Sequence[str] = (), num_best: int = 1,
    ):
        """Opens the directory and removes what a killed run had half written.

        Args:
            num_best: best states that are asked for; of one, the one before it stays, too.
            identity: JSON values under dotted keys that say what is trained on what. They are
              stored with every state, and a state with others is refused; None accepts any.
            may_differ: beginnings of keys of `identity` that are not compared.
        """
        self._root = RunDirectory(workdir).checkpoints.absolute()
        self._identity, self._may_differ = identity, tuple(may_differ)
        self._failed = False
        self._read_only = read_only
        if distributed.several():
            # One process writes. Orbax would have each write a slice, so that one without the
            # rights or the room fails all.
            ocp.type_handlers.register_type_handler(
                jax.Array, ocp.type_handlers.ArrayHandler(use_replica_parallel=False), override=True
            )
        self._num_best = num_best
        self._latest, self._best = self._manager("latest"), self._manager("best")

    def _manager(self, role: str, alone: bool = False) -> ocp.CheckpointManager:
        """For all processes together, or, to read, for this one alone, which waits for none."""
        writes, host = not (self._read_only or alone), jax.process_index()
        counts = writes and (role == "latest" or self._num_best == 1)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT if counts else None, create=writes, read_only=self._read_only,
            cleanup_tmp_directories=writes,
            async_options=ocp.AsyncOptions(timeout_secs=_WRITE_SECONDS),
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=host, active_processes={host}, barrier_sync_key_prefix=f"{role}{host}"
            )
            if alone
            else ocp.options.MultiprocessingOptions(),
        )
        return _Manager(self._root / role, options=options)

    def save(
        self, state: TrainState, step: int, position: dict[str, Any], best: bool,
        best_steps: Sequence[int] = (),
    ) -> None:
        """Starts writing; the buffers may be donated once this returns.

        Args:
            state: placed in whatever way, as long as this process can read it whole.
            position: JSON values that belong to the step (best loss so far, evaluations waited).
            best: write it as one of the best states, too.
            best_steps: of the best states that stay, where several are asked for.

        Raises:
            CheckpointError: this state or the one before cannot be written, a full disk for one.
        """
        manifest = {"identity": dict(self._identity or {}), "digests": digests(state)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            position=ocp.args.JsonSave(position),
            manifest=ocp.args.JsonSave(manifest),
        )
        # Orbax takes no step twice. A step that comes again has the same state.
        if best and step not in self._best.all_steps():
            self._checked(lambda: self._save(self._best, step, items))
            # On disk before a latest state that names it: a kill between the two loses nothing.
            self._checked(self._best.wait_until_finished)
        if step in self._latest.all_steps():
            self._checked(self._latest.wait_until_finished)
            self._checked(lambda: self._write_position(step, position))
        else:
            self._checked(lambda: self._save(self._latest, step, items))
        for other in self._best.all_steps() if best_steps else ():
            if other not in best_steps:
                self._best.delete(other)

    def _save(self, manager: ocp.CheckpointManager, step: int, items: ocp.args.Composite) -> None:
        if not manager.save(step, args=items):
            raise OSError(f"Orbax does not take step {step} after {manager.latest_step()}")

    def _write_position(self, step: int, position: dict[str, Any]) -> None:
        """Of a state that is there already and stays as it is."""
        if distributed.is_writer():
            content = {"step": step, "position": position}
            replace_text(self._root / _POSITION, json.dumps(content))

    def restore_latest(self, template: TrainState) -> RestoredState | None:
        """The latest whole state, or None if nothing was saved.

        A damaged one is reported and moved to `checkpoints/damaged`. Best states from after the
        restored step are removed: they will come again.

        Raises:
            CheckpointError: it is of another run, or none can be read.
        """
        restored = self._restore(self._latest, template)
        if restored is not None:
            restored = RestoredState(restored.state, self._position_of(restored.position))
        if not self._read_only:
            reached = restored.position["step"] if restored is not None else -1
            for step in self._best.all_steps():
                if step > reached:
                    self._best.delete(step)
        return restored

    def _position_of(self, position: dict[str, Any]) -> dict[str, Any]:
        """What was last written for the step of a restored position."""
        try:
            found = json.loads((self._root / _POSITION).read_text())
        except (FileNotFoundError, ValueError):
            return position
        return found["position"] if found["step"] == position["step"] else position

    def restore_best(self, template: TrainState) -> RestoredState | None:
        """The best state, or None if nothing was saved; otherwise as `restore_latest`."""
        return self._restore(self._best, template)

    def restore_bests(self, template: TrainState, count: int) -> list[RestoredState]:
        """The states of the best evaluations, the best first, `count` or fewer; see `restore_best`.

        A damaged one is reported and passed over, as long as another can be read.
        """
        newest = self.restore_best(template)
        if newest is None:
            return []
        steps = [step for _, step in newest.position.get("best_evaluations", ())][:count]
        if count == 1 or not steps:
            return [newest]
        found = []
        with self._reader(self._best) as reader:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
            for step in steps:
                restored, error = self._read(reader, step, abstract)
                if distributed.any_process(error is not None):
                    log.warning(
                        "Damaged checkpoint %s is left out of the average: %s",
                        reader.directory / str(step), _last_line(error),
                    )
                else:
                    found.append(restored)
        return found or [newest]

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

    def _restore(
        self, manager: ocp.CheckpointManager, template: TrainState
    ) -> RestoredState | None:
        with self._reader(manager) as reader:
            return self._newest(manager, reader, template)

    @contextlib.contextmanager
    def _reader(self, manager: ocp.CheckpointManager) -> Iterator[ocp.CheckpointManager]:
        """What reads for this process alone."""
        if not distributed.several():
            yield manager
            return
        with contextlib.closing(self._manager(manager.directory.name, alone=True)) as reader:
            yield reader

    def _newest(
        self, manager: ocp.CheckpointManager, reader: ocp.CheckpointManager, template: TrainState
    ) -> RestoredState | None:
        """The newest that all processes can read."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        damaged: dict[int, Exception | None] = {}
        for step in sorted(manager.all_steps(), reverse=True):
            restored, error = self._read(reader, step, abstract)
            if not distributed.any_process(error is not None):
                # Not before another one can be read: the fault may be of this machine.
                for bad in damaged:
                    self._put_aside(manager, bad)
                return restored
            damaged[step] = error
            log.warning(
                "Damaged checkpoint %s is passed over: %s", manager.directory / str(step),
                _last_line(error),
            )
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {manager.directory} can be read (the newest: "
                f"{_last_line(damaged[max(damaged)])}): if they are damaged, use another "
                "--workdir, or remove this one to start over"
            )
        return None

    def _read(
        self, manager: ocp.CheckpointManager, step: int, abstract: TrainState
    ) -> tuple[RestoredState | None, Exception | None]:
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
        return RestoredState(state, about["position"]), None

    def _check_identity(self, stored: Mapping[str, Any], step: int) -> None:
        if self._identity is None:
            return
        lines = differences(stored, self._identity, self._may_differ)
        if lines:
            raise CheckpointError(
                f"the checkpoint after step {step} in {self._root} is of another run:\n"
                + "\n".join(lines) + "\nuse another --workdir"
            )

    def _put_aside(self, manager: ocp.CheckpointManager, step: int) -> None:
        if self._read_only:
            return
        folder = Path(manager.directory) / str(step)
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


def _last_line(error: Exception | None) -> str:
    """The message without the traceback of another thread that Orbax puts into it."""
    if error is None:
        return "another process cannot read it"
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:500] if lines else type(error).__name__
