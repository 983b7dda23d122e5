"""XCrySDen's XSF."""

import math

import numpy as np
from pymatgen.core import Element

from densityjax.density.density import (
    MAX_ATOMS,
    Density,
    DensityFormatError,
    check_lattice,
    check_shape,
    make_density,
)
from densityjax.density.formats.text import Text, whole
from densityjax.density.formats.unit import choose_unit

_KEYWORDS = (b"CRYSTAL", b"SLAB", b"POLYMER", b"MOLECULE", b"ATOMS", b"PRIMVEC", b"ANIMSTEPS",
             b"DIM-GROUP")
_SAME_CELL = 1e-3  # relative, of vectors written with a few digits
_SAME_VALUE = 1e-3  # of the largest value: repeated planes


def is_xsf(head: bytes) -> bool:
    """Whether the first line that is no comment is a keyword of XSF."""
    for line in head.split(b"\n"):
        if (words := line.split()) and not words[0].startswith(b"#"):
            return words[0] in _KEYWORDS
    return False


def read_xsf(text: Text) -> Density:
    """Reads the structure and the first 3D grid: http://www.xcrysden.org/doc/XSF.html.

    Grids of XSF are 'general': they repeat the first plane of each axis at its end, and their
    vectors span the cell. The planes are dropped where they do repeat. Grids that do not repeat
    them, whose vectors are (n - 1) / n of the cell, or (n + 1) / n as ASE writes, are taken as they
    are. The unit is e/Bohr^3 or found as `unit.choose_unit` says. ASE reads XSF too, but takes a
    hundred bytes of memory for a number.

    Raises:
        DensityFormatError: the text is damaged or no such file.
    """
    source = text.source
    lattice = species = positions = None
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
                lattice = np.stack(rows)  # [3, 3] Å
                check_lattice(lattice, f"{source}: line {text.line}")
        elif keyword == "PRIMCOORD":
            species, positions = _read_atoms(text)
        elif keyword.startswith(("BEGIN_BLOCK_DATAGRID_3D", "BEGIN_BLOCK_DATAGRID3D")):
            break
    if lattice is None or positions is None:
        raise text.error("PRIMVEC and PRIMCOORD before the grid")
    values, origin, notes = _read_grid(text, lattice)
    factor, note = choose_unit(values, check_lattice(lattice, source), species)
    with np.errstate(over="ignore", invalid="ignore"):
        positions = (positions - origin) @ np.linalg.inv(lattice)  # [N, 3]
    return make_density(
        values, (), lattice, species, positions, source, factor=factor, notes=[*notes, *note]
    )


def _words(text: Text, expected: str) -> list[str]:
    """Words of the next line that is neither blank nor a comment."""
    while text.remaining:
        if (words := text.words(expected)) and not words[0].startswith("#"):
            return words
    raise text.error(expected, "the end of the file")


def _read_atoms(text: Text) -> tuple[np.ndarray, np.ndarray]:
    """Species [N] and positions [N, 3] Å."""
    count = whole(_words(text, "the number of atoms")[0])
    if not count or count > min(MAX_ATOMS, text.remaining // 8):  # a line takes eight bytes
        raise text.error("a number of atoms that the file has room for")
    species, positions = np.empty(count, np.int64), np.empty((count, 3))
    for row in range(count):
        words = _words(text, f"one of {count} atoms: its element and position")
        number = whole(words[0])
        if number is None:
            if not Element.is_valid_symbol(words[0]):
                raise text.error("an element's symbol or number, and a position")
            number = Element(words[0]).Z
        if number > 118:
            raise text.error("an atomic number")
        species[row] = number
        positions[row] = text.floats(3, "an atom's position: three numbers", words[1:])
    return species, positions


def _read_grid(text: Text, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The first grid: values [X, Y, Z] without repeated planes, origin [3] Å, notes."""
    while True:
        words = _words(text, "BEGIN_DATAGRID_3D")  # or the block's name
        if words[0].upper().startswith(("BEGIN_DATAGRID_3D", "DATAGRID_3D")):
            break
    counts = [whole(word) for word in _words(text, "three numbers of points")]
    if len(counts) != 3 or not all(counts):
        raise text.error("three numbers of points")
    what = f"the grid of {tuple(counts)}"
    shape = check_shape(counts, f"{text.source}: line {text.line}")
    origin = text.floats(3, "the grid's origin", _words(text, "the grid's origin"))  # [3] Å
    rows = [text.floats(3, "a vector of the grid", _words(text, "a vector")) for _ in range(3)]
    span = np.stack(rows)  # [3, 3] Å
    values = np.empty(math.prod(shape))
    text.numbers(values.size, what, out=values)
    rest = text.rest()
    if not rest.upper().startswith("END_DATAGRID"):
        raise DensityFormatError(
            f"{text.source}: {what}: expected {values.size} numbers and END_DATAGRID_3D, found "
            f"'{rest or 'the end of the file'}'"
        )
    values = values.reshape(shape, order="F")
    size = np.array(shape)[:, None]  # [3, 1]
    if _same(span, lattice):
        if min(shape) < 2:
            raise DensityFormatError(f"{text.source}: {what}: expected two points along each axis")
        inner = values[:-1, :-1, :-1]
        if _repeats(values):
            return inner, origin, []
        return values, origin, ["the grid's last planes do not repeat its first, they are kept"]
    if _same(span, lattice * (size - 1) / size) or _same(span, lattice * (size + 1) / size):
        return values, origin, []
    raise DensityFormatError(
        f"{text.source}: {what}: expected a grid that spans the cell {lattice.tolist()}, "
        f"found {span.tolist()}"
    )


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(abs(a - b).max() <= _SAME_CELL * abs(b).max())


def _repeats(values: np.ndarray) -> bool:
    """Whether the last plane of each axis is the first."""
    with np.errstate(all="ignore"):
        scale = max(abs(values.max()), abs(values.min()))
        return all(
            abs(values.take(0, axis) - values.take(-1, axis)).max() <= _SAME_VALUE * scale
            for axis in range(3)
        )
