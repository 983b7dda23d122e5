"""Labels of a batch of materials: documents are fetched together, rules applied one by one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pymatgen.core import Structure

from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.queries import batches
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
    not_negative,
    same_run_type,
)


class Labels:
    """Labels of a batch of materials.

    Args:
        client: the API's, see `manifest.make_manifest`.
        run_type: that every label must be computed with.
        targets: names of the labels.
        summaries: {material id: summary document}.
        left_out: gets a row for each label that there is not.
    """

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
            "total_energy": lambda: (finite_number(output, "energy", "the task"), {}),
            "fermi_energy": lambda: (finite_number(output, "efermi", "the task"), {}),
            "band_gap": lambda: self._band_gap(output),
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
            except NoLabelError as error:
                self._left_out.append(LeftOut(material_id, task["task_id"], target, str(error)))
        return labels, origins

    def _band_gap(self, output: Mapping[str, Any]) -> tuple[float, dict]:
        return not_negative(finite_number(output, "bandgap", "the task"), "gap"), {}

    def _moment(self, output: Mapping[str, Any], structure: Structure) -> tuple[float, dict]:
        # Of the cell; emmet writes total moment / volume.
        return abs(finite_number(output, "mag_density", "the task")) * structure.volume, {}

    def _find_elastic_run_types(self) -> dict[str, str]:
        """Run types of the tasks that elastic tensors were fitted to, by task id."""
        wanted = sorted({task for doc in self._elasticity.values() for task in elastic_tasks(doc)})
        found = {}
        for batch in batches(wanted):
            documents = self._client.materials.tasks.search(
                task_ids=list(batch), all_fields=False, fields=["task_id", "run_type"]
            )
            found |= {str(d["task_id"]): str(d.get("run_type")) for d in documents}
        return found

    def _bulk_modulus(self, material_id: str) -> tuple[float, dict[str, Any]]:
        document = self._elasticity.get(material_id)
        if document is None:
            raise NoLabelError("no elasticity document")
        if str(document.get("state", "successful")).casefold() not in ("successful", "none"):
            raise NoLabelError(f"the elastic fit is {document['state']}")
        tasks = elastic_tasks(document)
        run_types = {self._elastic_run_types.get(task, "unknown") for task in tasks} or {"unknown"}
        if not all(same_run_type(found, self._run_type) for found in run_types):
            found = ", ".join(sorted(run_types))
            raise NoLabelError(f"elastic tensor of run type {found}, not {self._run_type}")
        return bulk_modulus(document), {"elasticity_tasks": tasks}

    def _formation_energy(self, material_id: str) -> tuple[float, dict[str, Any]]:
        document = self._thermo.get(material_id)
        if document is None:
            raise NoLabelError(f"no thermo document of {THERMO_TYPES[self._run_type]}")
        energy, correction = formation_energy(document, self._run_type)
        return energy, {"energy_correction_per_atom": correction}

    def _bandwidth(self, material_id: str) -> tuple[float, dict[str, Any]]:
        document = (self._bands.get(material_id) or {}).get("bandstructure") or {}
        summary = document.get("setyawan_curtarolo") or {}
        if not (task_id := summary.get("task_id")):
            raise NoLabelError("no band structure along the Setyawan-Curtarolo path")
        rester = self._client.materials.electronic_structure_bandstructure
        try:
            bands = rester.get_bandstructure_from_task_id(
                str(task_id), run_type=self._run_type, path_type="setyawan_curtarolo"
            )
        except Exception as error:  # MPRestError, of a package that need not be there
            raise NoLabelError(f"band structure {task_id} ({self._run_type}): {error}") from error
        energies = np.concatenate([np.ravel(values) for values in bands.bands.values()])
        top = float(bands.efermi) if bands.is_metal() else float(bands.get_vbm()["energy"])
        width = bandwidth(energies, top)
        if width is None:
            raise NoLabelError(f"no clear lower edge of the occupied bands of {task_id}")
        return width, {"band_structure_task": str(task_id)}

    def _is_stable(self, material_id: str) -> tuple[float, dict[str, Any]]:
        phonon_id = chosen_phonons(self._summaries[material_id])
        try:
            bands = self._client.materials.phonon.get_bandstructure_from_phonon_id(
                phonon_id, PHONON_METHOD
            )
        except Exception as error:  # MPRestError, of a package that need not be there
            raise NoLabelError(f"phonon band structure {phonon_id}: {error}") from error
        lowest = lowest_frequency(bands["frequencies"], bands["qpoints"])
        if not math.isfinite(lowest):
            raise NoLabelError(f"phonons {phonon_id} have no finite frequency")
        stable = float(lowest >= STABLE_ABOVE)
        return stable, {"phonon": phonon_id, "lowest_frequency_THz": lowest}
