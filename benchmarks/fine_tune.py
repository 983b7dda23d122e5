"""Does a trained trunk help where labels are few? From scratch beside config.init, same budget.

    python -m benchmarks.fine_tune --workdir=runs/fine_tune --out=docs/results/fine_tune

Two sources are trained on folds 2, 3 and 4: on energies and electronic targets, and on these and
the elastic ones. The new task is the elastic ones, with few labels: of materials of those folds,
whose densities a source has seen, or of fold 1, whose chemical systems it has not. Per seed the
systems of fold 1 are split in three: labels for the second case, rows that choose the best of six
states, rows that judge and do nothing else. The source's only state is its last, so that these rows
choose nothing there either. Fold 0 is not read.

The network is the paper's plain one with the small trunk, nothing is mixed in. A rerun goes on. It
took 15 minutes of one core.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import numpy as np
from ml_collections import ConfigDict

from benchmarks.fine_tune_tables import write_tables
from benchmarks.short_fits import NEW_FOLD, TRAIN_FOLDS, base_config, last_state, said_by_best
from densityjax.data.dataset import open_from_config
from densityjax.data.joined_records import taken
from densityjax.data.records import Records
from densityjax.results.predictions import predict_records
from densityjax.runtime import compile_cache
from densityjax.runtime.files import replace_json
from densityjax.step import parallel
from densityjax.targets import get_specs
from densityjax.training.facts import read_facts
from densityjax.training.initial import read_start
from densityjax.training.run import train_and_evaluate
from densityjax.training.setup import fit_inputs, load_folds

ELECTRONIC = (
    "total_energy", "formation_energy_per_atom", "fermi_energy", "band_gap", "bandwidth",
)
ELASTIC = ("bulk_modulus", "shear_modulus", "debye_temperature")
SOURCES = {"electronic": ELECTRONIC, "all": (*ELECTRONIC, *ELASTIC)}
SOURCE_EPOCHS = 20
SEEDS = (0, 1, 2, 3, 4)
STEPS, EVALUATIONS = 240, 6
# Of the labelled rows of fold 1, about these shares of the systems.
SHARES = (0.34, 0.2)  # labels, choice; the rest judges
_LONG = "from scratch, four times as long"
# Name -> (source or None, its heads too, config.optimizer.trunk_rate, steps).
METHODS = {
    "from scratch": (None, False, 1.0, STEPS),
    _LONG: (None, False, 1.0, 4 * STEPS),
    "trunk": ("electronic", False, 1.0, STEPS),
    "trunk at a tenth of the rate": ("electronic", False, 0.1, STEPS),
    "frozen trunk": ("electronic", False, 0.0, STEPS),
    "trunk of the same targets": ("all", False, 1.0, STEPS),
    "trunk and heads": ("all", True, 1.0, STEPS),
    "trunk and heads at a tenth": ("all", True, 0.1, STEPS),
    "source as it is": ("all", True, 1.0, 0),
}
_OTHER = tuple(name for name, method in METHODS.items() if method[0] != "all")
# Name -> (labels from the folds of the source, how many, methods).
CASES = {
    "50 labels, densities seen": (True, 50, _OTHER),
    "200 labels, densities seen": (True, 200, _OTHER),
    "33 labels, systems never seen": (False, 33, tuple(name for name in METHODS if name != _LONG)),
}


def drawn(systems: np.ndarray, among: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` of the rows `among`, whole chemical systems in random order."""
    order = np.random.default_rng([7, seed]).permutation(np.unique(systems[among]))
    found: list[int] = []
    for name in order:
        if len(found) < count:
            found += [row for row in among if systems[row] == name]
    return np.sort(found[:count])


def parts_of(records: Records, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of fold 1 for labels, for the choice of a state, and to judge; no system in two."""
    names = np.random.default_rng([11, seed]).permutation(np.unique(records.chemical_system))
    ends = np.cumsum([round(share * len(names)) for share in SHARES])
    return tuple(
        np.flatnonzero(np.isin(records.chemical_system, part)) for part in np.split(names, ends)
    )


def fit(
    config: ConfigDict, method: Sequence[Any], workdir: Path, train: Records, choice: Records,
    judged: Records,
) -> dict[str, list[float]]:
    """Predictions of the judged rows, by the state that the choice rows like best."""
    source, heads, rate, steps = method
    config = config.copy_and_resolve_references()
    config.optimizer.trunk_rate = rate
    config.init = str(workdir / f"source_{source}") if source else ""
    start = read_start(config, workdir / "none")
    if start is not None and not heads:
        start = dataclasses.replace(start, specs=())
    specs = get_specs(ELASTIC)
    inputs = fit_inputs(config, specs, train, steps or STEPS, start)
    mapped = parallel.mapped_predict_step(inputs.task, config.view.evaluation_views)

    def predict(state: Any, records: Records) -> Any:
        return predict_records(
            mapped, state, records, specs, inputs.statistics, config.train.batch_size
        )

    if steps == 0:
        said = predict(last_state(inputs, 0), judged)
    else:
        said = said_by_best(
            inputs, steps, EVALUATIONS,
            lambda state: predict(state, choice), lambda state: predict(state, judged),
        )
    return {name: np.asarray(said.values[name]).tolist() for name in ELASTIC}


def train_source(config: ConfigDict, name: str, workdir: Path) -> None:
    """A run on all rows of the source's folds, unless it has finished."""
    if "finished" not in read_facts(workdir):
        own = config.copy_and_resolve_references()
        own.targets = SOURCES[name]
        own.train.epochs = own.train.evaluate_every_epochs = SOURCE_EPOCHS
        print(workdir.name, flush=True)
        train_and_evaluate(own, workdir)


def main() -> None:
    """Trains what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    arguments = parser.parse_args()
    compile_cache.enable()
    config, workdir = base_config(arguments.data_dir), arguments.workdir
    config.targets = ELASTIC
    for name in SOURCES:
        train_source(config, name, workdir / f"source_{name}")
    builder, specs = open_from_config(config.data), get_specs(ELASTIC)
    pools = {}
    for seen, folds in ((True, TRAIN_FOLDS), (False, (NEW_FOLD,))):
        whole = load_folds(config, builder, specs, folds, cache_in_memory=True)
        labels = np.stack([whole.labels[name] for name in ELASTIC])
        pools[seen] = taken(whole, np.flatnonzero(np.isfinite(labels).all(axis=0)))
    results: list[Mapping[str, Any]] = []
    for seed in SEEDS:
        new, choice, judged = parts_of(pools[False], seed)
        config.seed = seed
        for case, (seen, count, methods) in CASES.items():
            among = np.arange(len(pools[True])) if seen else new
            rows = drawn(pools[seen].chemical_system, among, count, seed)
            for name in methods:
                path = workdir / "fits" / f"{case}, {name}, {seed}.json".replace(" ", "_")
                if not path.exists():
                    print(f"{case}: {name}, seed {seed}", flush=True)
                    split = [taken(pools[False], part) for part in (choice, judged)]
                    said = fit(config, METHODS[name], workdir, taken(pools[seen], rows), *split)
                    path.parent.mkdir(exist_ok=True)
                    replace_json(path, {
                        "case": case, "method": name, "seed": seed, "labels": len(rows),
                        "choice": len(choice), "said": said,
                        "system": split[1].chemical_system.astype(str).tolist(),
                        "truth": {key: split[1].labels[key].tolist() for key in ELASTIC},
                    })
                results.append(json.loads(path.read_text()))
    if arguments.out:
        write_tables(results, arguments.out)


if __name__ == "__main__":
    main()
