"""A position survives JSON to the last bit, and reads what earlier versions wrote."""

import json

import jax.numpy as jnp
import numpy as np

from densityjax.training.position import Position

# As a checkpoint of commit 093915b holds it.
STORED = (
    '{"step": 63, "best_loss": 0.3871735246447283, "best_step": 62, "waited": 0, "seconds": '
    '4.02695631980896, "evaluation_seconds": 3.090799570083618, "compile_seconds": '
    '0.015402793884277344, "evaluated": true, "window": [[63, {"loss": [0.10000000149011612, '
    '"float32"], "skipped": [0, "int32"], "target_sum": [[0.25, 3.0], "float32"]}]], "skipped": 1, '
    '"skipped_in_a_row": 0}'
)


def test_a_stored_position_is_read_and_written_as_it_was():
    position = Position.from_json(json.loads(STORED))
    ((step, metrics),) = position.window
    assert step == position.step == 63
    assert metrics["loss"] == np.float32(0.1)
    assert metrics["loss"].dtype == np.float32
    assert metrics["target_sum"].shape == (2,)
    assert metrics["skipped"].dtype == np.int32
    assert json.dumps(position.to_json()) == STORED


def test_arrays_of_a_device_are_stored_in_full():
    value = jnp.asarray([1 / 3, np.nan, np.inf], jnp.float32)
    content = json.loads(json.dumps(Position(step=1, window=((1, {"loss": value}),)).to_json()))
    ((_, metrics),) = Position.from_json(content).window
    np.testing.assert_array_equal(metrics["loss"], np.asarray(value))
    assert Position.from_json(content).best_loss == float("inf")  # none yet
