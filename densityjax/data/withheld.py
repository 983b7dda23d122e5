"""Materials that a run must not see: a file that names them, and how far each reaches."""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase.data import chemical_symbols

from densityjax.runtime.errors import ConfigError

_ELEMENTS = frozenset(chemical_symbols[1:])
_HEADERS = ("material_id", "chemical_system")
# Of config.pretraining.withhold: beside a withheld material, all of its chemical system, all of its
# reduced formula, all of its id in other datasets; the columns of `Materials` and of `Withheld`.
_FIELDS = {
    "system": ("chemical_system", "systems"), "formula": ("formula", "formulas"),
    "id": ("material_id", "ids"),
}


class Materials(Protocol):
    """Columns of materials, such as `records.Records`: each [n] str."""

    material_id: np.ndarray
    formula: np.ndarray
    chemical_system: np.ndarray


@dataclasses.dataclass(frozen=True)
class Withheld:
    """Ids, reduced formulas and chemical systems that are not to be seen."""

    ids: frozenset[str] = frozenset()
    formulas: frozenset[str] = frozenset()
    systems: frozenset[str] = frozenset()

    def __or__(self, other: "Withheld") -> "Withheld":
        return Withheld(
            self.ids | other.ids, self.formulas | other.formulas, self.systems | other.systems
        )

    def holds(self, materials: Materials) -> np.ndarray:
        """[n] bool, whether each of some materials is withheld."""
        return (
            np.isin(materials.material_id, list(self.ids))
            | np.isin(materials.formula, list(self.formulas))
            | np.isin(materials.chemical_system, list(self.systems))
        )

    def reaching(self, materials: Iterable[Materials], reach: str) -> "Withheld":
        """Also what is like those of some materials that are withheld.

        Args:
            reach: config.pretraining.withhold.
        """
        found = self
        for some in materials:
            found |= like(some, self.holds(some), reach)
        return found


def like(materials: Materials, rows: Any, reach: str) -> Withheld:
    """What is like some rows of materials, as far as config.pretraining.withhold says.

    An empty name is none: records without one are not like each other.
    """
    if reach == "nothing":
        return Withheld()
    column, field = _FIELDS[reach]
    values = frozenset(map(str, getattr(materials, column)[rows])) - {""}
    return Withheld(**{field: values})


def read_withheld(path: str | Path) -> tuple[str, ...]:
    """The names in a file: material ids and chemical systems, each once, in order.

    The file is a CSV with a column 'material_id', 'chemical_system' or both, or has a name per
    line; lines that begin with # are comments.

    Raises:
        ConfigError: it cannot be read, or names nothing.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"config.pretraining.exclude='{path}' cannot be read ({error}): name a file with a "
            "material id or chemical system per line, or a CSV with a column "
            f"{' or '.join(_HEADERS)}"
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    header = [cell.strip().lower() for cell in next(csv.reader(lines[:1]), [])]
    if set(_HEADERS) & set(header):
        rows = csv.DictReader(io.StringIO("\n".join(lines[1:])), header)
        names = [row[column] for row in rows for column in _HEADERS if column in header]
    elif any("," in line for line in lines):
        raise ConfigError(
            f"config.pretraining.exclude='{path}' has several columns and none of them is called "
            f"{' or '.join(_HEADERS)}: name one so"
        )
    else:
        names = lines
    found = tuple(dict.fromkeys(name.strip() for name in names if name and name.strip()))
    if not found:
        raise ConfigError(
            f"config.pretraining.exclude='{path}' names no material: leave the setting empty ('') "
            "to withhold none"
        )
    return found


def as_withheld(names: Iterable[str]) -> Withheld:
    """What names mean: a chemical system, in any order of its elements, or else an id."""
    systems = {name: system for name in names if (system := _system(name))}
    return Withheld(ids=frozenset(names), systems=frozenset(systems.values()))


def unknown_names(names: Iterable[str], materials: Iterable[Materials]) -> tuple[str, ...]:
    """Those that are neither id nor chemical system of any of some materials."""
    known: set[str] = set()
    for some in materials:
        known.update(map(str, some.material_id), map(str, some.chemical_system))
    return tuple(name for name in names if name not in known and _system(name) not in known)


def _system(name: str) -> str:
    """'Al-O' for 'O-Al', '' for what is no chemical system."""
    elements = name.split("-")
    return "-".join(sorted(elements)) if _ELEMENTS.issuperset(elements) else ""
