"""Labels and ids of Materials Project entries, pinned in a file: what a dataset is built from.

    python -m tfds_builders.materials_project.manifest nonmagnetic --out=mp/nonmagnetic

asks the Materials Project's API (key in MP_API_KEY) for labels, and its open bucket for what is
there, and writes OUT/manifest.jsonl and OUT/left_out.csv. README.md states every rule.
"""

import argparse
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from densityjax.runtime import command_line
from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import fold_of
from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.bucket import Bucket, RemoteObject
from tfds_builders.materials_project.entries import (
    DATASETS,
    FILE,
    FORMAT,
    RUN_TYPES,
    Entry,
    Manifest,
    write_manifest,
)
from tfds_builders.materials_project.labels import Labels
from tfds_builders.materials_project.queries import (
    batches,
    candidates,
    choose_tasks,
    find_materials,
    parameters_of,
)
from tfds_builders.materials_project.rules import (
    BAND_HOLE,
    BULK_MODULUS_RANGE,
    PHONON_METHOD,
    SHEAR_MODULUS_RANGE,
    STABLE_ABOVE,
    THERMO_TYPES,
)
from tfds_builders.table import write_table

TABLE = "left_out.csv"


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
        DatasetSourceError: no such dataset or run type.
    """
    if name not in DATASETS or run_type not in RUN_TYPES:
        raise DatasetSourceError(
            f"no dataset '{name}' or run type '{run_type}'; known: {', '.join(DATASETS)}; "
            f"{', '.join(RUN_TYPES)}"
        )
    dataset = DATASETS[name]
    left_out: list[LeftOut] = []
    summaries = find_materials(client, dataset, material_ids, left_out)
    entries = []
    for batch in batches(list(summaries)):
        asked = {material_id: summaries[material_id] for material_id in batch}
        tasks = candidates(client, asked, run_type, left_out)
        chosen = choose_tasks(bucket, tasks, threads, left_out)
        labels = Labels(client, run_type, dataset.targets, asked, left_out)
        for material_id, (task, obj) in chosen.items():
            structure = Structure.from_dict(task["structure"])
            values, origins = labels.of(material_id, task, structure)
            if dataset.required not in values:
                reason = f"it has no {dataset.required}"
                left_out.append(LeftOut(material_id, task["task_id"], "entry", reason))
                continue
            entries.append(_entry(material_id, run_type, task, obj, structure, values, origins))
    entries.sort(key=lambda entry: entry.material_id)
    return Manifest(_header(client, bucket, name, run_type), entries), left_out


def _entry(
    material_id: str, run_type: str, task: Mapping[str, Any], found: RemoteObject,
    structure: Structure, labels: dict[str, float], origins: dict[str, Any],
) -> Entry:
    """The entry of a material whose density is that of `task`."""
    parameters = parameters_of(task)
    grid = tuple(parameters.get(f"NG{axis}F") for axis in "XYZ")
    system = structure.composition.chemical_system
    return Entry(
        material_id, task["task_id"], run_type, structure.composition.reduced_formula,
        system, fold_of(system), found.key, found.size, found.etag, parameters.get("NELECT"),
        None if None in grid else grid, structure.volume, labels, origins,
    )


def _header(client: Any, bucket: Bucket, name: str, run_type: str) -> dict[str, Any]:
    """What all entries share, and the rules that were applied."""
    return {
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a manifest."""
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
        raise DatasetSourceError(f"{path} exists; ids stay pinned: name another --out")
    client = _make_client()
    bucket = Bucket(endpoint_url=args.endpoint_url, connections=args.threads)
    manifest, left_out = make_manifest(
        client, bucket, args.dataset, args.run_type, args.material_ids, args.threads
    )
    manifest = write_manifest(manifest, args.out)
    write_table(Path(args.out) / TABLE, left_out, LeftOut)
    size = sum(entry.size for entry in manifest.entries)
    print(
        f"{path}: {len(manifest.entries)} entries of database {client.db_version}, "
        f"{size / 1e9:.2f} GB to download; {len(left_out)} rows in {TABLE}"
    )


if __name__ == "__main__":
    command_line.run(main)
