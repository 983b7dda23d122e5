"""Files that are whole or not there: each is replaced in one step and synced to the disk."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes the place of `path` when the block ends.

    The new content is synced before it is renamed, and the folder after, so that a kill or a power
    cut leaves the old file or the new one, each whole. An error in the block leaves the old one.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def replace_text(path: str | Path, text: str) -> None:
    """Replaces a text file (UTF-8) in one step."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def replace_json(path: str | Path, content: Any) -> None:
    """Replaces a JSON file in one step."""
    replace_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a file system that opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # or does not sync them
        pass
    finally:
        os.close(descriptor)


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
