"""Tables of band structures and phonons that the client reads: Delta Lake, by emmet's models."""

import json
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
from emmet.core.arrow import arrowize
from emmet.core.band_theory import ElectronicBS
from emmet.core.phonon import PhononBS
from pydantic import BaseModel

from tests.tfds_builders.real_client.entries import ENTRIES, Entry, bare

# Places in the bucket, as the client names them.
BANDS = "core/electronic-structure/bandstructures"
PHONONS = "phonon/electronic-structure/bandstructures"
PATH = "setyawan_curtarolo"


def write_tables(folder: Path) -> None:
    """Writes both to FOLDER/{BANDS,PHONONS}."""
    schema = pa.schema(arrowize(ElectronicBS))
    rows = [_row(_bands(entry)) | {"identifier": bare(entry.bands)} for entry in ENTRIES]
    table = pa.Table.from_pylist([{k: row.get(k) for k in schema.names} for row in rows], schema)
    deltalake.write_deltalake(folder / BANDS, _not_null(table), partition_by=["run_type"])

    text, struct = pa.string(), pa.struct(list(arrowize(PhononBS)))
    schema = pa.schema({
        "identifier": text, "phonon_method": text, "path_convention": text,
        "bandstructure": struct,
    })
    rows = []
    for entry in ENTRIES:
        row = _row(_phonons(entry))
        rows.append({
            "identifier": bare(entry.phonons), "phonon_method": "dfpt", "path_convention": PATH,
            "bandstructure": {field.name: row.get(field.name) for field in struct},
        })
    deltalake.write_deltalake(folder / PHONONS, pa.Table.from_pylist(rows, schema))


def _row(model: BaseModel) -> dict[str, Any]:
    row = json.loads(model.model_dump_json())
    return row | {"labels_dict": list(row["labels_dict"].items())}  # a map of arrow's


def _not_null(table: pa.Table) -> pa.Table:
    """Delta Lake has no type for columns of nothing."""
    return table.select([f.name for f in table.schema if not pa.types.is_null(f.type)])


def _bands(entry: Entry) -> ElectronicBS:
    """Two bands that touch, as wide together as the entry says; a core 10 eV below; one above."""
    k = np.linspace(0, 0.5, 40)
    width = entry.bandwidth
    wave = np.cos(2 * np.pi * k) * width / 4
    bands = [wave - width / 4, -wave - 3 * width / 4, np.full(40, -width - 10), 2.5 - wave]
    return ElectronicBS(
        qpoints=[[x, 0, 0] for x in k], efermi=5.2, band_gap=0.6, structure=None, run_type="GGA",
        reciprocal_lattice=entry.structure.lattice.reciprocal_lattice.matrix.tolist(),
        spin_up_bands=(np.array(bands) + 5.0).tolist(), path_convention=PATH,
        labels_dict={"\\Gamma": [0, 0, 0], "X": [0.5, 0, 0]},
    )


def _phonons(entry: Entry) -> PhononBS:
    frequencies = np.full((6, 4), 3.0)  # [branches, q] THz
    frequencies[:3, 0] = -0.4  # acoustic at Gamma: only error
    frequencies[0, 2] = entry.lowest
    return PhononBS(
        qpoints=[[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]],
        frequencies=frequencies.tolist(), path_convention=PATH,
        reciprocal_lattice=entry.structure.lattice.reciprocal_lattice.matrix.tolist(),
        labels_dict={"\\Gamma": [0, 0, 0], "X": [0.5, 0, 0]},
    )
