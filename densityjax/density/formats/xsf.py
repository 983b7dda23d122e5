"""XCrySDen's XSF."""

import dataclasses
import math
import re

import numpy as np
from pymatgen.core import Element

from densityjax.density.density import (
    MAX_ATOMS,
    UNKNOWN_ELEMENT,
    Density,
    DensityFormatError,
    check_lattice,
    check_shape,
    make_density,
    without_ghosts,
)
from densityjax.density.formats.text import Text, whole
from densityjax.density.formats.unit import BOHR, Cell, choose, repeats, stated_units
from densityjax.density.names import SPIN_CHANNEL, SPIN_DENSITY, kind_of, note_of_title

_KEYWORDS = (b"CRYSTAL", b"SLAB", b"POLYMER", b"MOLECULE", b"ATOMS", b"PRIMVEC", b"ANIMSTEPS",
             b"DIM-GROUP")
# What an XSF file has in its first lines, and a file with the title 'CRYSTAL' or 'SLAB' has not.
_SECTION = re.compile(rb"^\s*(PRIM|CONV|ATOMS|ANIMSTEPS|DIM-GROUP|BEGIN_)", re.MULTILINE)
_GRID = ("BEGIN_DATAGRID_3D", "DATAGRID_3D")
_SAME_CELL = 1e-3  # relative, of vectors written with a few digits
_GHOSTS = ("X", "XX", "BQ")
# Of one of several grids; of a file alone they would say too little.
_SPIN_WORD = re.compile(r"(?i)(?<![a-z])(up|down|dn|dw|alpha|beta|majority|minority)(?![a-z])")


@dataclasses.dataclass(frozen=True)
class _Grid:
    """A datagrid as it is written.

    Attributes:
        title: of its block, and its name.
        values: [X, Y, Z] in the file's unit.
        origin: [3], span: [3, 3], in the file's unit of length.
    """

    title: str
    values: np.ndarray
    origin: np.ndarray
    span: np.ndarray


def is_xsf(head: bytes) -> bool:
    """Whether the first line that is no comment is a keyword of XSF."""
    for line in head.split(b"\n"):
        if (words := line.split()) and not words[0].startswith(b"#"):
            return words[0] in _KEYWORDS and _SECTION.search(head) is not None
    return False


def read_xsf(text: Text) -> Density:
    """Reads the structure and the first 3D grid: http://www.xcrysden.org/doc/XSF.html.

    Grids of XSF are 'general': they repeat the first plane of each axis at its end, and their
    vectors span the cell. The planes are dropped where they do repeat. Grids that do not repeat
    them, whose vectors are (n - 1) / n of the cell, or (n + 1) / n as ASE writes, are taken as they
    are. Lengths are in Å, unless the grid's title says Bohr as Octopus does. The unit of the
    density is e/Bohr^3 or found as `unit.choose` says. Two grids named for the two spins are
    added, their difference is the magnetisation; so are the four of a non-collinear density of
    SIESTA. A spin density beside the density is the magnetisation. Of other grids the first is
    taken. Ghosts (X, number 0 or below) are left out. ASE reads XSF too, but takes a hundred bytes
    of memory for a number.

    Raises:
        DensityFormatError: the text is damaged or no such file.
    """
    source = text.source
    lattice, species, places = _read_structure(text)
    real, ghosts = without_ghosts(species)
    species, places = np.maximum(species[real], UNKNOWN_ELEMENT), places[real]
    grid, others, notes = _read_grids(text)
    notes = ghosts + notes
    length = _length(grid)  # Å of the grid's unit
    if length != 1.0:
        notes.append("lengths are in Bohr, as the grid's title says")
    if not _kind_of_span(grid, lattice, length):  # the structure is in the grid's unit
        lattice, places = lattice * length, places * length
    check_lattice(lattice, f"{source}: line {text.line}")
    cells = _cells(text, grid, length, lattice, places)
    cell, factor, taken = choose(cells, species, unit=stated_units(grid.title)[1])
    spin = [other.values[tuple(slice(n) for n in cell.values.shape)] for other in others]
    if others and _is_spin(grid):
        down, *mixed = spin
        # In place: up becomes up + down, and down up - down = total - 2 down.
        total = cell.values
        total += down
        np.multiply(down, -2.0, out=down)
        down += total
        for part in mixed:  # real and imaginary part of the density matrix' up-down element
            part *= 2.0
    return make_density(
        cell.values, spin, cell.lattice, species, cell.positions, source, factor=factor,
        notes=[*notes, *taken],
    )


def _read_structure(text: Text) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lattice [3, 3], species [N] and places [N, 3], in the unit that is written."""
    lattice = atoms = None
    while True:
        words = _words(text, "PRIMVEC, PRIMCOORD or BEGIN_BLOCK_DATAGRID_3D")
        keyword = words[0].upper()
        if keyword in ("ANIMSTEPS", "MOLECULE", "ATOMS"):
            raise text.error("one periodic structure (CRYSTAL, or SLAB with three cell vectors)")
        if keyword in ("PRIMVEC", "CONVVEC"):
            rows = [
                text.floats(3, "a cell vector: three numbers", _words(text, "a cell vector"))
                for _ in range(3)
            ]
            if keyword == "PRIMVEC":
                lattice = np.stack(rows)  # [3, 3]
                check_lattice(lattice, f"{text.source}: line {text.line}")
        elif keyword == "PRIMCOORD":
            atoms = _read_atoms(text)
        elif keyword.startswith(("BEGIN_BLOCK_DATAGRID_3D", "BEGIN_BLOCK_DATAGRID3D")):
            break
    if lattice is None or atoms is None:
        raise text.error("PRIMVEC and PRIMCOORD before the grid")
    return lattice, *atoms


def _words(text: Text, expected: str) -> list[str]:
    """Words of the next line that is neither blank nor a comment."""
    while text.remaining:
        if (words := text.words(expected)) and not words[0].startswith("#"):
            return words
    raise text.error(expected, "the end of the file")


def _read_atoms(text: Text) -> tuple[np.ndarray, np.ndarray]:
    """Species [N] and places [N, 3] as written."""
    count = whole(_words(text, "the number of atoms")[0])
    if not count or count > min(MAX_ATOMS, text.remaining // 8):  # a line takes eight bytes
        raise text.error("a number of atoms that the file has room for")
    species, places = np.empty(count, np.int64), np.empty((count, 3))
    for row in range(count):
        words = _words(text, f"one of {count} atoms: its element and position")
        number = whole(words[0])
        if number is None and (
            words[0].upper() in _GHOSTS or (words[0][0] == "-" and whole(words[0][1:]))
        ):
            number = UNKNOWN_ELEMENT
        elif number is None:
            if not Element.is_valid_symbol(words[0]):
                raise text.error("an element's symbol or number, and a position")
            number = Element(words[0]).Z
        if number > 118:
            raise text.error("an atomic number")
        species[row] = number
        places[row] = text.floats(3, "an atom's position: three numbers", words[1:])
    return species, places


def _read_grids(text: Text) -> tuple[_Grid, list[_Grid], list[str]]:
    """The first grid, those that belong to it (other spins, or a spin density), and notes."""
    title = ""
    while True:
        line = text.title()  # or the block's name, in any encoding
        if not line and not text.remaining:
            raise text.error("BEGIN_DATAGRID_3D", "the end of the file")
        if line.upper().startswith(_GRID):
            break
        title = line or title
    grid = _read_grid(text, title, line.split()[0])
    names, others, title = [], [], ""
    for line in iter(text.raw_line, b""):
        word = line.strip()[:80].decode(errors="replace")
        if line.split()[:1] in [[keyword] for keyword in _KEYWORDS]:
            raise text.error("nothing after the grids", f"'{word}': two files in one, split them")
        if not word.upper().startswith(_GRID):
            # Only a block's title is looked at, no line of numbers.
            title = word if word[:1].isalpha() and "DATAGRID" not in word.upper() else title
            continue
        names.append(word)
        if len(names) == len(others) + 1 and _belongs(f"{title} {_name_of(word)}", grid, others):
            others.append(_read_grid(text, title, word))
    if len(names) == len(others) in (1, 3):
        if any(o.values.shape != grid.values.shape or not _same(o.span, grid.span) for o in others):
            raise DensityFormatError(f"{text.source}: expected the grids of both spins to be alike")
        if not _is_spin(grid):
            return grid, others, ["the second grid, a spin density, is kept as the magnetisation"]
        return grid, others, ["the grids of both spins are added, their difference is kept"]
    notes = list(note_of_title(grid.title))
    if names:
        notes.append(f"{len(names) + 1} grids, the first is taken and the others are left out "
                     f"({', '.join(names)[:100]}): they may be spins that belong together")
    return grid, [], notes


def _belongs(title: str, grid: _Grid, others: list[_Grid]) -> bool:
    """Whether a grid after these, of a title and name, is of another spin, or of the spin density.

    Grids of spins are two, or four named by numbers as SIESTA has them.
    """
    if _is_spin(grid):
        numbered = re.search(r"(?i)spin_?\d$", title)
        return _names_spin(title) if not others else bool(numbered and len(others) < 3)
    found = kind_of(title)
    return not others and found is not None and found[0] == SPIN_DENSITY


def _is_spin(grid: _Grid) -> bool:
    return _names_spin(grid.title)


def _names_spin(title: str) -> bool:
    found = kind_of(title, title=True)
    return bool(_SPIN_WORD.search(title)) or (found is not None and found[0] == SPIN_CHANNEL)


def _name_of(word: str) -> str:
    """'BEGIN_DATAGRID_3D_rho:spin_1' is named rho:spin_1."""
    return re.sub(r"(?i)^(BEGIN_)?DATAGRID_3D_?", "", word)


def _read_grid(text: Text, title: str, name: str) -> _Grid:
    """A grid whose name is the line that was read last."""
    counts = [whole(word) for word in _words(text, "three numbers of points")]
    if len(counts) != 3 or not all(counts):
        raise text.error("three numbers of points")
    what = f"the grid of {tuple(counts)}"
    shape = check_shape(counts, f"{text.source}: line {text.line}")
    origin = text.floats(3, "the grid's origin", _words(text, "the grid's origin"))  # [3]
    rows = [text.floats(3, "a vector of the grid", _words(text, "a vector")) for _ in range(3)]

    def numbers() -> np.ndarray:
        values = np.empty(math.prod(shape))
        text.numbers(values.size, what, out=values)
        rest = text.next_word()
        if not rest.upper().startswith("END_DATAGRID"):
            raise DensityFormatError(
                f"{text.source}: {what}: expected {values.size} numbers and END_DATAGRID_3D, found "
                f"'{rest or 'the end of the file'}'"
            )
        return values.reshape(shape, order="F")

    return _Grid(f"{title} {_name_of(name)}", text.repaired(numbers), origin, np.stack(rows))


def _length(grid: _Grid) -> float:
    """Å of the unit that the grid's vectors are written in."""
    return BOHR if stated_units(grid.title)[0] == "Bohr" else 1.0


def _kind_of_span(grid: _Grid, lattice: np.ndarray, length: float) -> str:
    """'general', 'periodic' or '' for how the grid's vectors span the cell."""
    size = np.array(grid.values.shape)[:, None]  # [3, 1]
    span = grid.span * length
    if _same(span, lattice):
        return "general"
    if _same(span, lattice * (size - 1) / size) or _same(span, lattice * (size + 1) / size):
        return "periodic"
    return ""


def _cells(
    text: Text, grid: _Grid, length: float, lattice: np.ndarray, places: np.ndarray
) -> list[Cell]:
    """Ways to take the grid; what the format says comes first."""
    kind, values = _kind_of_span(grid, lattice, length), grid.values
    what = f"{text.source}: the grid of {values.shape}"
    if not kind:
        raise DensityFormatError(
            f"{what}: expected a grid that spans the cell {lattice.tolist()}, found "
            f"{(grid.span * length).tolist()}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        positions = (places - grid.origin * length) @ np.linalg.inv(lattice)  # [N, 3]
    if kind == "periodic":
        return [Cell(lattice, positions, values)]
    if min(values.shape) < 2:
        raise DensityFormatError(f"{what}: expected two points along each axis")
    same, held = repeats(values)
    kept = "the grid's last planes do not repeat its first, they are kept"
    if not same:
        return [Cell(lattice, positions, values, 0, kept)]
    cells = [Cell(lattice, positions, values[:-1, :-1, :-1])]
    if not held:  # planes of nothing are the same whether they repeat or not
        kept = "the grid's last planes hold nothing and are kept"
        cells.append(Cell(lattice, positions, values, 1, kept))
    return cells


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(abs(a - b).max() <= _SAME_CELL * abs(b).max())
