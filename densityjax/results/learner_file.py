"""The learners that a model mixes, in one file of arrays and JSON, see `runtime.arrays`.

Only the processes are kept. Extra-trees add nothing to a mixture of processes and a network
(docs/results/accuracy), and would be most of the file.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.features.standardiser import Standardiser
from densityjax.results import gaussian_process as gp
from densityjax.results.learners import Learners
from densityjax.results.yardsticks import Yardstick
from densityjax.runtime.arrays import load_arrays, save_arrays
from densityjax.targets import TargetSpec

_SCALER = ("kept", "mean", "std")


def save_learners(path: Path, yardsticks: Mapping[str, Yardstick]) -> None:
    """Replaces the file in one step.

    Args:
        yardsticks: of the same training rows, by name.
    """
    arrays: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, yardstick in yardsticks.items():
        for block, scaler in yardstick.scalers.items():  # the same for every yardstick
            arrays |= {f"scaler/{block}/{k}": getattr(scaler, k) for k in _SCALER}
            # Exact: they were rounded to float16 before anything was fitted to them.
            arrays[f"block/{block}"] = yardstick.blocks[block].astype(np.float16)
        settings[name] = {"blocks": list(yardstick.blocks), "targets": {}}
        for target, learners in yardstick.learners.items():
            own = f"{name}/{target}"
            arrays |= {
                f"rows/{own}": learners.rows.astype(np.int32), f"constant/{own}": learners.constant
            }
            for process in learners.processes:
                arrays[f"coefficients/{own}/{process.kind}"] = process.coefficients
                arrays[f"mean/{own}/{process.kind}"] = process.mean
            settings[name]["targets"][target] = {
                process.kind: dataclasses.asdict(process.settings) for process in learners.processes
            }
    save_arrays(path, arrays, {"settings": json.dumps(settings)})


def load_learners(path: Path, specs: Sequence[TargetSpec]) -> dict[str, Yardstick]:
    """Reads what `save_learners` wrote.

    Args:
        specs: of the targets of the run.
    """
    arrays, texts = load_arrays(path)
    settings = json.loads(texts["settings"])
    return {name: _yardstick(name, own, arrays, specs) for name, own in settings.items()}


def _yardstick(
    name: str, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray],
    specs: Sequence[TargetSpec],
) -> Yardstick:
    blocks = {b: arrays[f"block/{b}"].astype(np.float32) for b in settings["blocks"]}
    scalers = {
        block: Standardiser(*(arrays[f"scaler/{block}/{k}"] for k in _SCALER)) for block in blocks
    }
    learners = {}
    for target, kinds in settings["targets"].items():
        own = f"{name}/{target}"
        rows = arrays[f"rows/{own}"]
        processes = tuple(
            gp.GaussianProcess(
                kind, gp.Settings(**fields), arrays[f"coefficients/{own}/{kind}"],
                arrays[f"mean/{own}/{kind}"],
            )
            for kind, fields in kinds.items()
        )
        learners[target] = Learners(processes, None, rows, arrays[f"constant/{own}"], {})
    return Yardstick(tuple(specs), scalers, blocks, learners, gp.KINDS)
