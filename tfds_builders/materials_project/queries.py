"""Which materials and tasks a dataset takes: the API's documents, and what the bucket has."""

import concurrent.futures
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.bucket import Bucket
from tfds_builders.materials_project.entries import Dataset
from tfds_builders.materials_project.rules import same_run_type

_IDS_PER_REQUEST = 100  # the API's limit for tasks


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids in lots of what the API takes in one request."""
    for start in range(0, len(ids), _IDS_PER_REQUEST):
        yield ids[start : start + _IDS_PER_REQUEST]


def find_materials(
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


def candidates(
    client: Any, summaries: Mapping[str, Any], run_type: str, left_out: list[LeftOut]
) -> dict[str, list[dict[str, Any]]]:
    """Documents of the static tasks of each material in this run type, the latest first."""
    static = _static_tasks(client, list(summaries), run_type, left_out)
    tasks: dict[str, dict[str, Any]] = {}
    wanted = [task for ids in static.values() for task in ids]
    for batch in batches(wanted):
        found = client.materials.tasks.search(
            task_ids=list(batch), all_fields=False,
            fields=["task_id", "last_updated", "run_type", "structure", "output", "input"],
        )
        tasks |= {str(document["task_id"]): document for document in found}
    result = {}
    for material_id, task_ids in static.items():
        usable = []
        for task_id in task_ids:
            if reason := _unusable(tasks.get(task_id), run_type):
                left_out.append(LeftOut(material_id, task_id, "task", reason))
            else:
                usable.append(tasks[task_id] | {"task_id": task_id})
        # Ties of the date are broken by the id, so that the choice is always the same.
        usable.sort(key=lambda task: (str(task["last_updated"]), task["task_id"]), reverse=True)
        if usable:
            result[material_id] = usable
        elif task_ids:
            left_out.append(LeftOut(material_id, "", "entry", "none of its tasks can be used"))
    return result


def _static_tasks(
    client: Any, ids: Sequence[str], run_type: str, left_out: list[LeftOut]
) -> dict[str, list[str]]:
    """Ids of the static tasks of each material in this run type that are not deprecated."""
    documents = client.materials.search(
        material_ids=list(ids), all_fields=False,
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
    return static


def _unusable(task: Mapping[str, Any] | None, run_type: str) -> str:
    """Why a task's document does not serve, '' if it does."""
    if task is None:
        return "the API has no document of it"
    if not same_run_type(task.get("run_type"), run_type):
        return f"run type {task.get('run_type')}, not {run_type}"
    return "" if task.get("structure") else "its document has no structure"


def choose_tasks(
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


def parameters_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """vasprun.xml's parameters in a task document: NELECT and the fine grid NGXF, NGYF, NGZF."""
    parameters = (task.get("input") or {}).get("parameters") or {}
    return json.loads(parameters) if isinstance(parameters, str) else parameters
