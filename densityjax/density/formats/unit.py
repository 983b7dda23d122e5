"""Units and cells of files that do not state them, found by their electrons and distances.

Cube and XSF files mostly hold e/Bohr^3 on the grid that the format describes. Some writers leave
e/Å^3 or rho * V_cell in them, lengths in the other unit, doubled last planes, or the vectors of
the cell where those of a voxel belong. Such a file is taken as it most likely was meant, and a note
says so.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from ase.units import Bohr

from densityjax.density import geometry, valence

BOHR = float(Bohr)  # Å
PER_BOHR3, PER_A3, TIMES_VOLUME = "e/Bohr^3", "e/Å^3", "rho * V_cell"
_UNITS = (PER_BOHR3, PER_A3, TIMES_VOLUME)
_SAME_VALUE = 1e-3  # of the largest value: planes that are the same
_NOTHING = 1e-3  # of the mean value: planes that hold nothing
_STATED_APART = 0.15  # relative, of electrons and the valence charges that a file states

_A = r"(?:å|a|ang|angstroms?)"
_B = r"(?:b|bohr|a\.u\.|au)"
_PER_VOLUME = (  # 'e/Å^3', 'per bohr3' or 'Å**-3'
    r"(?:/|\bper\b)\s*\(?{0}\)?\s*(?:\^|\*\*)?\s*3(?!\w)"
    r"|(?<!\w){0}\s*(?:\^|\*\*)\s*\(?\s*-\s*3\)?(?!\w)"
)
_STATED_PER_A3 = re.compile(_PER_VOLUME.format(_A))
_STATED_PER_BOHR3 = re.compile(_PER_VOLUME.format(_B))
_STATED_A = re.compile(r"\bangstroms?\b|\(å\)|coords\s*=\s*(?:a|å|ang\w*)\b")
_STATED_BOHR = re.compile(r"\bbohrs?\b|coords\s*=\s*(?:b|bohr|au|a\.u\.)\b")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One way to take a file's cell and grid.

    Attributes:
        lattice: [3, 3] Å.
        positions: [N, 3] fractional.
        values: [X, Y, Z] in the file's unit, a view of what was read.
        unlikely: how far it is from what the format says, 0 being that.
        note: what is taken differently, '' for what the format says.
    """

    lattice: np.ndarray
    positions: np.ndarray
    values: np.ndarray
    unlikely: float = 0
    note: str = ""

    @property
    def volume(self) -> float:
        """Å^3."""
        return abs(float(np.linalg.det(self.lattice)))


@dataclasses.dataclass(frozen=True)
class _Meaning:
    """A cell in a unit, with the electrons that it then holds."""

    cell: Cell
    unit: str
    unlikely: float

    @property
    def factor(self) -> float:
        """Of the file's unit to e/Å^3."""
        return {PER_BOHR3: BOHR**-3, PER_A3: 1.0, TIMES_VOLUME: 1 / self.cell.volume}[self.unit]

    @property
    def electrons(self) -> float:
        """Of the cell."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.cell.values.mean() * self.cell.volume * self.factor)


def stated_units(title: str) -> tuple[str, str]:
    """Unit of lengths ('Å', 'Bohr') and of the density that a title states; '' for neither."""
    text = title.lower()
    density = PER_A3 if _STATED_PER_A3.search(text) else ""
    density = density or (PER_BOHR3 if _STATED_PER_BOHR3.search(text) else "")
    text = _STATED_PER_A3.sub(" ", _STATED_PER_BOHR3.sub(" ", text))
    length = "Å" if _STATED_A.search(text) else "Bohr" if _STATED_BOHR.search(text) else ""
    return length, density


def repeats(values: np.ndarray) -> tuple[bool, bool]:
    """Whether the last plane of each axis is the first, and whether they hold anything."""
    if min(values.shape) < 2:
        return False, False
    with np.errstate(all="ignore"):
        scale = max(abs(values.max()), abs(values.min()))
        pairs = [(values.take(0, axis), values.take(-1, axis)) for axis in range(3)]
        same = all(abs(a - b).max() <= _SAME_VALUE * scale for a, b in pairs)
        largest = max(abs(b).max() for _, b in pairs)
        return same, bool(largest > _NOTHING * abs(values.mean()))


def choose(
    cells: Sequence[Cell], species: np.ndarray, stated: float = 0.0, unit: str = ""
) -> tuple[Cell, float, tuple[str, ...]]:
    """The cell that a file most likely means, the factor of its unit to e/Å^3, and notes.

    What the format says, `cells[0]` in e/Bohr^3 (or in `unit`), is taken where its electrons and
    distances can be. Else the nearest to it whose electrons are those of the usual valences, and
    whose distances are sound. Where there is none, the format stands, and plausibility warns.

    Args:
        cells: ways to take the file, the first being the format's.
        species: [N] atomic numbers; with unknown ones nothing is concluded.
        stated: valence electrons that the file states, 0 if it does not.
        unit: of the density, where the file states it.
    """
    units = (unit, *(u for u in _UNITS if u != unit)) if unit else _UNITS
    default = _Meaning(cells[0], units[0], 0)
    finite = np.isfinite(default.electrons) and np.isfinite(default.cell.positions).all()
    if not len(species) or not species.all() or not finite:
        return default.cell, default.factor, _notes(default, ())
    grade = _Grade(species, stated)
    sound = not geometry.faults(cells[0].lattice, species, cells[0].positions)
    if sound and (kept := _wholer(cells, default, grade)):
        cell_note = f"so it holds {kept.electrons:.6g} electrons, else {default.electrons:.6g}"
        return kept.cell, kept.factor, _notes(kept, (cell_note,))
    others = [
        _Meaning(cell, unit, cell.unlikely + (unit != units[0]))
        for cell in cells for unit in units
    ][1:]
    if sound and grade.can_be(default.electrons):
        open_ = [o for o in others if o.cell is cells[0] and grade.is_usual(o.electrons)]
        return default.cell, default.factor, _notes(default, tuple(
            f"taken as {default.unit}: {default.electrons:.6g} electrons; as {o.unit} it were "
            f"{o.electrons:.6g}, which its atoms may have, too: check the unit" for o in open_
        ))
    fitting = sorted(
        (o for o in others if grade.is_usual(o.electrons) and _is_sound(o, cells[0], species)),
        key=lambda o: _rank(o, species),
    )
    if fitting:
        return _taken(fitting[0], default, species)
    return _by_count(default, others, species)


def possible(cell: Cell, species: np.ndarray) -> list[tuple[str, float, float]]:
    """Units of a density that states none in which it holds electrons that its atoms may have.

    Args:
        species: [N] atomic numbers; with unknown ones nothing is concluded.

    Returns:
        (unit, factor to e/Å^3, electrons) of each: those of usual valences alone where there are
        any.
    """
    if not len(species) or not species.all():
        return []
    grade = _Grade(species, 0.0)
    found = [_Meaning(cell, unit, 0) for unit in _UNITS]
    usual = [meaning for meaning in found if grade.is_usual(meaning.electrons)]
    usual = usual or [m for m in found if np.isfinite(m.electrons) and grade.can_be(m.electrons)]
    return [(meaning.unit, meaning.factor, meaning.electrons) for meaning in usual]


def _wholer(cells: Sequence[Cell], default: _Meaning, grade: "_Grade") -> _Meaning | None:
    """The same cell with its last planes, where these give the far better whole number.

    Planes of nothing leave it open whether they repeat; then two numbers of electrons may be usual.
    """
    apart = _from_whole(default.electrons)
    for cell in cells[1:]:
        kept = _Meaning(cell, default.unit, cell.unlikely)
        same = np.array_equal(cell.lattice, cells[0].lattice)
        if same and apart > 1e-3 > 5 * _from_whole(kept.electrons) and grade.is_usual(
            kept.electrons
        ):
            return kept
    return None


def _from_whole(electrons: float) -> float:
    return abs(electrons - round(electrons)) if np.isfinite(electrons) else np.inf


class _Grade:
    """Whether atoms can have a number of electrons."""

    def __init__(self, species: np.ndarray, stated: float):
        self._stated = stated
        self._sums = valence.usual_sums(species)
        self._range = valence.valence_range(species)
        self._protons = int(species.sum())

    def is_usual(self, electrons: float) -> bool:
        """Whether neutral atoms have so many, with potentials that are in use."""
        if not 0.5 < electrons < 1e9:
            return False
        if self._stated and abs(electrons - self._stated) < 0.01 + 1e-3 * electrons:
            return True
        return valence.is_usual(electrons, self._sums)

    def can_be(self, electrons: float) -> bool:
        """Whether that is a whole number near those, or all electrons on a coarse grid."""
        if self.is_usual(electrons):
            return True
        if abs(electrons - self._protons) < 0.01 * self._protons:
            return True
        low, high = self._range or (0, self._protons)
        return valence.is_whole(electrons) and 0.85 * low <= electrons <= high + 2


def _rank(meaning: _Meaning, species: np.ndarray) -> tuple[bool, float, float]:
    """Smaller for what is more likely meant: bonded atoms, near the format, near to each other."""
    cell = meaning.cell
    strangeness = geometry.strangeness(cell.lattice, species, cell.positions)
    return strangeness == np.inf, meaning.unlikely, strangeness


def _is_sound(meaning: _Meaning, default: Cell, species: np.ndarray) -> bool:
    """Whether a meaning's lengths can be; those of the format need less evidence."""
    cell = meaning.cell
    if np.array_equal(cell.lattice, default.lattice):
        return not geometry.faults(cell.lattice, species, cell.positions)
    return geometry.strangeness(cell.lattice, species, cell.positions) < np.inf


def _taken(
    meaning: _Meaning, default: _Meaning, species: np.ndarray
) -> tuple[Cell, float, tuple[str, ...]]:
    notes = []
    if meaning.unit != default.unit:
        more = valence.is_more_than_all(default.electrons, species)
        why = "gives more than the atoms have" if more else (
            f"gives {default.electrons:.6g}, which they usually do not have")
        if abs(meaning.electrons - default.electrons) < 1e-3 * meaning.electrons:
            why = f"would be {default.electrons:.6g} with the lengths as the format has them"
        notes.append(f"taken as {meaning.unit}: {meaning.electrons:.6g} electrons, where "
                     f"{default.unit} {why}")
    elif meaning.cell.note:
        notes.append(f"so it holds {meaning.electrons:.6g} electrons, else "
                     f"{default.electrons:.6g}, which its atoms usually do not have")
    return meaning.cell, meaning.factor, _notes(meaning, tuple(notes))


def _by_count(
    default: _Meaning, others: Sequence[_Meaning], species: np.ndarray
) -> tuple[Cell, float, tuple[str, ...]]:
    """More electrons than protons: another unit if it gives a whole number that can be."""
    if not valence.is_more_than_all(default.electrons, species):
        return default.cell, default.factor, _notes(default, ())
    for other in others:
        electrons = other.electrons
        fits = electrons > 0.5 and not valence.is_more_than_all(electrons, species)
        if other.cell is default.cell and fits and valence.is_whole(electrons):
            return _taken(other, default, species)
    return default.cell, default.factor, _notes(default, (
        f"the density, taken as {default.unit}, holds more electrons than the atoms have "
        f"({species.sum()}), and no other unit gives a whole number of them",
    ))


def _notes(meaning: _Meaning, more: tuple[str, ...]) -> tuple[str, ...]:
    return ((meaning.cell.note,) if meaning.cell.note else ()) + more


def note_of_stated(electrons: float, stated: float) -> tuple[str, ...]:
    """A note if the density holds other electrons than the valence charges that a file states."""
    apart = abs(electrons - stated)
    if not stated or apart <= max(0.5, _STATED_APART * stated):
        return ()
    return (f"the file states valence charges of {stated:g} electrons and its density holds "
            f"{electrons:.6g}: one spin, a part or a difference, or another unit",)
