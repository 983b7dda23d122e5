"""Do composed modules beat other starts for a property with few labels? At one budget each.

    python -m benchmarks.modules --start=runs/start --workdir=runs/modules --out=OUT

A module per target is trained on folds 2, 3 and 4 from one start that has seen no label of any
held-out target. Then each of eight targets is new in turn: modules of it, or of targets that
determine it (constraints.RELATIONS), are left out, and labels are drawn from the same folds, whose
densities the modules know. A network is fine-tuned from each kind of start with the same batches
and the same number of updates, its last state answers, and nothing is chosen. Materials of folds 1
and 0, whose chemical systems no module and no row of labels has, judge; about a quarter of the
systems of fold 1 are kept apart, on which the settings of this study were chosen.

The network is the paper's plain one with the small trunk. A rerun goes on, and makes the tables of
what there is.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from benchmarks.fine_tune import drawn
from benchmarks.modules_tables import write_tables
from benchmarks.short_fits import NEW_FOLD, TRAIN_FOLDS, base_config, last_state
from densityjax.constraints import determining
from densityjax.data.dataset import fingerprint, open_from_config
from densityjax.data.joined_records import taken
from densityjax.data.records import Records
from densityjax.model.create import head_modules
from densityjax.modules.average import weighted_average
from densityjax.modules.composition import Composition, find_composition, standardised_labels
from densityjax.modules.embedding import embed
from densityjax.results.predictions import predict_records
from densityjax.runtime import compile_cache
from densityjax.runtime.arrays import load_arrays, save_arrays
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json
from densityjax.step import parallel
from densityjax.targets import TargetSpec, get_specs, to_intensive
from densityjax.training.initial import find_source, read_start
from densityjax.training.setup import fit_inputs, load_folds
from densityjax.training.start import Start

HELD_OUT = (
    "debye_temperature", "bulk_modulus", "elastic_anisotropy", "refractive_index",
    "dielectric_constant", "c11", "c12", "c44",
)
OTHERS = (
    "shear_modulus", "volume", "density", "total_energy", "formation_energy_per_atom",
    "fermi_energy", "band_gap", "bandwidth", "magnetic_moment",
)
TEST_FOLD = 0
CHOICE_SHARE = 0.25  # of the systems of fold 1
ALL = "all"
# Labels -> updates of 10 materials, seeds, methods.
METHODS = (
    "from scratch", "start", "best module", "all, uniform", "chosen, uniform", "random",
    "composed",
)
FEW_METHODS = ("from scratch", "start", "best module", "all, uniform", "composed")
CASES: dict[Any, tuple[int, tuple[int, ...], tuple[str, ...]]] = {
    10: (100, tuple(range(8)), METHODS),
    30: (120, tuple(range(8)), METHODS),
    100: (200, (0, 1, 2), METHODS),
    ALL: (300, (0,), FEW_METHODS),
}
BATCH, MODULE_STEPS = 10, 900
NEW = TargetSpec("new", "regression", "", "the new target")


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all fits share.

    Attributes:
        config: of a fit.
        pool, judges: labelled or not.
        embeddings: [M, n, W] of the pool.
        start: of the modules, without heads.
        choice: [m] bool, rows of the judges that are kept apart for choices.
    """

    config: ConfigDict
    workdir: Path
    trunks: dict[str, Any]  # {target: trunk of its module}
    pool: Records
    judges: Records
    embeddings: np.ndarray
    start: Start
    choice: np.ndarray

    def allowed(self, target: str) -> list[int]:
        """Places of the modules that do not determine a target."""
        gone = determining(target, list(self.trunks))
        return [place for place, name in enumerate(self.trunks) if name not in gone]


def study_config(data_dir: str) -> ConfigDict:
    """The config of modules and fits."""
    config = base_config(data_dir)
    config.train.batch_size, config.view.evaluation_views = BATCH, 2
    return config


def as_new(records: Records, spec: TargetSpec, rows: np.ndarray) -> Records:
    """Rows whose one target is `NEW`: one compiled step serves all targets."""
    values = to_intensive(spec, records.labels[spec.name], records.num_electrons, records.volume)
    return taken(dataclasses.replace(records, labels={NEW.name: values}), rows)


def prepare(data_dir: str, start: str, workdir: Path) -> Bench:
    """Trains the modules that are missing, and embeds the pool."""
    config = study_config(data_dir)
    builder, specs = open_from_config(config.data), get_specs((*HELD_OUT, *OTHERS))
    pool = load_folds(config, builder, specs, TRAIN_FOLDS, cache_in_memory=True)
    judges = load_folds(config, builder, specs, (NEW_FOLD, TEST_FOLD), cache_in_memory=True)
    config.init = start
    begun = dataclasses.replace(read_start(config, workdir / "none"), specs=())
    check_start(config, begun, fingerprint(builder), workdir)
    trunks = {spec.name: module_of(config, spec, pool, begun, workdir) for spec in specs}
    fresh = next(iter(trunks.values()))
    begun = dataclasses.replace(begun, parameters={k: begun.parameters[k] for k in fresh})
    path = workdir / "embeddings.npy"
    if not path.exists():
        print("embedding", flush=True)
        # Its scalers of the field are those of all modules.
        fitted = fit_inputs(config, (NEW,), as_new(pool, specs[1], np.arange(9)), 1, begun)
        np.save(path, embed(
            list(trunks.values()), config, fitted.statistics, pool, np.arange(len(pool))
        ))
    new = load_folds(config, builder, specs, (NEW_FOLD,), cache_in_memory=False)
    names = np.random.default_rng(5).permutation(np.unique(new.chemical_system))
    choice = np.isin(judges.chemical_system, names[: round(CHOICE_SHARE * len(names))])
    return Bench(config, workdir, trunks, pool, judges, np.load(path), begun, choice)


def check_start(config: ConfigDict, begun: Start, data: str, workdir: Path) -> None:
    """Refuses a start that knows what is held out, and a workdir of other settings.

    Files of a workdir that has no study.json yet are taken to be of the settings that are given.

    Args:
        data: fingerprint of the dataset.

    Raises:
        UserError: see above.
    """
    targets, facts = find_source(config).read_config("targets")["targets"], begun.facts
    folds, withhold = facts["dataset"]["train_folds"], facts["sources"].get("withhold")
    if not {*targets} <= {*OTHERS} or not {*folds} <= {*TRAIN_FOLDS} or withhold == "nothing":
        raise UserError(
            f"--start={config.init} was trained on targets {targets}, folds {folds} and sources "
            f"that withhold {withhold}: it may know targets of {OTHERS} and folds of {TRAIN_FOLDS}"
        )
    stamp = {
        "start": facts["sha256"], "data": data, "batch": BATCH, "module_steps": MODULE_STEPS,
        "steps": {str(count): steps for count, (steps, *_) in CASES.items()},
    }
    path = workdir / "study.json"
    if path.exists() and json.loads(path.read_text()) != stamp:
        raise UserError(f"{path} is of another start or of other settings: name another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    replace_json(path, stamp)


def module_of(
    config: ConfigDict, spec: TargetSpec, pool: Records, begun: Start, workdir: Path
) -> dict[str, Any]:
    """The trunk of the module of a target, as densityjax.modules trains it.

    Under the name of `NEW`, so that one compiled step serves all modules.
    """
    path = workdir / "trunks" / f"{spec.name}.safetensors"
    if not path.exists():
        print(f"module of {spec.name}", flush=True)
        train = as_new(pool, spec, labelled_rows(pool, spec))
        inputs = fit_inputs(config, (NEW,), train, MODULE_STEPS, begun)
        state = last_state(inputs, MODULE_STEPS)
        parameters = jax.device_get(state.ema_params["model"])
        heads = head_modules(NEW.name)
        trunk = {name: own for name, own in parameters.items() if name not in heads}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(path, flatten_dict(trunk, sep="/"), {})
    return unflatten_dict(load_arrays(path)[0], sep="/")


def trunk_of(
    method: str, bench: Bench, places: Sequence[int], found: Composition, seed: int
) -> Mapping[str, Any]:
    """Parameters that a method starts from, without heads.

    The best module is the one whose proxy errs least on the labelled rows, as a user would choose.
    """
    trunks = [list(bench.trunks.values())[place] for place in places]
    needs = {
        "composed": found.weights is None, "chosen, uniform": found.weights is None,
        "best module": not found.proxies,  # there are too few labels
    }
    if method == "start" or needs.get(method, False):
        return bench.start.parameters
    weights = np.zeros(len(places))
    if method == "composed":
        weights = found.weights
    elif method == "all, uniform":
        weights[:] = 1
    elif method == "best module":
        kind = found.kind
        weights[int(found.proxies[kind].errors.argmin())] = 1
    elif method == "chosen, uniform":
        weights[found.fitted > 0.01] = 1
    elif method == "random":  # the weights of the composition, each of another module
        own = np.eye(len(places))[0] if found.weights is None else found.weights
        weights = np.random.default_rng([13, seed]).permutation(own)
    return weighted_average(trunks, weights / weights.sum())


def fit(
    bench: Bench, trunk: Mapping[str, Any] | None, train: Records, steps: int, seed: int,
    judged: Records,
) -> np.ndarray:
    """Predictions [m] of the last state, in the scale that is trained.

    Args:
        trunk: None for a random one.
    """
    config = bench.config.copy_and_resolve_references()
    config.seed = seed
    start = None if trunk is None else dataclasses.replace(bench.start, parameters=trunk)
    inputs = fit_inputs(config, (NEW,), train, steps, start)
    state = last_state(inputs, steps)
    mapped = parallel.mapped_predict_step(inputs.task, config.view.evaluation_views)
    said = predict_records(mapped, state, judged, (NEW,), inputs.statistics, 16)
    return said.values[NEW.name]


def labelled_rows(records: Records, spec: TargetSpec) -> np.ndarray:
    """Rows with a label."""
    return np.flatnonzero(np.isfinite(records.labels[spec.name]))


def composition_of(
    bench: Bench, spec: TargetSpec, rows: np.ndarray, seed: int
) -> tuple[list[int], Composition]:
    """(places of allowed modules, their composition) from some labelled rows of the pool."""
    places = bench.allowed(spec.name)
    few = as_new(bench.pool, spec, rows)
    _, labels = standardised_labels(few, NEW)
    return places, find_composition(
        spec.name, [list(bench.trunks)[place] for place in places],
        bench.embeddings[places][:, rows], labels, few.chemical_system.astype(str),
        bench.config.modules, seed,
    )


def drawn_rows(bench: Bench, spec: TargetSpec, count: Any, seed: int) -> np.ndarray:
    """Rows of the pool whose labels are given."""
    among = labelled_rows(bench.pool, spec)
    if count == ALL:
        return among
    return drawn(bench.pool.chemical_system, among, count, seed)


def run_case(bench: Bench, target: str, count: Any, seed: int) -> None:
    """Fits that are missing of one target, number of labels and seed."""
    (spec,) = get_specs((target,))
    steps, _, methods = CASES[count]
    folder = bench.workdir / "fits" / f"{target}_{count}_{seed}"
    paths = {method: folder / f"{method.replace(', ', '_').replace(' ', '_')}.json"
             for method in methods}
    if all(path.exists() for path in paths.values()):
        return
    rows = drawn_rows(bench, spec, count, seed)
    places, found = composition_of(bench, spec, rows, seed)
    train = as_new(bench.pool, spec, rows)
    known = labelled_rows(bench.judges, spec)
    judged = as_new(bench.judges, spec, known)
    folder.mkdir(parents=True, exist_ok=True)
    for method, path in paths.items():
        if path.exists():
            continue
        print(f"{target}, {count} labels, seed {seed}: {method}", flush=True)
        trunk = None
        if method != "from scratch":
            trunk = trunk_of(method, bench, places, found, seed)
        said = fit(bench, trunk, train, steps, seed, judged)
        replace_json(path, {
            "target": target, "labels": count, "rows": len(rows), "seed": seed, "method": method,
            "fallback": found.reason, "proxy": found.kind,
            "weights": None if found.weights is None else dict(
                zip(found.modules, found.weights.tolist())
            ),
            "said": np.asarray(said, float).tolist(), "truth": judged.labels[NEW.name].tolist(),
            "system": judged.chemical_system.astype(str).tolist(),
            "choice": bench.choice[known].tolist(),
        })


def main() -> None:
    """Runs what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--start", help="of the modules, see config.init; '' with --tables")
    parser.add_argument("--labels", nargs="*", default=[*map(str, CASES)], help="which cases")
    parser.add_argument("--tables", action="store_true", help="make the tables alone")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    arguments = parser.parse_args()
    if not arguments.tables:
        compile_cache.enable()
        bench = prepare(arguments.data_dir, arguments.start, arguments.workdir)
        pairs = [
            (count, seed) for count, (_, seeds, _) in CASES.items() for seed in seeds
            if str(count) in arguments.labels
        ]
        # A partial table has the first seeds of all numbers of labels.
        pairs.sort(key=lambda pair: pair[1] > 4)
        for (count, seed), target in itertools.product(pairs, HELD_OUT):
            run_case(bench, target, count, seed)
    paths = sorted((arguments.workdir / "fits").glob("*/*.json"))
    if arguments.out:
        write_tables([json.loads(path.read_text()) for path in paths], METHODS, arguments.out)


if __name__ == "__main__":
    main()
