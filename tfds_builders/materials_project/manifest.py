"""Labels and ids of Materials Project entries, pinned in a file: what a dataset is built from.

    python -m tfds_builders.materials_project.manifest nonmagnetic --out=mp/nonmagnetic

asks the Materials Project's API (key in MP_API_KEY) for labels, and its open bucket for what is
there, and writes OUT/manifest.jsonl and OUT/left_out.csv. README.md states every rule.
"""

import argparse
import datetime
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pymatgen.core import Structure
from tqdm import tqdm

from densityjax.runtime import command_line
from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import fold_of
from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.api import (
    IDS_PER_REQUEST,
    Api,
    ApiError,
    batches,
    one_line,
    refused,
)
from tfds_builders.materials_project.bucket import Bucket
from tfds_builders.materials_project.choice import entry_line, reason_lines
from tfds_builders.materials_project.entries import (
    DATASETS,
    FILE,
    FORMAT,
    RUN_TYPES,
    Dataset,
    Entry,
    Manifest,
    write_manifest,
)
from tfds_builders.materials_project.ids import number_of, spelled
from tfds_builders.materials_project.labels import Found, Labels
from tfds_builders.materials_project.queries import (
    Chosen,
    choose_tasks,
    find_calc_types,
    find_materials,
    find_static_tasks,
    find_task_documents,
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
# Earlier clients lack arguments and methods that are called here, or spell r2SCAN another way.
FIRST_CLIENT = (0, 46, 2)


def make_manifest(
    api: Api,
    bucket: Bucket,
    name: str,
    run_type: str = "GGA",
    material_ids: Sequence[str] | None = None,
    threads: int = 16,
    limit: int | None = None,
) -> tuple[Manifest, list[LeftOut]]:
    """Asks for the entries of a dataset and pins them.

    Args:
        api: that is asked for ids and labels.
        bucket: that holds the densities; only asked what is there.
        name: of `DATASETS`.
        run_type: the one that every density and label computed with it must have.
        material_ids: only these, as mp-149 or mp-aaaaaaft.
        threads: that ask the bucket.
        limit: entries after which no more are looked for.

    Returns:
        The manifest, and what was left out of it, or replaced, and why.

    Raises:
        DatasetSourceError: no such dataset or run type.
        ApiError: the API does not answer; what is absent is no error, and listed.
        BucketError: the bucket cannot be read.
    """
    if name not in DATASETS or run_type not in RUN_TYPES:
        raise DatasetSourceError(
            f"no dataset '{name}' or run type '{run_type}'; known: {', '.join(DATASETS)}; "
            f"{', '.join(RUN_TYPES)}"
        )
    dataset = DATASETS[name]
    left_out: list[LeftOut] = []
    summaries = find_materials(api, dataset, material_ids, limit is not None, left_out)
    size = min(IDS_PER_REQUEST, 4 * limit) if limit else IDS_PER_REQUEST
    entries: list[Entry] = []
    for batch in tqdm(list(batches(list(summaries), size)), unit="batch", disable=None):
        asked = {number: summaries[number] for number in batch}
        wanted = limit and limit - len(entries)
        entries += _make_entries(api, bucket, dataset, run_type, asked, threads, wanted, left_out)
        if limit and len(entries) >= limit:
            break
    entries.sort(key=lambda entry: number_of(entry.material_id))
    return Manifest(_header(api, bucket, name, run_type), entries[:limit]), left_out


def _make_entries(
    api: Api, bucket: Bucket, dataset: Dataset, run_type: str,
    summaries: Mapping[int, Mapping[str, Any]], threads: int, limit: int | None,
    left_out: list[LeftOut],
) -> list[Entry]:
    """Entries of some materials: labels first, and what is slow only for those that are kept."""
    calc_types = find_calc_types(api, list(summaries))
    kinds = {task: kind for own, _ in calc_types.values() for task, kind in own.items()}
    labels = Labels(api, run_type, dataset, summaries, kinds)
    unlabelled = labels.without_required()
    for number, found in unlabelled.items():
        _leave_out(number, "", found, dataset, left_out)
    wanted = {n: types for n, types in calc_types.items() if n not in unlabelled}
    tasks = find_static_tasks(api, wanted, run_type, left_out)
    chosen = choose_tasks(bucket, tasks, threads, left_out)
    entries: list[Entry] = []
    for lot in batches(list(chosen), limit or max(len(chosen), 1)):
        if limit and len(entries) >= limit:
            break
        lot_chosen = {number: chosen[number] for number in lot}
        entries += _label_entries(api, dataset, run_type, lot_chosen, labels, left_out)
    return entries


def _label_entries(
    api: Api, dataset: Dataset, run_type: str, chosen: Mapping[int, Chosen], labels: Labels,
    left_out: list[LeftOut],
) -> list[Entry]:
    """Entries of materials with a density, without those that lack the required label."""
    documents = find_task_documents(api, [choice.number for choice in chosen.values()])
    labels.fetch(list(chosen))

    def label(number: int) -> tuple[Structure | None, Found]:
        choice = chosen[number]
        task_id, document = spelled(choice.number), documents.get(choice.number) or {}
        if not document.get("structure"):
            reason = "the document of its task has no structure"
            return None, Found(missing=[LeftOut(spelled(number), task_id, "entry", reason)])
        structure = Structure.from_dict(document["structure"])
        return structure, labels.of(number, task_id, document, structure)

    entries = []
    for (number, choice), (structure, found) in zip(chosen.items(), api.map(label, list(chosen))):
        if structure is not None and dataset.required not in found.labels:
            _leave_out(number, spelled(choice.number), found, dataset, left_out)
            continue
        left_out.extend(found.missing)
        if structure is None:
            continue
        task = documents[choice.number]
        entries.append(_entry(number, run_type, choice, task, structure, found))
    return entries


def _leave_out(
    number: int, task_id: str, found: Found, dataset: Dataset, left_out: list[LeftOut]
) -> None:
    reason = f"it has no {dataset.required}"
    left_out.extend([*found.missing, LeftOut(spelled(number), task_id, "entry", reason)])


def _entry(
    number: int, run_type: str, choice: Chosen, task: Mapping[str, Any], structure: Structure,
    found: Found,
) -> Entry:
    """The entry of a material whose density is that of `task`."""
    parameters = parameters_of(task)
    grid = tuple(parameters.get(f"NG{axis}F") for axis in "XYZ")
    system = structure.composition.chemical_system
    obj = choice.found
    origins = {"last_updated": choice.last_updated, "static_tasks": choice.num_tasks}
    return Entry(
        spelled(number), spelled(choice.number), run_type, structure.composition.reduced_formula,
        system, fold_of(system), obj.key, obj.size, obj.etag, parameters.get("NELECT"),
        None if None in grid else grid, structure.volume, found.labels, found.origins | origins,
    )


def _header(api: Api, bucket: Bucket, name: str, run_type: str) -> dict[str, Any]:
    """What all entries share, and the rules that were applied."""
    return {
        "format": FORMAT,
        "dataset": name,
        "run_type": run_type,
        "database_version": api.client.db_version,
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


def make_api(threads: int = 8) -> Api:
    """The API with the key of MP_API_KEY, at MP_API_ENDPOINT if that is set.

    Raises:
        DatasetSourceError: there is no key, or no client that serves.
        ApiError: the key is refused, or the API cannot be reached.
    """
    key = os.environ.get("MP_API_KEY", "").strip()
    if not key:
        raise DatasetSourceError(
            "MP_API_KEY is not set; get a key at https://next-gen.materialsproject.org/api and "
            "export it (densities need none)"
        )
    try:
        import mp_api.client
        from deltalake.exceptions import DeltaError
        from mp_api.client.core.exceptions import MPRestError
    except ImportError as error:
        raise DatasetSourceError(
            f"mp-api is not installed, or too old ({error}); "
            "pip install 'densityjax[materials_project]'"
        ) from error
    _check_version(mp_api.client.__version__)
    try:
        client = mp_api.client.MPRester(
            key, os.environ.get("MP_API_ENDPOINT"), use_document_model=False,
            mute_progress_bars=True,
        )
    except MPRestError as error:
        raise ApiError(refused(one_line(error))) from error
    # requests' errors are OSErrors; an answer that is no JSON is a ValueError.
    except (OSError, ValueError, KeyError) as error:
        raise ApiError(
            f"the Materials Project's API cannot be reached ({one_line(error)}): see "
            "https://status.materialsproject.org and run the command again"
        ) from error
    return Api(client, (MPRestError, DeltaError, OSError), threads=threads)


def _check_version(version: str | None) -> None:
    found = tuple(int(part) for part in re.findall(r"\d+", version or "")[:3])
    if found and found < FIRST_CLIENT:
        wanted = ".".join(map(str, FIRST_CLIENT))
        raise DatasetSourceError(
            f"mp-api is version {version}, too old for what is asked of it; "
            f"pip install 'mp-api>={wanted}'"
        )


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a manifest. Returns the exit status: 1 if it would have no entry."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.materials_project.manifest",
        description="Pins ids and labels of Materials Project entries.",
    )
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--out", required=True, help="folder of the manifest and its densities")
    parser.add_argument("--run_type", default="GGA", choices=RUN_TYPES)
    parser.add_argument("--material_ids", nargs="+", help="only these")
    parser.add_argument(
        "--limit", type=_number, help="this many entries, of the first that the API gives"
    )
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true",
        help="print what would be taken, and why; write nothing",
    )
    parser.add_argument("--endpoint_url", help="S3 server, if not that of AWS")
    parser.add_argument("--threads", type=int, default=16)
    args = parser.parse_args(arguments)
    path = Path(args.out) / FILE
    if path.exists() and not args.dry_run:
        raise DatasetSourceError(f"{path} exists; ids stay pinned: name another --out")
    start = time.monotonic()
    api = make_api(min(8, args.threads))
    bucket = Bucket(endpoint_url=args.endpoint_url, connections=args.threads)
    manifest, left_out = make_manifest(
        api, bucket, args.dataset, args.run_type, args.material_ids, args.threads, args.limit
    )
    size = sum(entry.size for entry in manifest.entries)
    found = (
        f"{len(manifest.entries)} entries of database {api.client.db_version}, "
        f"{size / 1e9:.2f} GB to download"
    )
    if args.dry_run:
        print(f"dry run, nothing is written: {found}")
        print("\n".join(map(entry_line, manifest.entries)))
    else:
        write_table(Path(args.out) / TABLE, left_out, LeftOut)
    if left_out:
        print(f"{len(left_out)} rows on what was left out or replaced, by reason:")
        print("\n".join(reason_lines(left_out)))
    if args.dry_run:
        print(f"{api.num_requests} requests to the API in {time.monotonic() - start:.0f} s")
    if not manifest.entries:
        where = "" if args.dry_run else f"; see {Path(args.out) / TABLE}"
        print(f"error: no entry was found, and no manifest written{where}", file=sys.stderr)
        return 1
    if not args.dry_run:
        write_manifest(manifest, args.out)
        print(f"{path}: {found}; {len(left_out)} rows in {TABLE}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
