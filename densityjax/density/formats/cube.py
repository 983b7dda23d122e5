"""Gaussian cube."""

import dataclasses
import math
import re

import numpy as np

from densityjax.density.density import (
    MAX_ATOMS,
    MAX_LENGTH,
    MIN_VOLUME,
    UNKNOWN_ELEMENT,
    Density,
    DensityFormatError,
    check_lattice,
    check_shape,
    make_density,
    without_ghosts,
)
from densityjax.density.formats.text import Text
from densityjax.density.formats.unit import (
    BOHR,
    Cell,
    choose,
    note_of_stated,
    repeats,
    stated_units,
)
from densityjax.density.names import note_of_title

_VOXELS_AT_ONCE = 2**16  # of a file with several values for each
_COARSE = 2.0  # Å, of an edge of a voxel; 0.05 to 0.5 are usual
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?")


@dataclasses.dataclass(frozen=True)
class _Header:
    """Lines 1 to 6: lengths as they are written."""

    title: str
    num_atoms: int  # negative: the values are of orbitals
    origin: np.ndarray  # [3]
    num_values: int  # of each voxel
    shape: tuple[int, int, int]
    edges: np.ndarray  # [3, 3], rows are the edges of a voxel
    negative: bool  # numbers of voxels, which means Å


def is_cube(head: bytes) -> bool:
    """Whether the lines 3 to 6 of a file are those of a cube: a whole number and three others."""
    lines = [line.split() for line in head.split(b"\n")[2:6]]
    likely = [
        len(w) in (4, 5) and w[0].lstrip(b"-").isdigit() and all(map(_NUMBER.fullmatch, w[1:4]))
        for w in lines
    ]
    return sum(likely) >= 3


def read_cube(text: Text) -> Density:
    """Reads a periodic cube file: https://h5cube-spec.readthedocs.io/en/latest/cubeformat.html.

    Lengths are in Bohr (in Å where the numbers of voxels are negative or the title says so), the
    density in e/Bohr^3, and the grid has each point of the cell once. Where the atoms cannot have
    the electrons or distances that this gives, other meanings are looked at, see `unit.choose`.
    With several values for a voxel the first is taken. Positions are counted from the grid's
    origin. Atoms of number 0 or below beside others are ghosts, which are left out. ASE reads cubes
    too, but takes a hundred bytes of memory for a number, and any text for a file.

    Raises:
        DensityFormatError: the text is damaged or no cube.
    """
    header = _read_header(text)
    species, charges, places, notes = _read_atoms(text, abs(header.num_atoms))
    num_values = _number_of_values(text, header)
    if num_values > 1:
        notes.append(f"{num_values} values for each voxel, the first is taken")
    values = text.repaired(lambda: _read_values(text, header.shape, num_values))  # [X, Y, Z]
    notes += [*note_of_title(header.title), *_note_of_spins(header.title)]
    valences = charges[species > 0]
    stated = 0.0  # charges that are the atomic numbers say nothing
    if len(valences) and (valences > 0).all() and valences.sum() < species.sum() - 0.5:
        stated = float(valences.sum())
    unit = stated_units(header.title)[1]
    cell, factor, taken = choose(_cells(header, places, values), species, stated, unit)
    density = make_density(
        cell.values, (), cell.lattice, species, cell.positions, text.source, factor=factor,
        notes=[*notes, *taken],
    )
    more = note_of_stated(density.num_electrons, stated)
    spins = _spins(header.title)
    return dataclasses.replace(density, notes=density.notes + more, stated_spins=spins)


def _read_header(text: Text) -> _Header:
    title = text.title()
    second = text.title()
    comment = second.upper()
    if "OUTER LOOP" in comment and comment.split()[2::3] != ["X,", "Y,", "Z"]:
        raise text.error("'OUTER LOOP: X, MIDDLE LOOP: Y, INNER LOOP: Z', the order of a cube")
    expected = "the number of atoms, and the origin: four numbers"
    words = text.words("the number of atoms, and the origin")
    num_atoms = _integer(text, words, expected)
    origin = text.floats(3, expected, words[1:])  # [3]
    num_values = 1
    if len(words) > 4:
        num_values = _integer(text, words[4:], "the number of values for each voxel")
    axes = [text.words("a number of voxels and a voxel's edge") for _ in range(3)]
    expected = "the number of voxels along an axis, and a voxel's edge: four numbers"
    counts = [_integer(text, row, expected) for row in axes]
    edges = np.stack([text.floats(3, expected, row[1:]) for row in axes])  # [3, 3]
    if len({count > 0 for count in counts}) != 1:
        raise text.error("numbers of voxels of one sign")
    shape = check_shape([abs(n) for n in counts], f"{text.source}: line {text.line}")
    header = _Header(
        f"{title} {second}", num_atoms, origin, num_values, shape, edges, counts[0] < 0
    )
    check_lattice(_lattice(header, _length(header)[0]), f"{text.source}: line {text.line}")
    return header


def _length(header: _Header) -> tuple[float, str]:
    """Å of the file's unit of length, and a note unless it is Bohr."""
    stated = stated_units(header.title)[0]
    if stated == "Å":
        return 1.0, "lengths are in Å, as the title says"
    if not header.negative:
        return BOHR, ""
    if stated == "Bohr":
        return BOHR, "lengths are in Bohr, as the title says, though numbers of voxels are negative"
    return 1.0, "lengths are in Å, as the numbers of voxels are negative"


def _lattice(header: _Header, length: float, less: int = 0) -> np.ndarray:
    """[3, 3] Å, of a grid with `less` points along each axis."""
    with np.errstate(over="ignore", invalid="ignore"):
        return header.edges * (np.array(header.shape)[:, None] - less) * length


def _cells(header: _Header, places: np.ndarray, values: np.ndarray) -> list[Cell]:
    """Ways to take the cell; what the format says comes first.

    Args:
        places: [N, 3] of the atoms, as written.
        values: [X, Y, Z].
    """
    length, note = _length(header)
    other = (1.0, "lengths are taken as Å") if length != 1.0 else (
        BOHR, "lengths are taken as Bohr, against the sign of the numbers of voxels or the title")
    cells = []

    def add(lattice: np.ndarray, unit: float, less: int, unlikely: float, notes: list[str]) -> None:
        if not (abs(lattice) < MAX_LENGTH).all() or not abs(np.linalg.det(lattice)) > MIN_VOLUME:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            positions = (places - header.origin) * unit @ np.linalg.inv(lattice)  # [N, 3]
        inner = slice(None, -less if less else None)
        if np.isfinite(positions).all() or not cells:
            cells.append(Cell(lattice, positions, values[inner, inner, inner], unlikely,
                              "; ".join(notes)))

    doubled = "the last planes repeat the first, they are left out"
    # CASTEP repeats the first voxels at the end of each axis.
    castep = "CASTEP2CUBE" in header.title.upper() and min(header.shape) > 1
    same, held = repeats(values)
    for unit, unlikely, notes in ((length, 0, [note] * bool(note)), (other[0], 1, [other[1]])):
        if castep:
            add(_lattice(header, unit, 1), unit, 1, unlikely, notes)
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            coarse = (np.linalg.norm(header.edges, axis=1) * unit > _COARSE).all()
        whole = [(0, notes), (1, [*notes, doubled])][: 1 + same]
        # Planes that hold something repeat by design, those of a vacuum in any case.
        for rank, (less, said) in enumerate(whole[::-1] if held else whole):
            add(_lattice(header, unit, less), unit, less, unlikely + coarse + rank, said)
        as_cell = "the vectors of the voxels are taken as those of the cell"
        with np.errstate(over="ignore", invalid="ignore"):
            add(header.edges * unit, unit, 0, unlikely + 1 - coarse, [*notes, as_cell])
    return cells


def _read_atoms(
    text: Text, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Species [N], charges [N], places [N, 3] as written, and notes."""
    if count > min(MAX_ATOMS, text.remaining // 10):  # a line takes ten bytes
        raise text.error(f"atoms, {count} are more than the file has room for")
    expected = f"one of {count} atoms: its number, charge and position"
    atoms = np.zeros((count, 5))  # [N, 5]
    for row in range(count):
        atoms[row] = text.floats(5, expected)
    if not np.isin(atoms[:, 0], range(-118, 119)).all():
        raise text.error("atomic numbers from 1 to 118")
    real, notes = without_ghosts(atoms[:, 0])
    atoms = atoms[real]
    species = np.maximum(atoms[:, 0], UNKNOWN_ELEMENT).astype(np.int64)
    return species, atoms[:, 1], atoms[:, 2:], notes


def _number_of_values(text: Text, header: _Header) -> int:
    """Values for each voxel; of orbitals they are told after the atoms."""
    num_values, expected = header.num_values, "the number of values for each voxel, and their names"
    if header.num_atoms < 0:
        words = text.words(expected)
        num_values = _integer(text, words, expected)
        names = len(words) - 1
        while 0 <= names < num_values and (words := text.words("names of the values")):
            names += len(words)
    if num_values < 1:
        raise text.error("a positive number of values for each voxel")
    return num_values


def _spins(title: str) -> int:
    """Spins of the calculation where ABACUS states them ('2 (nspin) ...'), else 0."""
    abacus = r"\b(\d)\s*(?:\(nspin\)|# number of spin directions)"
    found = re.search(rf"{abacus}|\bnspin\s*[=:]?\s*(\d)\b", title, re.IGNORECASE)
    return int(found[1] or found[2]) if found else 0


def _note_of_spins(title: str) -> tuple[str, ...]:
    if _spins(title) != 2:
        return ()
    return ("the file states two spins (nspin 2) and holds one of them: add both files to the "
            "density",)


def _read_values(text: Text, shape: tuple[int, int, int], num_values: int) -> np.ndarray:
    """The first value of each voxel, [X, Y, Z]; z is fastest. Nothing may follow."""
    size, what = math.prod(shape), f"the grid of {shape}"
    if 2 * size * num_values > text.remaining + 1:
        raise DensityFormatError(
            f"{text.source}: {what}: expected {size * num_values} numbers, the file ends before"
        )
    values = np.empty(size)
    if num_values == 1:
        text.numbers(size, what, out=values)
    else:
        # A few at a time: all of them would fill the memory.
        step = max(1, _VOXELS_AT_ONCE // num_values)
        for start in range(0, size, step):
            piece = np.empty((min(step, size - start), num_values))
            part = f"{what}, from voxel {start + 1}, {num_values} values for each"
            text.numbers(piece.size, part, out=piece.reshape(-1))
            values[start : start + len(piece)] = piece[:, 0]
    if rest := text.rest():
        another = "" if _NUMBER.fullmatch(rest.encode()) else " (two frames or files in one?)"
        raise DensityFormatError(
            f"{text.source}: {what}: expected {size * num_values} numbers, after them found "
            f"'{rest}'{another}"
        )
    return values.reshape(shape)


def _integer(text: Text, words: list[str], expected: str) -> int:
    """The first word as a whole number below 1e9 in size."""
    try:
        number = int(words[0][:12])
    except (ValueError, IndexError) as error:
        raise text.error(expected) from error
    if abs(number) > 10**9:
        raise text.error(expected)
    return number
