"""Labels and ids of Materials Project entries, pinned in a file: what a dataset is built from.

    python -m tfds_builders.materials_project.manifest nonmagnetic --out=mp/nonmagnetic

asks the Materials Project's API (key in MP_API_KEY) for labels, and its open bucket for what is
there, and writes OUT/manifest.jsonl and OUT/left_out.csv. README.md states every rule.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from densityjax.density.reader import Density, DensityFormatError
from tfds_builders.density_builder import DatasetSourceError
from tfds_builders.folds import fold_of
from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.bucket import Bucket, BucketError
from tfds_builders.table import write_table

FORMAT = 1
FILE, TABLE = "manifest.jsonl", "left_out.csv"
RUN_TYPES = {"GGA": "PBE", "GGA+U": "PBE+U", "r2SCAN": "r2SCAN"}  # -> functional of a record
THERMO_TYPES = {"GGA": "GGA_GGA+U", "GGA+U": "GGA_GGA+U", "r2SCAN": "R2SCAN"}
PHONON_METHOD = "dfpt"
STABLE_ABOVE = -0.1  # THz: an imaginary frequency beyond this makes an entry unstable
BULK_MODULUS_RANGE = (1.0, 600.0)  # GPa; diamond has 444 in PBE
SHEAR_MODULUS_RANGE = (0.0, 600.0)  # GPa
BAND_HOLE = 2.0  # eV without a state that ends the occupied manifold
BAND_HOLES_TRIED = (1.5, 3.0)  # eV: other choices must agree within
BANDWIDTH_TOLERANCE = 0.1  # relative
ELECTRON_TOLERANCE = 1e-3  # relative, of a density against the task's NELECT
VOLUME_TOLERANCE = 1e-3  # relative, of a density's cell against the task's
_IDS_PER_REQUEST = 100  # the API's limit for tasks


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One of the paper's datasets.

    Attributes:
        targets: its labels.
        has_props: properties that the API must know of an entry.
        magnetic: whether entries must be magnetic or not; None takes both.
        required: label without which an entry is left out.
    """

    targets: tuple[str, ...]
    has_props: tuple[str, ...]
    magnetic: bool | None
    required: str


DATASETS = {
    "nonmagnetic": Dataset(
        targets=(
            "bulk_modulus", "volume", "density", "total_energy", "formation_energy_per_atom",
            "fermi_energy", "band_gap", "bandwidth",
        ),
        has_props=("elasticity",), magnetic=False, required="bulk_modulus",
    ),
    "magnetic": Dataset(
        targets=("magnetic_moment", "volume", "density"),
        has_props=("magnetism",), magnetic=True, required="magnetic_moment",
    ),
    "stability": Dataset(
        targets=("is_stable", "volume", "density"),
        has_props=("phonon",), magnetic=None, required="is_stable",
    ),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A material, the task whose density stands for it, and its labels; one line of a manifest.

    Attributes:
        key, size, etag: object in the bucket, its bytes, and its checksum.
        num_electrons, grid: what the task's parameters say of its density; None if nothing.
        volume: Å^3 of the task's cell.
        labels: target -> label in the unit of `densityjax.targets`; a missing one is absent.
        origins: where labels of other calculations come from, and the numbers behind them.
    """

    material_id: str
    task_id: str
    run_type: str
    formula: str
    chemical_system: str
    fold: int
    key: str
    size: int
    etag: str
    num_electrons: float | None
    grid: tuple[int, int, int] | None
    volume: float
    labels: dict[str, float]
    origins: dict[str, Any]

    def check(self, density: Density) -> None:
        """Raises DensityFormatError if a density is not that of this entry's task."""

        def expect(what: str, found: Any, expected: Any, agree: bool) -> None:
            if not agree:
                raise DensityFormatError(
                    f"{density.source}: {what} is {found}; expected {expected}, as the manifest "
                    f"says of {self.task_id}"
                )

        expect("the formula", density.formula, self.formula, density.formula == self.formula)
        if self.grid is not None:
            found = density.values.shape
            expect("the grid", found, self.grid, found == self.grid)
        agree = abs(density.volume / self.volume - 1) < VOLUME_TOLERANCE
        expect("the volume", f"{density.volume:.4f} Å^3", f"{self.volume:.4f}", agree)
        found = density.num_electrons
        expected = self.num_electrons or max(1, round(found))  # a task without NELECT
        agree = abs(found / expected - 1) < ELECTRON_TOLERANCE
        expect("the number of electrons", f"{found:.4f}", f"{expected:.4f}", agree)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Entries with what they share.

    Attributes:
        header: dataset, run_type, database_version, created and the rules that were applied.
        sha256: of the file; '' before it is written.
    """

    header: dict[str, Any]
    entries: list[Entry]
    sha256: str = ""


def make_manifest(
    client: Any,
    bucket: Bucket,
    name: str,
    run_type: str = "GGA",
    material_ids: Sequence[str] | None = None,
    threads: int = 16,
) -> tuple[Manifest, list[LeftOut]]:
    """Asks for the entries of a dataset and pins them.

    Args:
        client: `mp_api.client.MPRester(use_document_model=False)`, whose documents are dicts.
        bucket: that holds the densities; only asked what is there.
        name: of `DATASETS`.
        run_type: the one that every density and label computed with it must have.
        material_ids: only these.

    Returns:
        The manifest, and what was left out of it, or replaced, and why.

    Raises:
        ValueError: no such dataset or run type.
    """
    if name not in DATASETS or run_type not in RUN_TYPES:
        raise ValueError(
            f"no dataset '{name}' or run type '{run_type}'; known: {', '.join(DATASETS)}; "
            f"{', '.join(RUN_TYPES)}"
        )
    dataset = DATASETS[name]
    left_out: list[LeftOut] = []
    summaries = _find_materials(client, dataset, material_ids, left_out)
    entries = []
    for batch in _batches(list(summaries)):
        asked = {material_id: summaries[material_id] for material_id in batch}
        tasks = _candidates(client, asked, run_type, left_out)
        chosen = _choose_tasks(bucket, tasks, threads, left_out)
        labels = _Labels(client, run_type, dataset.targets, asked, left_out)
        for material_id, (task, obj) in chosen.items():
            structure = Structure.from_dict(task["structure"])
            values, origins = labels.of(material_id, task, structure)
            if dataset.required not in values:
                reason = f"it has no {dataset.required}"
                left_out.append(LeftOut(material_id, task["task_id"], "entry", reason))
                continue
            parameters = _parameters(task)
            grid = tuple(parameters.get(f"NG{axis}F") for axis in "XYZ")
            system = structure.composition.chemical_system
            entries.append(
                Entry(
                    material_id, task["task_id"], run_type, structure.composition.reduced_formula,
                    system, fold_of(system), obj.key, obj.size, obj.etag,
                    parameters.get("NELECT"), None if None in grid else grid,
                    structure.volume, values, origins,
                )
            )
    entries.sort(key=lambda entry: entry.material_id)
    header = {
        "format": FORMAT,
        "dataset": name,
        "run_type": run_type,
        "database_version": client.db_version,
        "bucket": bucket.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rules": {
            "thermo_type": THERMO_TYPES[run_type],
            "phonon_method": PHONON_METHOD,
            "stable_above_THz": STABLE_ABOVE,
            "bulk_modulus_GPa": list(BULK_MODULUS_RANGE),
            "shear_modulus_GPa": list(SHEAR_MODULUS_RANGE),
            "band_hole_eV": BAND_HOLE,
        },
    }
    return Manifest(header, entries), left_out


def write_manifest(manifest: Manifest, folder: str | Path) -> Manifest:
    """Writes FOLDER/manifest.jsonl whole or not at all; returns it with its digest."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [manifest.header, *(dataclasses.asdict(entry) for entry in manifest.entries)]
    data = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
    partial = folder / f"{FILE}.part"
    partial.write_bytes(data)
    partial.replace(folder / FILE)
    return dataclasses.replace(manifest, sha256=hashlib.sha256(data).hexdigest())


def read_manifest(folder: str | Path) -> Manifest:
    """Reads what `write_manifest` wrote.

    Raises:
        DatasetSourceError: the file is missing or damaged, or mixes run types.
    """
    path = Path(folder) / FILE
    make = "make it with: python -m tfds_builders.materials_project.manifest DATASET --out=FOLDER"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetSourceError(f"{path}: {error.strerror}; {make}") from error
    number, entries = 1, []
    try:
        lines = data.decode().splitlines()
        header = json.loads(lines[0])
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}, expected {FORMAT}")
        if header["dataset"] not in DATASETS or header["run_type"] not in RUN_TYPES:
            raise ValueError("an unknown dataset or run type")
        for line in lines[1:]:
            number += 1
            fields = json.loads(line)
            fields["grid"] = tuple(fields["grid"]) if fields["grid"] else None
            entry = Entry(**fields)
            if entry.run_type != header["run_type"]:
                raise ValueError(f"run type {entry.run_type} among {header['run_type']}")
            entries.append(entry)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        problem = f"{path}: line {number}: not a manifest ({error})"
        raise DatasetSourceError(f"{problem}; {make}") from error
    return Manifest(header, entries, hashlib.sha256(data).hexdigest())


def bandwidth(energies: np.ndarray, top: float) -> float | None:
    """Width of the occupied manifold: from `top` down to the first hole of 2 eV.

    Args:
        energies: eV, of all bands at all k points and both spins, any shape.
        top: eV, Fermi energy of a metal or top of the valence band.

    Returns:
        eV; None where a hole of 1.5 or 3 eV would change the result by over 10 %, and where there
        is no occupied state. tfds_builders/elastic_densities has the same definition.
    """
    occupied = np.sort(energies[energies <= top + 1e-6], axis=None)[::-1]  # from the top
    if not occupied.size:
        return None
    widths = []
    for hole in (BAND_HOLE, *BAND_HOLES_TRIED):
        ends = np.flatnonzero(-np.diff(occupied) >= hole)
        widths.append(float(top - occupied[ends[0] if ends.size else -1]))
    if any(abs(other - widths[0]) > BANDWIDTH_TOLERANCE * widths[0] for other in widths[1:]):
        return None
    return widths[0]


def lowest_frequency(frequencies: np.ndarray, q_points: np.ndarray) -> float:
    """Lowest phonon frequency, THz, imaginary ones being negative.

    The three branches nearest to zero at Gamma are the acoustic ones, zero but for errors, and
    left out: an imaginary optical mode there counts.

    Args:
        frequencies: [branches, q].
        q_points: [q, 3] fractional.
    """
    frequencies = np.array(frequencies, float)
    order = np.argsort(np.abs(frequencies), axis=0)
    frequencies = np.take_along_axis(frequencies, order, axis=0)
    gamma = np.all(np.abs(np.asarray(q_points) - np.round(q_points)) < 1e-6, axis=1)
    frequencies[:3, gamma] = np.inf
    return float(frequencies.min())


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_PER_REQUEST):
        yield ids[start : start + _IDS_PER_REQUEST]


def _find_materials(
    client: Any, dataset: Dataset, material_ids: Sequence[str] | None, left_out: list[LeftOut]
) -> dict[str, dict[str, Any]]:
    """Summaries by material id, of the entries that belong to a dataset."""
    only = {} if material_ids is None else {"material_ids": list(material_ids)}
    documents = client.materials.summary.search(
        has_props=list(dataset.has_props), deprecated=False, all_fields=False,
        fields=["material_id", "is_magnetic", "ordering", "phonon_IDs"], **only,
    )
    found = {}
    for document in documents:
        material_id = str(document["material_id"])
        magnetic = document.get("is_magnetic")
        if dataset.magnetic is not None and magnetic is None:
            reason = "the summary does not say whether it is magnetic"
            left_out.append(LeftOut(material_id, "", "entry", reason))
        elif dataset.magnetic in (None, magnetic):
            found[material_id] = document
    for material_id in material_ids or ():
        if material_id not in found:
            reason = "no such entry, or not one of this dataset (deprecated, magnetic, no property)"
            left_out.append(LeftOut(material_id, "", "entry", reason))
    return found


def _candidates(
    client: Any, summaries: Mapping[str, Any], run_type: str, left_out: list[LeftOut]
) -> dict[str, list[dict[str, Any]]]:
    """Documents of the static tasks of each material in this run type, the latest first."""
    ids = list(summaries)
    documents = client.materials.search(
        material_ids=ids, all_fields=False,
        fields=["material_id", "calc_types", "deprecated_tasks"],
    )
    static: dict[str, list[str]] = {material_id: [] for material_id in ids}
    for document in documents:
        deprecated = set(map(str, document.get("deprecated_tasks") or ()))
        types = {str(t): str(c) for t, c in (document.get("calc_types") or {}).items()}
        material_id = str(document["material_id"])
        static[material_id] = [
            task for task, kind in types.items()
            if kind.casefold() == f"{run_type} Static".casefold() and task not in deprecated
        ]
        if not static[material_id]:
            others = sorted({kind for kind in types.values() if kind.endswith("Static")})
            reason = f"no {run_type} Static task; it has {', '.join(others) or 'no static task'}"
            left_out.append(LeftOut(material_id, "", "entry", reason))
    tasks: dict[str, dict[str, Any]] = {}
    wanted = [task for ids_ in static.values() for task in ids_]
    for batch in _batches(wanted):
        found = client.materials.tasks.search(
            task_ids=list(batch), all_fields=False,
            fields=["task_id", "last_updated", "run_type", "structure", "output", "input"],
        )
        tasks |= {str(document["task_id"]): document for document in found}
    result = {}
    for material_id, task_ids in static.items():
        usable = []
        for task_id in task_ids:
            task = tasks.get(task_id)
            if task is None:
                reason = "the API has no document of it"
            elif not _same_run_type(task.get("run_type"), run_type):
                reason = f"run type {task.get('run_type')}, not {run_type}"
            elif not task.get("structure"):
                reason = "its document has no structure"
            else:
                usable.append(task | {"task_id": task_id})
                continue
            left_out.append(LeftOut(material_id, task_id, "task", reason))
        # Ties of the date are broken by the id, so that the choice is always the same.
        usable.sort(key=lambda task: (str(task["last_updated"]), task["task_id"]), reverse=True)
        if usable:
            result[material_id] = usable
        elif task_ids:
            left_out.append(LeftOut(material_id, "", "entry", "none of its tasks can be used"))
    return result


def _choose_tasks(
    bucket: Bucket, tasks: Mapping[str, list[dict[str, Any]]], threads: int, left_out: list[LeftOut]
) -> dict[str, tuple[dict[str, Any], Any]]:
    """The first task of each material whose density is in the bucket, with its object."""

    def choose(material_id: str) -> tuple[Any, list[LeftOut]]:
        rows = []
        for task in tasks[material_id]:
            key = object_key(task["task_id"])
            obj = bucket.find(key)
            if obj is not None:
                if rows:
                    reason = f"taken instead of {rows[0].task_id}, which has no density"
                    rows.append(LeftOut(material_id, task["task_id"], "task", reason))
                return (task, obj), rows
            rows.append(LeftOut(material_id, task["task_id"], "task", f"the bucket has no {key}"))
        rows.append(LeftOut(material_id, "", "entry", "the bucket has no density of its tasks"))
        return None, rows

    chosen = {}
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for material_id, (found, rows) in zip(tasks, pool.map(choose, tasks)):
            left_out.extend(rows)
            if found:
                chosen[material_id] = found
    return chosen


def object_key(task_id: str) -> str:
    """Key of a task's density in the bucket.

    Tasks have a number up to mp-3347529, in keys too; the API may give these as letters, mp-149 as
    'mp-aaaaaaft' (https://github.com/materialsproject/emmet, AlphaID).
    """
    if not re.fullmatch(r"[a-z]+-\d+", task_id):
        from emmet.core.mpid import AlphaID  # comes with mp-api

        task_id = AlphaID(task_id.rpartition("-")[2], prefix="mp").string
    return f"chgcars/{task_id}.json.gz"


def _same_run_type(found: Any, expected: str) -> bool:
    return str(found).casefold() == expected.casefold()


def _parameters(task: Mapping[str, Any]) -> dict[str, Any]:
    """vasprun.xml's parameters in a task document: NELECT and the fine grid NGXF, NGYF, NGZF."""
    parameters = (task.get("input") or {}).get("parameters") or {}
    return json.loads(parameters) if isinstance(parameters, str) else parameters


class _Labels:
    """Labels of a batch of materials: documents are fetched together, rules applied one by one."""

    def __init__(
        self, client: Any, run_type: str, targets: Sequence[str],
        summaries: Mapping[str, Mapping[str, Any]], left_out: list[LeftOut],
    ):
        self._client, self._run_type, self._targets = client, run_type, targets
        self._summaries, self._left_out = summaries, left_out
        materials, ids = client.materials, list(summaries)

        def by_material(rester: Any, fields: list[str], **query: Any) -> dict[str, Any]:
            found = rester.search(material_ids=ids, all_fields=False, fields=fields, **query)
            return {str(document["material_id"]): document for document in found}

        self._elasticity = self._thermo = self._bands = self._elastic_run_types = {}
        if "bulk_modulus" in targets:
            fields = ["material_id", "state", "order", "bulk_modulus", "shear_modulus"]
            self._elasticity = by_material(materials.elasticity, [*fields, "fitting_data"])
            self._elastic_run_types = self._find_elastic_run_types()
        if "formation_energy_per_atom" in targets:
            fields = ["material_id", "thermo_type", "energy_type", "energy_per_atom"]
            fields += ["uncorrected_energy_per_atom", "formation_energy_per_atom"]
            types = [THERMO_TYPES[run_type]]
            self._thermo = by_material(materials.thermo, fields, thermo_types=types)
        if "bandwidth" in targets:
            fields = ["material_id", "bandstructure"]
            self._bands = by_material(materials.electronic_structure, fields)

    def of(
        self, material_id: str, task: Mapping[str, Any], structure: Structure
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Labels and their origins of a material whose density is that of `task`."""
        output = task.get("output") or {}
        rules = {
            "volume": lambda: (structure.volume, {}),
            "density": lambda: (float(structure.density), {}),
            "total_energy": lambda: (_number(output, "energy", "the task"), {}),
            "fermi_energy": lambda: (_number(output, "efermi", "the task"), {}),
            "band_gap": lambda: (_positive(_number(output, "bandgap", "the task"), "gap"), {}),
            "magnetic_moment": lambda: self._moment(output, structure),
            "bulk_modulus": lambda: self._bulk_modulus(material_id),
            "formation_energy_per_atom": lambda: self._formation_energy(material_id),
            "bandwidth": lambda: self._bandwidth(material_id),
            "is_stable": lambda: self._is_stable(material_id),
        }
        labels, origins = {}, {}
        for target in self._targets:
            try:
                labels[target], origin = rules[target]()
                origins |= origin
            except _NoLabelError as error:
                self._left_out.append(LeftOut(material_id, task["task_id"], target, str(error)))
        return labels, origins

    def _moment(self, output: Mapping[str, Any], structure: Structure) -> tuple[float, dict]:
        # Of the cell; emmet writes total moment / volume.
        return abs(_number(output, "mag_density", "the task")) * structure.volume, {}

    def _find_elastic_run_types(self) -> dict[str, str]:
        """Run types of the tasks that elastic tensors were fitted to, by task id."""
        wanted = sorted({task for doc in self._elasticity.values() for task in _elastic_tasks(doc)})
        found = {}
        for batch in _batches(wanted):
            documents = self._client.materials.tasks.search(
                task_ids=list(batch), all_fields=False, fields=["task_id", "run_type"]
            )
            found |= {str(d["task_id"]): str(d.get("run_type")) for d in documents}
        return found

    def _bulk_modulus(self, material_id: str) -> tuple[float, dict[str, Any]]:
        document = self._elasticity.get(material_id)
        if document is None:
            raise _NoLabelError("no elasticity document")
        if str(document.get("state", "successful")).casefold() not in ("successful", "none"):
            raise _NoLabelError(f"the elastic fit is {document['state']}")
        tasks = _elastic_tasks(document)
        run_types = {self._elastic_run_types.get(task, "unknown") for task in tasks} or {"unknown"}
        if not all(_same_run_type(found, self._run_type) for found in run_types):
            found = ", ".join(sorted(run_types))
            raise _NoLabelError(f"elastic tensor of run type {found}, not {self._run_type}")
        bulk, shear = document.get("bulk_modulus") or {}, document.get("shear_modulus") or {}
        voigt, reuss, hill = (_number(bulk, k, "K") for k in ("voigt", "reuss", "vrh"))
        low, high = BULK_MODULUS_RANGE
        if not low <= hill <= high:
            raise _NoLabelError(f"K_VRH of {hill:g} GPa is not in [{low:g}, {high:g}]")
        if not 0 < reuss <= voigt + 0.01 or abs(hill - (voigt + reuss) / 2) > 0.02 + 1e-3 * hill:
            raise _NoLabelError(
                f"K of {reuss:g} (Reuss), {hill:g} (Hill), {voigt:g} GPa (Voigt): expected "
                "0 < Reuss <= Voigt, and Hill their mean"
            )
        low, high = SHEAR_MODULUS_RANGE
        if not low < (g := _number(shear, "vrh", "G")) <= high:
            raise _NoLabelError(f"G_VRH of {g:g} GPa is not in ({low:g}, {high:g}]")
        return hill, {"elasticity_tasks": tasks}

    def _formation_energy(self, material_id: str) -> tuple[float, dict[str, Any]]:
        document = self._thermo.get(material_id)
        if document is None:
            raise _NoLabelError(f"no thermo document of {THERMO_TYPES[self._run_type]}")
        if not _same_run_type(document.get("energy_type"), self._run_type):
            raise _NoLabelError(f"energy of run type {document.get('energy_type')}")
        energy = _number(document, "formation_energy_per_atom", "the thermo document")
        corrected, raw = (document.get(f"{kind}energy_per_atom") for kind in ("", "uncorrected_"))
        correction = None if corrected is None or raw is None else corrected - raw
        return energy, {"energy_correction_per_atom": correction}

    def _bandwidth(self, material_id: str) -> tuple[float, dict[str, Any]]:
        document = (self._bands.get(material_id) or {}).get("bandstructure") or {}
        summary = document.get("setyawan_curtarolo") or {}
        if not (task_id := summary.get("task_id")):
            raise _NoLabelError("no band structure along the Setyawan-Curtarolo path")
        rester = self._client.materials.electronic_structure_bandstructure
        try:
            bands = rester.get_bandstructure_from_task_id(
                str(task_id), run_type=self._run_type, path_type="setyawan_curtarolo"
            )
        except Exception as error:  # MPRestError, of a package that need not be there
            raise _NoLabelError(f"band structure {task_id} ({self._run_type}): {error}") from error
        energies = np.concatenate([np.ravel(values) for values in bands.bands.values()])
        top = float(bands.efermi) if bands.is_metal() else float(bands.get_vbm()["energy"])
        width = bandwidth(energies, top)
        if width is None:
            raise _NoLabelError(f"no clear lower edge of the occupied bands of {task_id}")
        return width, {"band_structure_task": str(task_id)}

    def _is_stable(self, material_id: str) -> tuple[float, dict[str, Any]]:
        ids = self._summaries[material_id].get("phonon_IDs") or {}
        ids = {str(getattr(k, "value", k)): v for k, v in ids.items()}
        if not ids.get(PHONON_METHOD):
            raise _NoLabelError(f"no phonons by {PHONON_METHOD}; it has {', '.join(ids) or 'none'}")
        # The order of the API's list means nothing; the lowest id is always the same one.
        phonon_id = min(map(str, ids[PHONON_METHOD]), key=lambda i: (len(i), i))
        try:
            bands = self._client.materials.phonon.get_bandstructure_from_phonon_id(
                phonon_id, PHONON_METHOD
            )
        except Exception as error:  # MPRestError, of a package that need not be there
            raise _NoLabelError(f"phonon band structure {phonon_id}: {error}") from error
        lowest = lowest_frequency(bands["frequencies"], bands["qpoints"])
        if not math.isfinite(lowest):
            raise _NoLabelError(f"phonons {phonon_id} have no finite frequency")
        stable = float(lowest >= STABLE_ABOVE)
        return stable, {"phonon": phonon_id, "lowest_frequency_THz": lowest}


class _NoLabelError(Exception):
    """There is no label, or none that the rules admit; the message says why."""


def _elastic_tasks(document: Mapping[str, Any]) -> list[str]:
    """Ids of the tasks behind an elastic tensor that tell its run type."""
    data = document.get("fitting_data") or {}
    tasks = [data.get("optimization_task"), *(data.get("deformation_tasks") or ())]
    return [str(task) for task in tasks if task][:2]


def _number(document: Mapping[str, Any], key: str, source: str) -> float:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _NoLabelError(f"{source}: no finite '{key}' ({value})")
    return float(value)


def _positive(value: float, name: str) -> float:
    if value < 0:
        raise _NoLabelError(f"a negative {name} ({value:g})")
    return value


def _make_client() -> Any:
    """The API's client. Raises DatasetSourceError without a key or the package."""
    if not os.environ.get("MP_API_KEY"):
        raise DatasetSourceError(
            "MP_API_KEY is not set; get a key at https://next-gen.materialsproject.org/api and "
            "export it (densities need none)"
        )
    try:
        from mp_api.client import MPRester
    except ImportError as error:
        raise DatasetSourceError(
            f"mp-api is not installed ({error}); pip install 'densityjax[materials_project]'"
        ) from error
    return MPRester(use_document_model=False, mute_progress_bars=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a manifest. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.materials_project.manifest",
        description="Pins ids and labels of Materials Project entries.",
    )
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--out", required=True, help="folder of the manifest and its densities")
    parser.add_argument("--run_type", default="GGA", choices=RUN_TYPES)
    parser.add_argument("--material_ids", nargs="+", help="only these")
    parser.add_argument("--endpoint_url", help="S3 server, if not that of AWS")
    parser.add_argument("--threads", type=int, default=16)
    args = parser.parse_args(arguments)
    path = Path(args.out) / FILE
    if path.exists():
        print(f"error: {path} exists; ids stay pinned: name another --out", file=sys.stderr)
        return 1
    try:
        client = _make_client()
        bucket = Bucket(endpoint_url=args.endpoint_url, connections=args.threads)
        manifest, left_out = make_manifest(
            client, bucket, args.dataset, args.run_type, args.material_ids, args.threads
        )
        manifest = write_manifest(manifest, args.out)
        write_table(Path(args.out) / TABLE, left_out, LeftOut)
    except (DatasetSourceError, BucketError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(entry.size for entry in manifest.entries)
    print(
        f"{path}: {len(manifest.entries)} entries of database {client.db_version}, "
        f"{size / 1e9:.2f} GB to download; {len(left_out)} rows in {TABLE}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
