"""The list of a model's files with their hashes: what is read is what was exported."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json

FORMAT = 1  # of a folder with a model; a higher one is refused
_NAMES = ("README.md",)  # that people may edit


class ModelFolderError(UserError):
    """A folder is no exported model, or not as it was exported; the message says which file."""


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes model.json of all that is in a folder.

    Args:
        facts: name and origin, JSON-safe.

    Returns:
        Its content.
    """
    run = RunDirectory(folder)
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size, "sha256": _digest(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != run.manifest and path.name not in _NAMES
    }
    content = {"format": FORMAT, **facts, "files": files}
    replace_json(run.manifest, content)
    return content


def read_manifest(folder: Path) -> dict[str, Any]:
    """model.json of an exported model, every file of it verified.

    Raises:
        ModelFolderError: there is none, its format is unknown, or a file is missing or changed.
    """
    path = RunDirectory(folder).manifest
    again = "export it again, or copy the whole folder"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        number, files = content["format"], dict(content["files"])
        listed = {str(name): str(own["sha256"]) for name, own in files.items()}
    except FileNotFoundError as error:
        raise ModelFolderError(f"{folder} is no exported model, it has no {path.name}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(f"{path} is damaged ({error}): {again}") from error
    if number != FORMAT:
        raise ModelFolderError(
            f"{path}: format {number}; this densityjax reads {FORMAT}: install the densityjax that "
            "wrote it, which the file names"
        )
    for name, expected in listed.items():
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ModelFolderError(f"{path}: '{name}' is not in the folder: {again}")
        if not file.is_file():
            raise ModelFolderError(f"{file} is missing: {again}")
        if _digest(file) != expected:
            raise ModelFolderError(f"{file} is not the file that was exported: {again}")
    return content


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
