"""Two protocols in one table: the system of arXiv 2605.07227, with its leaks and without them.

    python -m benchmarks.ecd --workdir=runs/ecd --each --networks --out=docs/results/ecd

Without a switch nothing leaks: folds by chemical system judge in turn, nothing is left out, and all
that is fitted, the autoencoder included, has not seen the rows that it is judged on. `--leaky_...`
switches on one leak each (several together); `--each` takes none, each alone, and all. Trees are
fitted under every protocol, networks (`--networks`) under the two. A rerun goes on, and writes the
tables of what is there.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import numpy as np

from benchmarks import ecd_networks, ecd_trees
from benchmarks.ecd_data import EVERY_ROW, FOLDS, Materials, load_materials, train_autoencoder
from benchmarks.ecd_protocol import EACH, LEAKS, OURS, THEIRS, Protocol
from benchmarks.ecd_tables import summary, write_tables
from densityjax.runtime import compile_cache
from densityjax.runtime.files import replace_json

NAMES = (EVERY_ROW, *map(str, FOLDS))


def tree_cells(protocols: tuple[Protocol, ...]) -> Iterator[tuple[Protocol, str]]:
    """(protocol, input) of the trees; what the paper does not do under the two protocols alone.

    Leaks of latents, which composition cannot feel, are left out of it.
    """
    of_latents = (
        Protocol(leaky_fit_on_all_rows=True), Protocol(leaky_autoencoder_all_rows=True),
    )
    for protocol in protocols:
        for name in ecd_trees.INPUTS:
            pooled = "pooled" in name and protocol not in (OURS, THEIRS)
            if not pooled and not (name == "composition" and protocol in of_latents):
                yield protocol, name


def needed(protocol: Protocol) -> set[str]:
    """Autoencoders that a protocol takes."""
    return {EVERY_ROW} if protocol.leaky_autoencoder_all_rows else set(map(str, FOLDS))


def run_trees(materials: Materials, protocols: tuple[Protocol, ...], workdir: Path) -> None:
    """What is missing, of those materials whose autoencoders are there."""
    for protocol, name in tree_cells(protocols):
        path = workdir / "trees" / f"{protocol.name}, {name}.json".replace(" ", "_")
        found = set() if name == "composition" else needed(protocol) & {*materials.encoded}
        done = set(json.loads(path.read_text())["autoencoders"]) if path.exists() else None
        if found == done or not (found or name == "composition"):
            continue
        print(f"trees: {protocol.name}: {name}", flush=True)
        said = ecd_trees.predict(materials, protocol, name)
        _keep(path, protocol, f"trees: {name}", said, found)


def run_networks(materials: Materials, folds: tuple[int, ...], workdir: Path) -> None:
    """A file for each part, protocol and input; then one of all parts."""
    for number in folds:
        for name in ecd_networks.INPUTS:
            for protocol in (OURS, THEIRS):
                stem = f"{protocol.name}, {name}".replace(" ", "_")
                path = workdir / "networks" / f"{stem}_{number}.json"
                own = {str(number)} if protocol == OURS else {EVERY_ROW}
                if path.exists() or not own <= {*materials.encoded}:
                    continue
                print(f"network: {protocol.name}: {name}, part {number}", flush=True)
                rows, found = ecd_networks.predict(materials, protocol, name, number)
                said = {}
                for target, values in found.items():
                    said[target] = np.full(len(materials.fold), np.nan)
                    said[target][rows] = values
                _keep(path, protocol, f"network: {name}", said, own)


def _keep(
    path: Path, protocol: Protocol, learner: str, said: dict[str, np.ndarray],
    autoencoders: set[str],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_json(path, {
        "protocol": protocol.name, "learner": learner, "autoencoders": sorted(autoencoders),
        "said": {
            name: [None if np.isnan(v) else float(v) for v in values]
            for name, values in said.items()
        },
    })


def results_in(workdir: Path) -> list[dict[str, Any]]:
    """Of each protocol and learner, {protocol, learner, said: {target: [n]}}; parts are joined."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(workdir.glob("trees/*.json")) + sorted(workdir.glob("networks/*.json")):
        one = json.loads(path.read_text())
        said = {name: np.array(values, float) for name, values in one["said"].items()}
        whole = found.setdefault((one["protocol"], one["learner"]), one | {"said": said})
        for name, values in said.items():
            known = np.isfinite(values)
            whole["said"][name][known] = values[known]
    order = [protocol.name for protocol in EACH]
    return sorted(found.values(), key=lambda r: (r["learner"], order.index(r["protocol"])
                                                 if r["protocol"] in order else len(order)))


def main() -> None:
    """Trains and fits what is missing, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--dataset", default="elastic_densities/grid32")
    parser.add_argument("--each", action="store_true", help="no leak, each alone, and all")
    parser.add_argument("--networks", action="store_true", help="attention CNNs, too")
    parser.add_argument("--parts", type=int, nargs="*", default=list(FOLDS), help="of networks")
    parser.add_argument("--as_is", action="store_true", help="train no autoencoder")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    for leak in LEAKS:
        parser.add_argument(f"--{leak}", action="store_true")
    arguments = parser.parse_args()
    compile_cache.enable()
    given = Protocol(**{leak: getattr(arguments, leak) for leak in LEAKS})
    protocols = EACH if arguments.each else (given,)
    if not arguments.as_is:
        for name in NAMES:
            if any(name in needed(protocol) for protocol in protocols):
                train_autoencoder(name, arguments.workdir, arguments.data_dir, arguments.dataset)
    materials = load_materials(arguments.workdir, arguments.data_dir, arguments.dataset, NAMES)
    run_trees(materials, protocols, arguments.workdir)
    if arguments.networks:
        run_networks(materials, tuple(arguments.parts), arguments.workdir)
    if arguments.out:
        results = results_in(arguments.workdir)
        truth = {
            protocol.name: protocol.labels(materials) for protocol in {*EACH, given}
        }
        rows = summary(results, truth, materials.records.chemical_system.astype(str))
        write_tables(rows, materials.specs, arguments.out)


if __name__ == "__main__":
    main()
