"""Whether maps of predictions can be believed, and what they show on well-known crystals.

    python -m benchmarks.maps --workdir=RUN --out=docs/results/maps --name=plain

All materials are of the run's test fold, which it was neither trained nor chosen on. Writes
sanity_NAME.json (weights drawn anew, deletion and insertion, equivalent atoms, other descriptions
of the cell), crystals_NAME.csv (where the map of each target lies) and a picture per crystal and
target. On 2 busy cores half an hour.
"""

import argparse
import csv
import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr
from tqdm import tqdm

from densityjax.attribution.explain import Settings, explain
from densityjax.attribution.integrated_gradients import integrated_gradients
from densityjax.attribution.partition import atom_weights
from densityjax.attribution.planes import draw_planes
from densityjax.attribution.question import Question, ask
from densityjax.attribution.references import reference_density
from densityjax.attribution.result import of_atoms
from densityjax.attribution.smoothing import gaussian_smooth
from densityjax.attribution.stored import StoredRecords, average_atoms_of
from densityjax.density.density import Density, symbol
from densityjax.density.record import make_record
from densityjax.prediction.materials import Material
from densityjax.prediction.model import Model, open_model
from densityjax.runtime import compile_cache
from densityjax.step.create_task import create_task, field_size
from densityjax.step.train_state import create_train_state

TARGETS = ("bulk_modulus", "band_gap", "formation_energy_per_atom")
CRYSTALS = {  # of test fold 0 of elastic_densities
    "mp-165": "Si", "mp-604884": "BN", "mp-1479": "BP", "mp-2490": "GaP", "mp-1143": "Al2O3",
    "mp-22862": "NaCl", "mp-682": "NaF", "mp-1145": "TiB2", "mp-13": "Fe", "mp-129": "Mo",
    "mp-153": "Mg", "mp-1434": "MoS2",
}
SHARES = np.linspace(0, 1, 11)
NUCLEUS, BOND = 0.6, 0.5  # Å about nuclei, and about midpoints of bonds
_BOND_LENGTH = 1.15  # of the shortest distance from an atom


def centres(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Fractional places of nuclei [N, 3] and of midpoints of nearest neighbours [M, 3]."""
    lattice = Lattice(record["lattice"].astype(np.float64))
    structure = Structure(lattice, [symbol(int(z)) for z in record["species"]], record["positions"])
    found = []
    for site, around in zip(structure, structure.get_all_neighbors(6.0), strict=True):
        nearest = min(neighbour.nn_distance for neighbour in around)
        found += [
            (site.frac_coords + neighbour.frac_coords) / 2 for neighbour in around
            if neighbour.nn_distance < _BOND_LENGTH * nearest
        ]
    return structure.frac_coords, np.array(found)


def near(record: dict, places: np.ndarray, radius: float) -> np.ndarray:
    """[G, G, G] bool, within `radius` Å of any of the places."""
    grid = len(record["density"])
    lattice = Lattice(record["lattice"].astype(np.float64))
    steps = np.arange(grid) / grid
    voxels = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    unique = np.unique(np.round(places % 1.0, 4) % 1.0, axis=0)
    found = np.zeros(len(voxels), bool)
    for place in unique:
        away = (voxels - place + 0.5) % 1.0 - 0.5
        images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
        for image in images:  # of skewed cells the nearest image is not the wrapped one
            found |= np.linalg.norm((away + image) @ lattice.matrix, axis=1) < radius
    return found.reshape((grid,) * 3)


def crystal_rows(
    model: Model, stored: StoredRecords, atoms, folder: Path, name: str, orders: int
) -> Iterator[dict]:
    """Where the maps of the crystals lie, a row per crystal, target and reference."""
    for identity, formula in tqdm(CRYSTALS.items(), unit="crystal"):
        material = stored.material(stored.ids.index(identity))
        record = material.record
        nuclei, bonds = centres(record)
        regions = {"nuclei": near(record, nuclei, NUCLEUS)}
        regions["bonds"] = near(record, bonds, BOND) & ~regions["nuclei"]
        regions["rest"] = ~(regions["nuclei"] | regions["bonds"])
        for target in TARGETS:
            question = ask(model, material, target)
            for reference in ("uniform", "atoms") if not orders else ("atoms",):
                settings = Settings(reference=reference, orders=orders)
                answer = explain(question, settings, atoms if reference == "atoms" else None)
                found, facts = answer.found, answer.facts
                absolute = np.abs(found.values)
                row = {
                    "crystal": formula, "id": identity, "target": target, "reference": reference,
                    "prediction": found.prediction, "of_reference": found.reference,
                    "map": float(found.values.sum()), "through_descriptors":
                    found.through_descriptors, "error": found.error, "answer": facts.get("answer"),
                    "answer_to_reference": facts.get("answer_to_reference"),
                    "atoms": " ".join(f"{r['element']} {r['value']:.3g}" for r in answer.rows),
                    "atoms_of_answer": " ".join(
                        f"{r['element']} {r['answer_value']:.3g}" for r in answer.rows if orders
                    ),
                }
                for region, where in regions.items():
                    row |= {
                        f"volume_{region}": float(where.mean()),
                        f"sum_{region}": float(found.values[where].sum()),
                        f"density_{region}": float(absolute[where].sum() / absolute.sum()),
                    }
                yield row
                draw_planes(folder / f"{name}_{formula}_{target}_{reference}.png", question, found,
                            answer.rows)


def randomised(question: Question) -> Question:
    """The same question to networks whose weights were drawn anew."""
    parts = []
    for place, part in enumerate(question.parts):
        model = part.model
        task = create_task(model.config, model.specs, num_steps=1)
        state = create_train_state(
            task.model, task.tx, model.statistics.arrays(), 1000 + place,
            field_size(model.config, question.model.grid),
        )
        arrays = part.arrays | {"params": jax.device_put(state.ema_params, jax.devices()[0])}
        parts.append(dataclasses.replace(part, arrays=arrays))
    return dataclasses.replace(question, parts=tuple(parts))


def smooth_map(question: Question, values: np.ndarray) -> np.ndarray:
    """As `explain` smooths it."""
    width = question.parts[0].task.view.spacing / 2
    return gaussian_smooth(values, question.material.record["lattice"], width)


def curve(question: Question, reference: np.ndarray, order: np.ndarray, insert: bool) -> np.ndarray:
    """Part of f(x) - f(x0) that is left as voxels are taken, or there as they are given, in order.

    Args:
        order: [G^3] voxels, the first to be taken or given first.
    """
    density, reference = question.density, question.see(reference)
    densities = []
    for share in SHARES:
        changed = np.zeros(order.size)
        changed[order[: round(share * order.size)]] = 1.0
        changed = changed.reshape(density.shape[:3])[..., None]
        kept = changed if insert else 1 - changed
        # Not scaled to all electrons, which would change every voxel, not those in question.
        densities.append((kept * density + (1 - kept) * reference).astype(np.float32))
    described = question.descriptors(densities)
    said = sum(
        part.share * question.network_values(part, np.stack(densities), own).mean(0)
        for part, own in zip(question.parts, described, strict=True)
    )
    whole, nothing = (said[-1], said[0]) if insert else (said[0], said[-1])
    return (said - nothing) / (whole - nothing)


def described_otherwise(record: dict) -> dict[str, tuple[dict, np.ndarray]]:
    """{change: (record, for each of its atoms the number of the first record's)}."""
    size, grid = len(record["species"]), len(record["density"])
    own = np.arange(size)
    shift = np.array([5, 11, 18])
    shifted = {
        **record, "density": np.roll(record["density"], shift, (0, 1, 2)),
        "positions": ((record["positions"] + shift / grid) % 1.0).astype(np.float32),
    }
    turn = Rotation.from_euler("xyz", [0.4, 1.1, -0.7]).as_matrix()
    rotated = {**record, "lattice": (record["lattice"] @ turn.T).astype(np.float32)}
    twice = np.concatenate([record["density"][..., 0]] * 2).astype(np.float64)
    double = Density(
        twice, None, record["lattice"].astype(np.float64) * [[2], [1], [1]],
        np.tile(record["species"], 2).astype(int),
        np.concatenate([record["positions"], record["positions"] + np.eye(3)[0]]) / [2, 1, 1],
        "", "doubled",
    )
    return {
        "shifted": (shifted, own), "rotated": (rotated, own),
        "doubled": (make_record(double, grid), np.tile(own, 2)),
    }


def orbits(record: dict) -> np.ndarray:
    """[N] number of the first atom that each is equivalent to by symmetry."""
    structure = Structure(
        Lattice(record["lattice"].astype(np.float64)),
        [symbol(int(z)) for z in record["species"]], record["positions"],
    )
    return SpacegroupAnalyzer(structure, symprec=0.01).get_symmetry_dataset().equivalent_atoms


def sanity_of(model: Model, material: Material, target: str, rng: np.random.Generator) -> dict:
    """Everything that is looked at of one material."""
    record, question = material.record, ask(model, material, target)
    reference = reference_density(record, None)
    found = integrated_gradients(question, reference, 16)
    values = smooth_map(question, found.values)
    drawn = integrated_gradients(randomised(question), reference, 16)
    result = {
        "formula": str(record["formula"]), "error": found.error,
        "through_descriptors": found.through_descriptors / found.difference,
        "rank_correlation_with_random_weights": float(
            spearmanr(values.ravel(), smooth_map(question, drawn.values).ravel()).statistic
        ),
    }
    noise = smooth_map(question, rng.normal(size=values.shape))
    sign = np.sign(found.difference)
    for name, field in {"map": sign * values, "random": noise}.items():
        order = np.argsort(-field.ravel())
        for kind in ("deletion", "insertion"):
            path = curve(question, reference, order, kind == "insertion")
            result[f"{kind}_{name}"] = float(np.trapezoid(path, SHARES))
    weights = atom_weights(record["lattice"], record["positions"], len(record["density"]))
    own = of_atoms(weights, found.by_view) * len(weights)  # [K, N]
    error = own.std(0) / np.sqrt(question.num_views)  # members share their views
    mean, scale = own.mean(0), float(np.abs(own.mean(0)).mean())
    same = orbits(record)
    result["equivalent"] = [
        (float(abs(mean[i] - mean[j])), float(np.hypot(error[i], error[j])), scale)
        for i in range(len(same)) for j in range(i) if same[i] == same[j]
    ]
    for change, (other, atoms) in described_otherwise(record).items():
        asked = ask(model, dataclasses.replace(material, record=other), target)
        moved = integrated_gradients(asked, reference_density(other, None), 16)
        parts = atom_weights(other["lattice"], other["positions"], len(other["density"]))
        seen = of_atoms(parts, moved.by_view) * len(parts)
        noise_of = np.hypot(seen.std(0), own.std(0)[atoms]) / np.sqrt(question.num_views)
        result[change] = {
            "difference": float(np.abs(seen.mean(0) - mean[atoms]).mean() / scale),
            "expected_from_views": float(noise_of.mean() / scale),
        }
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.maps", description=__doc__)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--name", required=True, help="of the run, in the names of the files")
    parser.add_argument("--target", default="bulk_modulus", help="of the sanity checks")
    parser.add_argument("--sane", type=int, default=8, help="materials of the sanity checks")
    parser.add_argument("--skip-crystals", action="store_true")
    parser.add_argument(
        "--orders", type=int, default=0,
        help="of the atoms, see explain; with the reference of atoms alone",
    )
    options = parser.parse_args(arguments)
    compile_cache.enable()
    logging.getLogger("absl").setLevel(logging.ERROR)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = options.out / "pictures"
    pictures.mkdir(exist_ok=True)
    model = open_model(options.workdir)
    stored = StoredRecords(model.members[0][0].config, model, "test")
    rng = np.random.default_rng(0)
    rows = [stored.ids.index(name) for name in CRYSTALS]
    others = [row for row in rng.permutation(len(stored)).tolist() if row not in rows]
    sane = []
    for row in tqdm(others[: options.sane], unit="material"):
        sane.append(sanity_of(model, stored.material(row), options.target, rng))
        (options.out / f"sanity_{options.name}.json").write_text(json.dumps(sane, indent=1))
    if options.skip_crystals:
        return
    atoms = average_atoms_of(model)
    with (options.out / f"crystals_{options.name}.csv").open("w", newline="") as file:
        writer = None
        for row in crystal_rows(model, stored, atoms, pictures, options.name, options.orders):
            writer = writer or csv.DictWriter(file, list(row), lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
