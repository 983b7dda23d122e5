"""Does pretraining help? From scratch beside a trunk of each objective, at the same budget.

    python -m benchmarks.pretraining --workdir=runs/pretraining --out=docs/results/pretraining

Each objective is learned once from the densities of folds 2, 3 and 4, without labels. Then six
targets are learned with the labels of 10, 30 and 100 % of the chemical systems of these folds, with
the same updates, batches and schedule for every start. The last state answers, so that no row
chooses one. All of fold 1 judges. Predictions of fold 0 are kept and put into a table by `--test`
alone, once everything is decided.

The network is the paper's plain one with the small trunk, nothing is mixed in. A rerun goes on, and
`--tables` writes the tables of what is there.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import numpy as np
from ml_collections import ConfigDict

from benchmarks import short_fits
from benchmarks.pretraining_tables import write_tables
from benchmarks.short_fits import DATASET, NEW_FOLD, TRAIN_FOLDS, last_state
from densityjax.data.dataset import open_from_config
from densityjax.data.joined_records import taken
from densityjax.data.records import Records
from densityjax.features.descriptors import fit_descriptors
from densityjax.results.predictions import predict_records
from densityjax.results.yardsticks import fit_all
from densityjax.runtime import compile_cache
from densityjax.runtime.files import replace_json
from densityjax.step import parallel
from densityjax.targets import get_specs
from densityjax.training.facts import read_facts
from densityjax.training.initial import read_start
from densityjax.training.pretraining import pretrain
from densityjax.training.setup import fit_inputs, load_folds

TARGETS = (
    "bulk_modulus", "formation_energy_per_atom", "total_energy", "fermi_energy", "band_gap",
    "bandwidth",
)
TEST_FOLD = 0
SEEDS = (0, 1, 2)
# Share of the chemical systems whose labels are known -> updates of 16.
STEPS = {0.1: 300, 0.3: 600, 1.0: 1000}
# Of 43 updates of 16; of 72, with all densities of the dataset.
PRETRAINING_EPOCHS, EPOCHS_ON_ALL = 60, 36
SCRATCH = "from scratch"
LONG = "from scratch, twice as long"
LONGER = "from scratch, with the updates of pretraining"
PRETRAINING_STEPS = 2580
KERNELS = "no network: kernels on invariants"
HALF = "half kernels, half "  # and a start: means of the predictions, with no fitted weight
# Name of a start -> settings of config.pretraining.
PRETRAINED: dict[str, dict[str, Any]] = {
    **{
        name: {f"objectives.{name}": 1.0}
        for name in ("masked", "denoising", "nearest_element", "invariants", "deformation")
    },
    "invariants and nearest_element": {
        "objectives.invariants": 1.0, "objectives.nearest_element": 1.0,
    },
    # Transductive: the densities of all folds, those that are judged among them, are learned from.
    "invariants, judged densities too": {
        "objectives.invariants": 1.0, "sources": (DATASET,), "withhold": "nothing",
    },
}


def base_config(data_dir: str) -> ConfigDict:
    """The small network on all six targets."""
    config = short_fits.base_config(data_dir)
    config.targets, config.data.test_fold = TARGETS, TEST_FOLD
    return config


def labelled(records: Records, share: float, seed: int) -> Records:
    """The rows of a share of the chemical systems; a smaller share is part of a larger one."""
    names = np.unique(records.chemical_system)
    order = np.random.default_rng([5, seed]).permutation(len(names))
    chosen = names[order[: round(share * len(names))]]
    return taken(records, np.flatnonzero(np.isin(records.chemical_system, chosen)))


def fit(
    config: ConfigDict, train: Records, judged: Mapping[str, Records], num_steps: int
) -> dict[str, dict[str, list[float]]]:
    """{fold: {target: predictions of its rows}} by the last state of a run of so many updates."""
    specs = get_specs(TARGETS)
    start = read_start(config, Path("none"))
    if start is not None:  # the trunk alone
        start = dataclasses.replace(start, specs=())
    inputs = fit_inputs(config, specs, train, num_steps, start)
    mapped = parallel.mapped_predict_step(inputs.task, config.view.evaluation_views)
    state = last_state(inputs, num_steps)
    found = {}
    for fold, records in judged.items():
        said = predict_records(
            mapped, state, records, specs, inputs.statistics, config.train.batch_size
        )
        found[fold] = {name: np.asarray(said.values[name]).tolist() for name in TARGETS}
    return found


def fit_kernels(train: Records, judged: Mapping[str, Records]) -> dict[str, dict[str, list[float]]]:
    """`fit` of the Gaussian processes that a mixture has beside the network."""
    specs = get_specs(TARGETS)
    cells = train.lattice, train.num_electrons
    descriptors, features = fit_descriptors(train.features, train.species, *cells, {}, False)
    learner = fit_all(
        features, train.labels, specs, train.num_electrons, train.volume, names=("invariants",),
        trees=(),
    )["invariants"]
    found = {}
    for fold, records in judged.items():
        whole = descriptors.complete(records.features, records.lattice, records.num_electrons)
        kinds = learner.predict(whole, records.num_electrons, records.volume)
        found[fold] = {
            name: np.mean([own[name] for own in kinds.values()], axis=0).tolist()
            for name in TARGETS
        }
    return found


def pretrained(config: ConfigDict, name: str, workdir: Path) -> Path:
    """The directory of a finished run of an objective, trained unless it is there.

    It has one state, its last, so that no density of fold 1 chooses one.
    """
    path = workdir / f"source {name}".replace(" ", "_")
    if "finished" not in read_facts(path):
        print(path.name, flush=True)
        own = config.copy_and_resolve_references()
        own.pretraining.update_from_flattened_dict(PRETRAINED[name])
        own.train.epochs = EPOCHS_ON_ALL if own.pretraining.sources else PRETRAINING_EPOCHS
        own.train.evaluate_every_epochs = own.train.epochs
        pretrain(own, path)
    return path


def methods(names: list[str]) -> list[str]:
    """Starts in the order of the tables."""
    known = (SCRATCH, *PRETRAINED, LONG, LONGER, KERNELS)
    return [name for name in known if not names or name in names]


def results_of(workdir: Path) -> list[dict[str, Any]]:
    """What has been fitted so far, and the means of it with the kernels."""
    found = [json.loads(path.read_text()) for path in sorted((workdir / "fits").glob("*.json"))]
    kernels = {(r["share"], r["seed"]): r["said"] for r in found if r["start"] == KERNELS}
    mixed = []
    for result in found:
        other = kernels.get((result["share"], result["seed"]))
        if other is None or result["start"] == KERNELS:
            continue
        said = {
            fold: {t: np.mean([own[t], other[fold][t]], axis=0).tolist() for t in TARGETS}
            for fold, own in result["said"].items()
        }
        mixed.append(result | {"start": HALF + result["start"], "said": said})
    return found + mixed


def main() -> None:
    """Trains what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    parser.add_argument("--starts", nargs="*", default=[], choices=methods([]), help="these alone")
    parser.add_argument("--tables", action="store_true", help="of what is there; fit nothing")
    parser.add_argument("--test", action="store_true", help="a table of fold 0, too: at the end")
    arguments = parser.parse_args()
    workdir = arguments.workdir
    if not arguments.tables:
        fit_missing(base_config(arguments.data_dir), methods(arguments.starts), workdir)
    if arguments.out:
        names = methods([])
        groups = {base: names for base in (SCRATCH, LONG, LONGER)}
        groups[HALF + SCRATCH] = [HALF + name for name in names if name != KERNELS]
        write_tables(results_of(workdir), arguments.out, groups, arguments.test)


def fit_missing(config: ConfigDict, names: list[str], workdir: Path) -> None:
    """Fits every start with every share of the labels and every seed."""
    compile_cache.enable()
    builder, specs = open_from_config(config.data), get_specs(TARGETS)
    reading = config.copy_and_resolve_references()
    if KERNELS in names:
        reading.yardsticks = ("invariants",)  # whose features are read
    folds = {
        name: load_folds(reading, builder, specs, numbers, cache_in_memory=True)
        for name, numbers in (
            ("train", TRAIN_FOLDS), ("validation", (NEW_FOLD,)), ("test", (TEST_FOLD,))
        )
    }
    train = folds.pop("train")
    for share, num_steps in STEPS.items():
        for name in names:
            for seed in SEEDS:
                slug = f"{name}, {share}, {seed}.json".replace(" ", "_")
                path = workdir / "fits" / slug
                if path.exists():
                    continue
                own = config.copy_and_resolve_references()
                own.seed = seed
                if name in PRETRAINED:
                    own.init = str(pretrained(config, name, workdir))
                rows = labelled(train, share, seed)
                print(f"{name}, {len(rows)} labelled materials, seed {seed}", flush=True)
                steps = {LONG: 2 * num_steps, LONGER: num_steps + PRETRAINING_STEPS}
                said = (
                    fit_kernels(rows, folds) if name == KERNELS
                    else fit(own, rows, folds, steps.get(name, num_steps))
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_json(path, {
                    "start": name, "share": share, "seed": seed, "labelled": len(rows),
                    "said": said,
                    "system": {f: r.chemical_system.astype(str).tolist() for f, r in folds.items()},
                    "truth": {
                        fold: {key: records.labels[key].tolist() for key in TARGETS}
                        for fold, records in folds.items()
                    },
                })


if __name__ == "__main__":
    main()
