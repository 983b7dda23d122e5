"""Predictions of the yardsticks for a test fold, fitted to all other folds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densityjax.configs import elastic
from densityjax.data.dataset import open_from_config
from densityjax.features.descriptors import fit_descriptors
from densityjax.results.yardsticks import fit_all
from densityjax.runtime.files import replaced
from densityjax.targets import get_specs
from densityjax.training.setup import load_folds

FOLDS = 5


def save_yardsticks(
    workdir: Path, test: int, targets: Sequence[str], data_dir: str
) -> None:
    """Writes yardsticks_foldN.npz unless it is there: ids, and LEARNER/TARGET [n] in its unit."""
    path = workdir / f"yardsticks_fold{test}.npz"
    if path.exists():
        return
    print(path.name, flush=True)
    config, specs = elastic.get_config(), get_specs(targets)
    config.data.data_dir = data_dir
    builder = open_from_config(config.data)
    others = [fold for fold in range(FOLDS) if fold != test]
    known, new = (load_folds(config, builder, specs, folds, False) for folds in (others, [test]))
    descriptors, features = fit_descriptors(
        known.features, known.species, known.lattice, known.num_electrons, {}, identify=True
    )
    new = new.described(descriptors)
    fitted = fit_all(features, known.labels, specs, known.num_electrons, known.volume)
    arrays = {"ids": new.material_id}
    for name, yardstick in fitted.items():
        found = yardstick.predict(new.features, new.num_electrons, new.volume)
        for learner, own in found.items():
            arrays |= {f"{name}_{learner}/{target}": values for target, values in own.items()}
    with replaced(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
