"""Which materials and tasks a dataset takes: the API's documents, and what the bucket has."""

import concurrent.futures
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.api import Api
from tfds_builders.materials_project.bucket import Bucket, RemoteObject
from tfds_builders.materials_project.entries import Dataset
from tfds_builders.materials_project.ids import number_of, spelled
from tfds_builders.materials_project.rules import same_run_type

FIRST_SUMMARIES = 1000  # documents of one request: what a limited manifest chooses from
# A task's document holds a structure and hundreds of parameters: ids in one request.
_TASKS_PER_REQUEST = 25
_WHOLE_TASKS_PER_REQUEST = 5
_TASK_FIELDS = (
    "task_id", "structure", "output.energy", "output.efermi", "output.bandgap",
    "output.mag_density", "output.outcar.total_magnetization", "input.parameters",
)
_WHOLE_TASK_FIELDS = ("task_id", "structure", "output", "input")
_NONCOMMERCIAL = "BY-NC"


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The task whose density stands for a material.

    Attributes:
        number: of the task, see `ids.number_of`.
        last_updated: of its document.
        found: its density in the bucket.
        num_tasks: static tasks that it was chosen from.
    """

    number: int
    last_updated: str
    found: RemoteObject
    num_tasks: int


def find_materials(
    api: Api, dataset: Dataset, material_ids: Sequence[str] | None, limited: bool,
    left_out: list[LeftOut],
) -> dict[int, dict[str, Any]]:
    """Summaries of the entries that belong to a dataset, by the number of the material.

    Args:
        material_ids: only these, in either spelling; None for all.
        limited: only the first `FIRST_SUMMARIES` that the API gives.

    Raises:
        UnknownIdError: a text of `material_ids` is no id.
        ApiError: the API does not answer.
    """
    summary = api.client.materials.summary
    fields = ["material_id", "is_magnetic", "ordering", "phonon_IDs", "builder_meta"]
    # GNoME's entries are CC BY-NC: neither asked for nor, below, taken.
    query = {
        "has_props": list(dataset.has_props), "deprecated": False, "include_gnome": False,
    }
    if material_ids is not None:
        wanted = list(dict.fromkeys(number_of(identifier) for identifier in material_ids))
        documents = api.search_ids("summaries", summary, fields, "material_ids", wanted, **query)
    else:
        wanted = []
        query |= {"num_chunks": 1, "chunk_size": FIRST_SUMMARIES} if limited else {}
        documents = api.search("summaries", summary, fields, **query)
    found, seen = {}, set()
    for document in documents:
        number = number_of(document["material_id"])
        seen.add(number)
        if reason := _not_of(dataset, document):
            left_out.append(LeftOut(spelled(number), "", "entry", reason))
        elif dataset.magnetic in (None, document["is_magnetic"]):
            found[number] = document
        elif material_ids is not None:
            seen.discard(number)
    for number in wanted:
        if number not in seen:
            reason = "no such entry, or not one of this dataset (deprecated, magnetic, no property)"
            left_out.append(LeftOut(spelled(number), "", "entry", reason))
    return dict(sorted(found.items()))


def _not_of(dataset: Dataset, summary: Mapping[str, Any]) -> str:
    """Why an entry that the API found is listed as left out, '' if it is not."""
    if ((summary.get("builder_meta") or {}).get("license")) == _NONCOMMERCIAL:
        return f"its licence is {_NONCOMMERCIAL} (no commercial use); only CC BY 4.0 is taken"
    if dataset.magnetic is not None and summary.get("is_magnetic") is None:
        return "the summary does not say whether it is magnetic"
    return ""


def find_calc_types(api: Api, materials: Sequence[int]) -> dict[int, tuple[dict[int, str], set]]:
    """Of each material: kinds of its tasks ('GGA Static'), and which tasks are deprecated."""
    documents = api.search_ids(
        "materials", api.client.materials, ["material_id", "calc_types", "deprecated_tasks"],
        "material_ids", materials,
    )
    found: dict[int, tuple[dict[int, str], set]] = {number: ({}, set()) for number in materials}
    for document in documents:
        kinds = {number_of(task): str(k) for task, k in (document.get("calc_types") or {}).items()}
        deprecated = {number_of(task) for task in document.get("deprecated_tasks") or ()}
        found[number_of(document["material_id"])] = (kinds, deprecated)
    return found


def find_static_tasks(
    api: Api, calc_types: Mapping[int, tuple[dict[int, str], set]], run_type: str,
    left_out: list[LeftOut],
) -> dict[int, list[tuple[str, int]]]:
    """Date and number of the static tasks of each material in this run type, the latest first."""
    static = {}
    for number, (kinds, deprecated) in calc_types.items():
        static[number] = [
            task for task, kind in kinds.items()
            if kind.casefold() == f"{run_type} Static".casefold() and task not in deprecated
        ]
        if not static[number]:
            others = sorted({kind for kind in kinds.values() if kind.endswith("Static")})
            reason = f"no {run_type} Static task; it has {', '.join(others) or 'no static task'}"
            left_out.append(LeftOut(spelled(number), "", "entry", reason))
    wanted = [task for tasks in static.values() for task in tasks]
    documents = {
        number_of(document["task_id"]): document
        for document in api.search_ids(
            "tasks", api.client.materials.tasks, ["task_id", "last_updated", "run_type"],
            "task_ids", wanted,
        )
    }
    result = {}
    for number, tasks in static.items():
        usable = []
        for task in tasks:
            if reason := _unusable(documents.get(task), run_type):
                left_out.append(LeftOut(spelled(number), spelled(task), "task", reason))
            else:
                usable.append((str(documents[task].get("last_updated")), task))
        # Ties of the date are broken by the number, so that the choice is always the same.
        usable.sort(reverse=True)
        if usable:
            result[number] = usable
        elif tasks:
            reason = "none of its tasks can be used"
            left_out.append(LeftOut(spelled(number), "", "entry", reason))
    return result


def _unusable(task: Mapping[str, Any] | None, run_type: str) -> str:
    """Why a task's document does not serve, '' if it does."""
    if task is None:
        return "the API has no document of it"
    if not same_run_type(task.get("run_type"), run_type):
        return f"run type {task.get('run_type')}, not {run_type}"
    return ""


def choose_tasks(
    bucket: Bucket, tasks: Mapping[int, list[tuple[str, int]]], threads: int,
    left_out: list[LeftOut],
) -> dict[int, Chosen]:
    """The first task of each material whose density is in the bucket."""

    def choose(number: int) -> tuple[Chosen | None, list[LeftOut]]:
        rows, material_id = [], spelled(number)
        for date, task in tasks[number]:
            key, task_id = object_key(task), spelled(task)
            obj = bucket.find(key)
            if obj is not None:
                if rows:
                    reason = f"taken instead of {rows[0].task_id}, which has no density"
                    rows.append(LeftOut(material_id, task_id, "task", reason))
                return Chosen(task, date, obj, len(tasks[number])), rows
            rows.append(LeftOut(material_id, task_id, "task", f"the bucket has no {key}"))
        rows.append(LeftOut(material_id, "", "entry", "the bucket has no density of its tasks"))
        return None, rows

    chosen = {}
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for number, (found, rows) in zip(tasks, pool.map(choose, tasks)):
            left_out.extend(rows)
            if found:
                chosen[number] = found
    return chosen


def find_task_documents(api: Api, tasks: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Structure, output and parameters of tasks, by number."""
    rester = api.client.materials.tasks
    documents = api.search_ids(
        "documents of tasks", rester, _TASK_FIELDS, "task_ids", tasks, size=_TASKS_PER_REQUEST
    )
    # A server that does not know parts of fields would answer without them.
    if documents and not any(document.get("output") for document in documents):
        documents = api.search_ids(
            "documents of tasks", rester, _WHOLE_TASK_FIELDS, "task_ids", tasks,
            size=_WHOLE_TASKS_PER_REQUEST,
        )
    return {number_of(document["task_id"]): document for document in documents}


def object_key(task: int) -> str:
    """Key of a task's density in the bucket, from the task's number."""
    return f"chgcars/{spelled(task)}.json.gz"


def parameters_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """vasprun.xml's parameters in a task document: NELECT and the fine grid NGXF, NGYF, NGZF."""
    parameters = (task.get("input") or {}).get("parameters") or {}
    return json.loads(parameters) if isinstance(parameters, str) else parameters
