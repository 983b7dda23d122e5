"""targets.toml: what the columns of labels.csv are, where it cannot be guessed."""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfds_builders.density_folder.headers import split_header
from tfds_builders.errors import DatasetSourceError

_FIELDS = ("kind", "unit", "label", "transform", "per", "minimum", "classes", "keep_outliers")
_CHOICES = {
    "kind": ("regression", "classification"),
    "transform": ("identity", "log"),
    "per": ("none", "electron", "volume"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What targets.toml says.

    Attributes:
        ignore: columns that are no targets.
        targets: {column or name of the target: its fields}.
    """

    ignore: tuple[str, ...]
    targets: dict[str, dict[str, Any]]


def read_settings(folder: Path, columns: Sequence[str]) -> Settings:
    """Reads targets.toml, if there is one.

    Raises:
        DatasetSourceError: it is damaged, or names a column, field or value that there is not.
    """
    path = folder / "targets.toml"
    if not path.exists():
        return Settings((), {})
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetSourceError(f"{path}: cannot be read as TOML ({error}); mend it") from error
    ignore = content.pop("ignore", [])
    if not isinstance(ignore, list):
        raise DatasetSourceError(f"{path}: 'ignore' must be a list of columns, found {ignore!r}")
    known = [*columns, *(split_header(column)[0] for column in columns)]
    for name in (*ignore, *content):
        if name not in known:
            raise DatasetSourceError(
                f"{path}: labels.csv has no column '{name}'{_hint(name, known)}"
            )
    for name, fields in content.items():
        if not isinstance(fields, dict):
            raise DatasetSourceError(
                f"{path}: {name} must be a section, [{name}], found {fields!r}"
            )
        for field, value in fields.items():
            _check_field(path, name, field, value)
    return Settings(tuple(ignore), content)


def _check_field(path: Path, name: str, field: str, value: Any) -> None:
    if field not in _FIELDS:
        raise DatasetSourceError(f"{path}: [{name}] has '{field}'{_hint(field, _FIELDS)}")
    if field in _CHOICES:
        fits, expected = value in _CHOICES[field], f"one of {', '.join(_CHOICES[field])}"
    elif field == "minimum":
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and math.isfinite(value)
        expected = "a finite number"
    elif field == "keep_outliers":
        fits, expected = isinstance(value, bool), "true or false"
    elif field == "classes":
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        fits, expected = fits and len(set(value)) == len(value) >= 2, "a list of two or more names"
    else:
        fits, expected = isinstance(value, str), "a text"
    if not fits:
        raise DatasetSourceError(f"{path}: [{name}] {field} = {value!r}; expected {expected}")


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f": did you mean {', '.join(close)}?" if close else f"; known: {', '.join(known)}"
