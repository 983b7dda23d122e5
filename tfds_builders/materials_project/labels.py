"""Labels of a batch of materials: documents are fetched together, rules applied one by one."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from pymatgen.core import Structure

from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.api import AbsentError, Api, UnreadableError
from tfds_builders.materials_project.entries import Dataset
from tfds_builders.materials_project.ids import number_of, spelled
from tfds_builders.materials_project.rules import (
    PHONON_METHOD,
    STABLE_ABOVE,
    THERMO_TYPES,
    NoLabelError,
    bandwidth,
    bulk_modulus,
    chosen_phonons,
    elastic_tasks,
    finite_number,
    formation_energy,
    lowest_frequency,
    magnetic_moment,
    not_negative,
    same_run_type,
)

_T = TypeVar("_T")
_Label = tuple[float, dict[str, Any]]  # and where it comes from


@dataclasses.dataclass
class Found:
    """Labels of a material.

    Attributes:
        labels, origins: as of `entries.Entry`.
        missing: a row for each label that there is not.
    """

    labels: dict[str, float] = dataclasses.field(default_factory=dict)
    origins: dict[str, Any] = dataclasses.field(default_factory=dict)
    missing: list[LeftOut] = dataclasses.field(default_factory=list)


class Labels:
    """Labels of a batch of materials.

    Args:
        api: that is asked.
        run_type: that every label must be computed with.
        dataset: says which labels.
        summaries: {number of the material: summary document}.
        kinds: {number of a task: 'GGA Static'} of the materials' own tasks.

    Raises:
        ApiError: the API does not answer.
    """

    def __init__(
        self, api: Api, run_type: str, dataset: Dataset,
        summaries: Mapping[int, Mapping[str, Any]], kinds: Mapping[int, str],
    ):
        self._api, self._run_type, self._dataset = api, run_type, dataset
        self._summaries = summaries
        self._elasticity: dict[int, Any] = {}
        self._thermo: dict[int, Any] = {}
        self._bands: dict[int, Any] = {}
        if "bulk_modulus" in dataset.targets:
            fields = ["material_id", "state", "order", "bulk_modulus", "shear_modulus"]
            self._elasticity = self._by_material(
                "elasticity", list(summaries), [*fields, "fitting_data"]
            )
            self._elastic_run_types = self._find_elastic_run_types(kinds)

    def without_required(self) -> dict[int, Found]:
        """Materials whose required label is known to be missing before any density is looked at."""
        if self._dataset.required != "bulk_modulus":
            return {}
        found = {}
        for number in self._summaries:
            try:
                self._bulk_modulus(number)
            except NoLabelError as error:
                row = LeftOut(spelled(number), "", "bulk_modulus", str(error))
                found[number] = Found(missing=[row])
        return found

    def fetch(self, materials: Sequence[int]) -> None:
        """Asks for the documents that only materials with a density need."""
        targets = self._dataset.targets
        if "formation_energy_per_atom" in targets:
            fields = ["material_id", "thermo_type", "energy_type", "energy_per_atom"]
            fields += ["uncorrected_energy_per_atom", "formation_energy_per_atom"]
            types = [THERMO_TYPES[self._run_type]]
            self._thermo = self._by_material("thermo", materials, fields, thermo_types=types)
        if "bandwidth" in targets:
            fields = ["material_id", "bandstructure"]
            self._bands = self._by_material("electronic_structure", materials, fields)

    def of(self, number: int, task_id: str, task: Mapping[str, Any], structure: Structure) -> Found:
        """Labels of a material whose density is that of `task`; asks for its band structure.

        The label that the dataset requires comes first: without it nothing else is asked for.

        Raises:
            ApiError: a band structure could not be read, though it may be there.
        """
        output = task.get("output") or {}
        rules = {
            "volume": lambda: (structure.volume, {}),
            "density": lambda: (float(structure.density), {}),
            "total_energy": lambda: (finite_number(output, "energy", "the task"), {}),
            "fermi_energy": lambda: (finite_number(output, "efermi", "the task"), {}),
            "band_gap": lambda: self._band_gap(output),
            "magnetic_moment": lambda: (magnetic_moment(output, structure.volume), {}),
            "bulk_modulus": lambda: self._bulk_modulus(number),
            "formation_energy_per_atom": lambda: self._formation_energy(number),
            "bandwidth": lambda: self._bandwidth(number),
            "is_stable": lambda: self._is_stable(number),
        }
        found, required = Found(), self._dataset.required
        for target in sorted(self._dataset.targets, key=lambda name: name != required):
            try:
                found.labels[target], origin = rules[target]()
                found.origins |= origin
            except NoLabelError as error:
                found.missing.append(LeftOut(spelled(number), task_id, target, str(error)))
                if target == required:
                    break
        return found

    def _by_material(
        self, name: str, materials: Sequence[int], fields: list[str], **query: Any
    ) -> dict[int, Any]:
        """Documents of one of the API's collections by the number of their material."""
        rester = getattr(self._api.client.materials, name)
        documents = self._api.search_ids(name, rester, fields, "material_ids", materials, **query)
        return {number_of(document["material_id"]): document for document in documents}

    def _band_gap(self, output: Mapping[str, Any]) -> _Label:
        return not_negative(finite_number(output, "bandgap", "the task"), "gap"), {}

    def _find_elastic_run_types(self, kinds: Mapping[int, str]) -> dict[int, str]:
        """Run types, as far as they are known, of the tasks behind elastic tensors.

        Args:
            kinds: of the materials' own tasks, the relaxation of which is often the first of them.
        """
        behind = [elastic_tasks(document) for document in self._elasticity.values()]
        # 'GGA Structure Optimization': no run type has a space in it.
        known = {
            task: kinds[task].partition(" ")[0]
            for tasks in behind for task in tasks if task in kinds
        }
        # A tensor has up to 24 deformations: the rest of them only where the first two say nothing.
        for last in (2, None):
            wanted = {
                task for tasks in behind if not known.keys() & set(tasks) for task in tasks[:last]
            }
            documents = self._api.search_ids(
                "run types of tasks", self._api.client.materials.tasks, ["task_id", "run_type"],
                "task_ids", sorted(wanted),
            )
            known |= {number_of(d["task_id"]): str(d.get("run_type")) for d in documents}
        return known

    def _bulk_modulus(self, number: int) -> _Label:
        document = self._elasticity.get(number)
        if document is None:
            raise NoLabelError("no elasticity document")
        if str(document.get("state", "successful")).casefold() not in ("successful", "none"):
            raise NoLabelError(f"the elastic fit is {document['state']}")
        tasks = elastic_tasks(document)
        # Not every deformation is public; those that are must agree.
        known = {t: self._elastic_run_types[t] for t in tasks if t in self._elastic_run_types}
        run_types = set(known.values()) or {"unknown"}
        if not all(same_run_type(found, self._run_type) for found in run_types):
            found = ", ".join(sorted(run_types))
            raise NoLabelError(f"elastic tensor of run type {found}, not {self._run_type}")
        return bulk_modulus(document), {"elasticity_tasks": [spelled(task) for task in known]}

    def _formation_energy(self, number: int) -> _Label:
        document = self._thermo.get(number)
        if document is None:
            raise NoLabelError(f"no thermo document of {THERMO_TYPES[self._run_type]}")
        energy, correction = formation_energy(document, self._run_type)
        return energy, {"energy_correction_per_atom": correction}

    def _bandwidth(self, number: int) -> _Label:
        document = (self._bands.get(number) or {}).get("bandstructure") or {}
        summary = document.get("setyawan_curtarolo") or {}
        if not (given := summary.get("task_id")):
            raise NoLabelError("no band structure along the Setyawan-Curtarolo path")
        task_id = spelled(number_of(given))
        rester = self._api.client.materials.electronic_structure_bandstructure

        def read() -> tuple[np.ndarray, float]:
            bands = rester.get_bandstructure_from_task_id(
                task_id, run_type=self._run_type, path_type="setyawan_curtarolo"
            )
            energies = np.concatenate([np.ravel(values) for values in bands.bands.values()])
            top = float(bands.efermi) if bands.is_metal() else float(bands.get_vbm()["energy"])
            return energies, top  # eV

        what = f"band structure {task_id} ({self._run_type}) of {spelled(number)}"
        width = bandwidth(*self._fetch("bands", what, read))
        if width is None:
            raise NoLabelError(f"no clear lower edge of the occupied bands of {task_id}")
        return width, {"band_structure_task": task_id}

    def _is_stable(self, number: int) -> _Label:
        phonon_id = spelled(chosen_phonons(self._summaries[number]))
        rester = self._api.client.materials.phonon

        def read() -> float:
            bands = rester.get_bandstructure_from_phonon_id(phonon_id, PHONON_METHOD)
            return lowest_frequency(bands["frequencies"], bands["qpoints"])

        what = f"phonon band structure {phonon_id} of {spelled(number)}"
        lowest = self._fetch("phonons", what, read)
        if not math.isfinite(lowest):
            raise NoLabelError(f"phonons {phonon_id} have no finite frequency")
        stable = float(lowest >= STABLE_ABOVE)
        return stable, {"phonon": phonon_id, "lowest_frequency_THz": lowest}

    def _fetch(self, table: str, what: str, read: Callable[[], _T]) -> _T:
        """read(). Raises NoLabelError where there is no such object, or none that can be read."""
        try:
            return self._api.fetch(table, what, read)
        except (AbsentError, UnreadableError) as error:
            raise NoLabelError(f"{what}: {error}") from error
