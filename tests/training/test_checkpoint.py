"""States come back as they were saved, also when the buffers have been donated since."""

import dataclasses
import errno
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from densityjax.model.msa3dcnn import MSA3DCNN
from densityjax.step import parallel
from densityjax.step.train_state import TrainState, create_train_state
from densityjax.training.checkpoint import CheckpointError, Checkpoints
from densityjax.training.position import Position


@pytest.fixture
def state() -> TrainState:
    return fresh_state()


def fresh_state() -> TrainState:
    """Of a small model, on all devices."""
    model = MSA3DCNN(targets=(("bulk_modulus", 1),), widths=(4,), blocks=(1,), head_width=4)
    statistics = {
        "field_mean": np.zeros(1), "field_std": np.ones(1), "feature_mean": np.zeros(1),
        "feature_std": np.ones(1), "class_weights": {},
    }
    return parallel.replicate(create_train_state(model, optax.adam(1e-3), statistics, 0, 8))


def test_round_trip_and_placement(state: TrainState, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(state) is None
    assert checkpoints.restore_best(state) is None
    checkpoints.save(state, 3, {"step": 3, "best_loss": 0.1 + 0.2}, best=True)
    later = state.replace(step=state.step + 7)
    checkpoints.save(later, 7, {"step": 7}, best=False)
    checkpoints.close()

    checkpoints = Checkpoints(tmp_path)
    best, position = checkpoints.restore_best(state)
    assert position == {"step": 3, "best_loss": 0.1 + 0.2}
    for saved, restored in zip(jax.tree.leaves(state), jax.tree.leaves(best), strict=True):
        assert np.array_equal(saved, restored)
        assert restored.dtype == saved.dtype
        assert restored.sharding == saved.sharding
    latest, position = checkpoints.restore_latest(state)
    assert position == {"step": 7}
    assert int(latest.step) == 7
    checkpoints.close()


def test_saved_before_donation(state: TrainState, tmp_path: Path):
    """`save` returns before the write is done; what follows may overwrite the buffers."""
    checkpoints = Checkpoints(tmp_path)
    expected = jax.device_get(state.params)
    scramble = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
    template = jax.tree.map(jnp.copy, state)
    checkpoints.save(state, 1, {"step": 1}, best=True)
    jax.block_until_ready(scramble(state))
    restored, _ = checkpoints.restore_latest(template)
    checkpoints.close()
    for before, after in zip(jax.tree.leaves(expected), jax.tree.leaves(restored.params)):
        assert np.array_equal(before, after)


def _two(state: TrainState, workdir: Path) -> None:
    checkpoints = Checkpoints(workdir, identity={"config.model.widths": [4]})
    for step in (3, 7):
        checkpoints.save(state.replace(step=state.step + step), step, {"step": step}, best=False)
    checkpoints.close()


@pytest.mark.parametrize("damage", ["array", "digest", "position", "half"])
def test_a_damaged_latest_is_reported_and_passed_over(
    state: TrainState, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    _two(state, tmp_path)
    folder = tmp_path / "checkpoints" / "latest" / "7"
    if damage == "array":
        data = max((folder / "state").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    elif damage == "digest":
        path = folder / "manifest" / "metadata"
        manifest = json.loads(path.read_text())
        name = next(name for name in manifest["digests"] if "kernel" in name)
        manifest["digests"][name] = "0" * 64
        path.write_text(json.dumps(manifest))
    elif damage == "position":
        (folder / "position" / "metadata").write_text("{")
    else:
        shutil.rmtree(folder / "state")
    checkpoints = Checkpoints(tmp_path)
    restored, position = checkpoints.restore_latest(state)
    assert position == {"step": 3}
    assert int(restored.step) == 3
    assert "latest/7 is passed over" in caplog.text
    assert (tmp_path / "checkpoints" / "damaged" / "latest_7").is_dir()
    checkpoints.save(state, 7, {"step": 7}, best=False)  # the step can be written again
    assert checkpoints.restore_latest(state)[1] == {"step": 7}
    checkpoints.close()


def test_where_none_can_be_read_all_stay(state: TrainState, tmp_path: Path):
    """The fault may be the machine's, and the same command work again later."""
    _two(state, tmp_path)
    positions = [tmp_path / f"checkpoints/latest/{step}/position/metadata" for step in (3, 7)]
    texts = [path.read_text() for path in positions]
    for path in positions:
        path.write_text("{")
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match=r"latest can be read \(the newest: "):
        checkpoints.restore_latest(state)
    checkpoints.close()
    for path, text in zip(positions, texts):
        path.write_text(text)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(state).position == {"step": 7}
    checkpoints.close()


def test_a_step_that_is_saved_again_changes_its_position_alone(state: TrainState, tmp_path: Path):
    """As after an evaluation that was left off: the state on disk is never taken away."""
    _two(state, tmp_path)
    checkpoints = Checkpoints(tmp_path)
    folder = tmp_path / "checkpoints" / "latest" / "7"
    before = folder.stat().st_ino
    checkpoints.save(state.replace(step=state.step + 7), 7, {"step": 7, "evaluated": 1}, best=True)
    checkpoints.close()
    assert folder.stat().st_ino == before
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(state).position == {"step": 7, "evaluated": 1}
    assert int(checkpoints.restore_best(state).state.step) == 7
    (tmp_path / "checkpoints" / "position.json").write_text("{")  # then it is evaluated again
    assert checkpoints.restore_latest(state).position == {"step": 7}
    checkpoints.close()


def test_best_states_that_no_latest_state_knows_come_again(state: TrainState, tmp_path: Path):
    _two(state, tmp_path)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, 9, {"step": 9}, best=True)
    checkpoints.close()
    shutil.rmtree(tmp_path / "checkpoints" / "latest")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(state) is None
    assert checkpoints.restore_best(state) is None
    checkpoints.save(state, 5, {"step": 5}, best=True)
    assert checkpoints.restore_best(state).position == {"step": 5}
    checkpoints.close()


def _evaluate(
    checkpoints: Checkpoints, state: TrainState, position: Position, step: int, loss: float
) -> Position:
    """What the loop does when two best states are asked for."""
    position = dataclasses.replace(position, step=step)
    best = position.rank(loss, num_best=2)
    position = dataclasses.replace(position, best_evaluations=best)
    steps = [kept for _, kept in best]
    saved = state.replace(step=0 * state.step + step)
    checkpoints.save(saved, step, position.to_json(), step in steps, steps)
    return position


def _best(checkpoints: Checkpoints, state: TrainState) -> list[int]:
    return [int(restored.state.step) for restored in checkpoints.restore_bests(state, 2)]


def test_the_best_of_several_evaluations(
    state: TrainState, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The best first; where the newest state is lost, those that were the best before it."""
    checkpoints, position = Checkpoints(tmp_path, num_best=2), Position()
    assert checkpoints.restore_bests(state, 2) == []
    losses = {1: 0.5, 2: 0.4, 3: 0.6, 4: 0.7, 5: 0.3}
    for step, loss in losses.items():
        position = _evaluate(checkpoints, state, position, step, loss)
        known = [key for key in losses if key <= step]
        assert _best(checkpoints, state) == sorted(known, key=losses.get)[:2]
    checkpoints.close()
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in (folder / "best").iterdir()) == ["1", "2", "5"]
    shutil.rmtree(folder / "latest/5")
    checkpoints = Checkpoints(tmp_path, num_best=2)
    position = Position.from_json(checkpoints.restore_latest(state).position)
    assert position.best_evaluations == ((0.4, 2), (0.5, 1), (0.6, 3))
    assert _best(checkpoints, state) == [2, 1]
    _evaluate(checkpoints, state, position, 5, losses[5])
    assert _best(checkpoints, state) == [5, 2]
    checkpoints.close()
    (folder / "best/2/position/metadata").write_text("{")
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert _best(checkpoints, state) == [5]
    assert "best/2 is left out of the average" in caplog.text
    checkpoints.close()


def test_another_run_is_refused_with_the_difference(state: TrainState, tmp_path: Path):
    _two(state, tmp_path)
    checkpoints = Checkpoints(tmp_path, identity={"config.model.widths": [8]})
    with pytest.raises(CheckpointError, match=r"config\.model\.widths: \[4\] there, \[8\] now"):
        checkpoints.restore_latest(state)
    checkpoints.close()
    allowing = Checkpoints(
        tmp_path, identity={"config.model.widths": [8]}, may_differ=("config.model.",)
    )
    assert allowing.restore_latest(state)[1] == {"step": 7}
    allowing.close()


def test_a_failing_write_ends_clearly_with_the_last_good_state(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _two(state, tmp_path)
    checkpoints = Checkpoints(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._latest, "save", full)
        with pytest.raises(CheckpointError, match=r"after step 7, stays.*No space left"):
            checkpoints.save(state, 9, {"step": 9}, best=False)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(state)[1] == {"step": 7}
    checkpoints.close()


ON_A_SMALL_DISK = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec")
FILLED = """
import errno, sys
from pathlib import Path
from densityjax.training.checkpoint import CheckpointError, Checkpoints
from tests.training.test_checkpoint import fresh_state
state, folder = fresh_state(), Path(sys.argv[1])
checkpoints = Checkpoints(folder)
for step in (3, 7):
    checkpoints.save(state.replace(step=state.step + step), step, {"step": step}, best=False)
checkpoints.wait()
with open(folder / "filler", "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
try:
    checkpoints.save(state, 9, {"step": 9}, best=False)
    checkpoints.wait()
    raise SystemExit("written to a full disk")
except CheckpointError as error:
    print(error)
"""
RESUMED = """
import sys
from pathlib import Path
from densityjax.training.checkpoint import Checkpoints
from tests.training.test_checkpoint import fresh_state
state, folder = fresh_state(), Path(sys.argv[1])
(folder / "filler").unlink()
checkpoints = Checkpoints(folder)
restored, position = checkpoints.restore_latest(state)
print(position, int(restored.step))
checkpoints.save(state, 9, {"step": 9}, best=False)
checkpoints.close()
print(Checkpoints(folder).restore_latest(state).position)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run([*ON_A_SMALL_DISK, "mount -t tmpfs t /mnt"], capture_output=True).returncode != 0
    if shutil.which("unshare") else True,
    reason="this machine does not let a test mount a small disk",
)
def test_a_full_disk(tmp_path: Path):
    """A disk with no block left: a clear error, the last good state stays, and then it goes on."""
    result = subprocess.run(
        [*ON_A_SMALL_DISK, 'mount -t tmpfs -o size=8m t "$1"; "$2" -c "$3" "$1"; "$2" -c "$4" "$1"',
         "sh", tmp_path, sys.executable, FILLED, RESUMED],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    full, restored, after = result.stdout.splitlines()
    assert "after step 7, stays" in full
    assert "No space left" in full or "RESOURCE_EXHAUSTED" in full
    assert "make room" in full
    assert restored == "{'step': 7} 7"
    assert after == "{'step': 9}"


def test_nothing_in_a_checkpoint_is_a_pickle(state: TrainState, tmp_path: Path):
    """Arrays and JSON alone: restoring works where unpickling is forbidden."""
    _two(state, tmp_path)

    def forbidden(*args, **kwargs):
        raise AssertionError("unpickled")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "loads", "Unpickler"):
            patch.setattr(pickle, name, forbidden)
        checkpoints = Checkpoints(tmp_path)
        assert checkpoints.restore_latest(state)[1] == {"step": 7}
        checkpoints.close()
