"""Made-up entries of the Materials Project: documents by emmet's models, as the server has them.

Every entry has a relaxation, a deformation, a static task with a density, a band structure and
phonons. Three entries of each kind, magnetic or not, are of chemical systems of each fold.
"""

import datetime
import gzip
import itertools
import json
from typing import Any, NamedTuple

import numpy as np
from emmet.core.elasticity import ElasticityDoc, FittingData
from emmet.core.electronic_structure import (
    BandstructureData,
    BandStructureSummaryData,
    ElectronicStructureDoc,
)
from emmet.core.mpid import AlphaID
from emmet.core.summary import SummaryDoc
from emmet.core.tasks import CoreTaskDoc
from emmet.core.thermo import ThermoDoc
from emmet.core.vasp.calculation import CalculationInput, CoreCalculationOutput
from emmet.core.vasp.material import MaterialsDoc
from monty.json import MontyEncoder
from pydantic import BaseModel
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar
from pymatgen.io.vasp.outputs import Chgcar

from tfds_builders.folds import NUM_FOLDS, fold_of

GRID = 8  # points along each axis
NUM_ELECTRONS = 14.0
PER_FOLD = 3
NOW = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
_METALS = {
    False: ("Li", "Na", "K", "Mg", "Ca", "Sr", "Al", "Ga", "Ti", "Zr", "Hf"),
    True: ("Fe", "Co", "Ni", "Mn", "Cr", "V"),
}


class Entry(NamedTuple):
    """An entry and the numbers of its tasks.

    Attributes:
        moment: μB per cell; zero for an antiferromagnet, too.
        bulk_modulus: GPa.
        bandwidth, fermi_energy, gap: eV.
        lowest: phonon frequency away from Gamma, THz.
    """

    number: int
    structure: Structure
    magnetic: bool
    moment: float
    bulk_modulus: float
    bandwidth: float
    fermi_energy: float
    gap: float
    lowest: float
    relaxation: int
    static: int
    deformation: int
    bands: int
    phonons: int


def _entries() -> list[Entry]:
    found, counts = [], {}
    for magnetic, metals in _METALS.items():
        for anion, metal in itertools.product(("F", "O", "N", "C", "S", "Cl", "Se"), metals):
            kind = magnetic, fold_of("-".join(sorted((metal, anion))))
            if counts.get(kind, 0) == PER_FOLD:
                continue
            counts[kind] = counts.get(kind, 0) + 1
            n = len(found)
            structure = Structure(
                Lattice.cubic(2.9 + 0.02 * n), [metal, anion], [[0, 0, 0], [0.5, 0.5, 0.5]],
                site_properties={"magmom": [2.0 * magnetic, 0.0]},
            )
            # Some ids from before letters, some after.
            first = 1_900_000 + 10 * n if n % 2 else 4_000_000 + 10 * n
            moment = float(magnetic) * (n % 4)  # every fourth an antiferromagnet
            lowest = -1.0 if n % 3 == 0 else 2.0
            found.append(Entry(
                149 + n, structure, magnetic, moment, 80.0 + n, 6 + 0.02 * n, 5 + 0.01 * n,
                0.6 + 0.01 * n, lowest,
                *range(first, first + 5),
            ))
    assert len(counts) == 2 * NUM_FOLDS
    assert set(counts.values()) == {PER_FOLD}
    return found


ENTRIES = _entries()


def bare(number: int) -> str:
    """As tasks' ids and those of tables are stored: 'aaaaaaft'."""
    return str(AlphaID(number, padlen=8))


def _stored(model: BaseModel) -> dict[str, Any]:
    return json.loads(model.model_dump_json())


def documents() -> dict[str, list[dict[str, Any]]]:
    """Documents by collection."""
    found = {name: [] for name in ("summary", "core", "tasks", "elasticity", "thermo")}
    found["electronic_structure"] = []
    for entry in ENTRIES:
        structure, common = entry.structure, {
            "material_id": f"mp-{entry.number}", "deprecated": False, "last_updated": NOW,
        }
        found["summary"].append(_stored(SummaryDoc.from_structure(
            structure, **common, origins=[], property_name="summary", task_ids=[],
            has_props={"elasticity": True, "magnetism": True, "phonon": True},
            is_magnetic=entry.magnetic, ordering=_ordering(entry),
            phonon_IDs={"dfpt": [f"mp-{entry.phonons}"]},
            builder_meta={"license": "BY-C"},
        )))
        kinds = {
            entry.static: "GGA Static", entry.relaxation: "GGA Structure Optimization",
        }
        found["core"].append(_stored(MaterialsDoc.from_structure(
            structure, **common, created_at=NOW, task_ids=[f"mp-{task}" for task in kinds],
            deprecated_tasks=[], calc_types={f"mp-{task}": kind for task, kind in kinds.items()},
        )))
        found["tasks"] += _tasks(entry)
        bulk = entry.bulk_modulus
        found["elasticity"].append(_stored(ElasticityDoc.from_structure(
            structure, **common, state="successful", order=2,
            bulk_modulus={"voigt": bulk + 1, "reuss": bulk - 1, "vrh": bulk},
            shear_modulus={"voigt": 50.0, "reuss": 48.0, "vrh": 49.0},
            fitting_data=_fitting_data(entry),
        )))
        found["thermo"] += [
            _stored(ThermoDoc.from_structure(
                structure, **common, thermo_type=thermo_type, energy_type="GGA",
                entry_types=["GGA"], energy_per_atom=-5.5, uncorrected_energy_per_atom=-5.4,
                formation_energy_per_atom=formation, energy_above_hull=0.0, entries={},
            ))
            for thermo_type, formation in (
                ("GGA_GGA+U", -0.1 - 0.01 * entry.number), ("GGA_GGA+U_R2SCAN", -9.0)
            )
        ]
        summary = BandStructureSummaryData(
            task_id=f"mp-{entry.bands}", nbands=4, direct_gap=2.5, band_gap=0.6, efermi=5.6,
            is_gap_direct=False, is_metal=False, magnetic_ordering="NM",
        )
        found["electronic_structure"].append(_stored(ElectronicStructureDoc.from_structure(
            structure, **common, task_id=f"mp-{entry.bands}", band_gap=0.6, is_gap_direct=False,
            is_metal=False, efermi=5.6, magnetic_ordering="NM",
            bandstructure=BandstructureData(setyawan_curtarolo=summary),
        )))
    return found


def _ordering(entry: Entry) -> str:
    if not entry.magnetic:
        return "NM"
    return "FM" if entry.moment else "AFM"


def _tasks(entry: Entry) -> list[dict[str, Any]]:
    found = []
    for number, kind in (
        (entry.static, "Static"), (entry.relaxation, "Structure Optimization"),
        (entry.deformation, "Deformation"),
    ):
        structure, moment = entry.structure, entry.moment
        grid = {f"NG{axis}F": GRID for axis in "XYZ"}
        # As the server's pipeline has it: total_mag / volume if total_mag else None.
        density = moment / structure.volume if moment else None
        document = _stored(CoreTaskDoc.from_structure(
            structure, structure=structure, task_id=f"mp-{number}", calc_type=f"GGA {kind}",
            task_type=kind, run_type="GGA", last_updated=NOW, completed_at=NOW,
            input=CalculationInput(
                parameters={"NELECT": NUM_ELECTRONS, **grid}, structure=structure
            ),
            output=CoreCalculationOutput(
                energy=-10.0 - 0.1 * entry.number, efermi=entry.fermi_energy, bandgap=entry.gap,
                mag_density=density, structure=structure, outcar={
                    "@module": "pymatgen.io.vasp.outputs", "@class": "Outcar",
                    "total_magnetization": moment, "efermi": 5.6,
                },
            ),
        ))
        found.append(document | {"task_id": bare(number)})
    return found


def _fitting_data(entry: Entry) -> FittingData:
    unit = np.eye(3).tolist()
    return FittingData(
        deformations=[unit], strains=[unit], cauchy_stresses=[unit], second_pk_stresses=[unit],
        deformation_tasks=[f"mp-{entry.deformation}"], optimization_task=f"mp-{entry.relaxation}",
    )


def density_file(entry: Entry) -> bytes:
    """chgcars/TASK_ID.json.gz: pymatgen's Chgcar below 'data', as monty writes it."""
    axis = (np.arange(GRID) / GRID + 0.5) % 1 - 0.5
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    wave = np.exp(-20 * (x**2 + y**2 + z**2))  # [G, G, G]
    shape = 1 + entry.number / 100 * wave
    data = {"total": NUM_ELECTRONS * shape / shape.mean()}  # rho * V
    if entry.magnetic:
        data["diff"] = entry.moment * wave / wave.mean()
    document = {
        "task_id": f"mp-{entry.static}", "data": Chgcar(Poscar(entry.structure), data),
    }
    return gzip.compress(json.dumps(document, cls=MontyEncoder).encode(), 1, mtime=0)
