"""The averaged parameters of a network in one safetensors file: arrays, nothing that runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from densityjax.runtime.arrays import load_arrays, save_arrays
from densityjax.step.train_state import TrainState

FORMAT = "1"


def save_weights(path: Path, states: Sequence[TrainState], half: bool = False) -> None:
    """Replaces the file in one step.

    Args:
        states: of one run, whose predictions are averaged, the best first.
        half: keep float16, which takes half the room and changes predictions a little.
    """
    arrays: dict[str, np.ndarray] = {}
    for place, state in enumerate(states):
        for name, value in flatten_dict(state.ema_params, sep="/").items():
            array = np.asarray(value, np.float32)
            arrays[f"{place}/{name}"] = array.astype(np.float16) if half else array
    save_arrays(path, arrays, {"format": FORMAT, "states": str(len(states))})


def load_weights(path: Path, statistics: Mapping[str, Any]) -> list[TrainState]:
    """States that predict, in the order that they were saved in; they cannot be trained further.

    Args:
        statistics: of the run, see `step.scalers.Statistics.arrays`.

    Raises:
        ValueError, KeyError: the file is damaged, or of another format.
    """
    arrays, texts = load_arrays(path)
    if texts["format"] != FORMAT:
        raise ValueError(f"format {texts['format']}, not {FORMAT}")
    found = []
    for place in range(int(texts["states"])):
        prefix = f"{place}/"
        own = {
            name.removeprefix(prefix): value.astype(np.float32)
            for name, value in arrays.items() if name.startswith(prefix)
        }
        found.append(TrainState(
            step=np.zeros((), np.int32), params=(), ema_params=unflatten_dict(own, sep="/"),
            opt_state=(), key=np.zeros(2, np.uint32),
            statistics=jax.tree.map(np.asarray, statistics),
        ))
    return found
