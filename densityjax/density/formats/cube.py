"""Gaussian cube."""

import math

import numpy as np

from densityjax.density.density import (
    MAX_ATOMS,
    Density,
    DensityFormatError,
    check_lattice,
    check_shape,
    make_density,
)
from densityjax.density.formats.text import Text
from densityjax.density.formats.unit import BOHR, choose_unit

_VOXELS_AT_ONCE = 2**16  # of a file with several values for each


def is_cube(head: bytes) -> bool:
    """Whether the lines 3 to 6 of a file are those of a cube: a whole number and three others."""
    lines = [line.split() for line in head.split(b"\n")[2:6]]
    likely = [len(w) in (4, 5) and w[0].lstrip(b"-").isdigit() and b"." in w[1] for w in lines]
    return sum(likely) >= 3


def read_cube(text: Text) -> Density:
    """Reads a periodic cube file: https://h5cube-spec.readthedocs.io/en/latest/cubeformat.html.

    Lengths are in Bohr (in Å where the numbers of voxels are negative). The density is in e/Bohr^3,
    unless the cell would then hold more electrons than its atoms have, see `unit.choose_unit`. With
    several values for a voxel the first is taken. Positions are counted from the grid's origin. ASE
    reads cubes too, but takes a hundred bytes of memory for a number, and any text for a file.

    Raises:
        DensityFormatError: the text is damaged or no cube.
    """
    source = text.source
    text.raw_line()
    comment = text.raw_line().upper()
    if b"OUTER LOOP" in comment and comment.split()[2::3] != [b"X,", b"Y,", b"Z"]:
        raise text.error("'OUTER LOOP: X, MIDDLE LOOP: Y, INNER LOOP: Z', the order of a cube")
    words = text.words("the number of atoms, and the origin")
    num_atoms = _integer(text, words, "the number of atoms, and the origin: four numbers")
    origin = text.floats(3, "the number of atoms, and the origin: four numbers", words[1:])  # [3]
    num_values = 1
    if len(words) > 4:
        num_values = _integer(text, words[4:], "the number of values for each voxel")
    axes = [text.words("a number of voxels and a voxel's edge") for _ in range(3)]
    expected = "the number of voxels along an axis, and a voxel's edge: four numbers"
    counts = [_integer(text, row, expected) for row in axes]
    edges = np.stack([text.floats(3, expected, row[1:]) for row in axes])  # [3, 3]
    if len({count > 0 for count in counts}) != 1:
        raise text.error("numbers of voxels of one sign")
    notes = []
    length = BOHR  # Å
    if counts[0] < 0:
        length, counts = 1.0, [-count for count in counts]
        notes.append("lengths are in Å, as the numbers of voxels are negative")
    # CASTEP repeats the first voxels at the end of each axis.
    repeated = int(b"CASTEP2CUBE" in comment)
    shape = check_shape(counts, f"{source}: line {text.line}")
    check_shape([count - repeated for count in shape], f"{source}: line {text.line}")
    with np.errstate(over="ignore", invalid="ignore"):
        lattice = edges * (np.array(shape)[:, None] - repeated) * length  # [3, 3] Å
    volume = check_lattice(lattice, f"{source}: line {text.line}")

    if abs(num_atoms) > min(MAX_ATOMS, text.remaining // 10):  # a line takes ten bytes
        raise text.error(f"atoms, {abs(num_atoms)} are more than the file has room for")
    expected = f"one of {abs(num_atoms)} atoms: its number, charge and position"
    atoms = np.zeros((abs(num_atoms), 5))  # [N, 5]
    for row in range(len(atoms)):
        atoms[row] = text.floats(5, expected)
    if not np.isin(atoms[:, 0], range(119)).all():
        raise text.error("atomic numbers from 1 to 118")
    species = atoms[:, 0].astype(np.int64)  # [N]
    if num_atoms < 0:  # numbers of orbitals, a value for each of them
        words = text.words("the number of values for each voxel, and their names")
        num_values = _integer(text, words, "the number of values for each voxel, and their names")
        names = len(words) - 1
        while 0 <= names < num_values and (words := text.words("names of the values")):
            names += len(words)
    if num_values < 1:
        raise text.error("a positive number of values for each voxel")
    if num_values > 1:
        notes.append(f"{num_values} values for each voxel, the first is taken")
    values = _read_values(text, shape, num_values)  # [X, Y, Z]
    keep = slice(None, -1 if repeated else None)
    values = values[keep, keep, keep]
    factor, note = choose_unit(values, volume, species)
    with np.errstate(over="ignore", invalid="ignore"):
        positions = (atoms[:, 2:] - origin) * length @ np.linalg.inv(lattice)  # [N, 3]
    return make_density(
        values, (), lattice, species, positions, source, factor=factor, notes=[*notes, *note]
    )


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
        raise DensityFormatError(
            f"{text.source}: {what}: expected {size * num_values} numbers, after them found "
            f"'{rest}'"
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
