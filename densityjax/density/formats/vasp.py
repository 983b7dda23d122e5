"""VASP's CHGCAR, CHG, AECCAR and PARCHG, of versions 4 to 6."""

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
)
from densityjax.density.formats.text import Text, whole

_BLOCKS = {1: "charge", 2: "charge, m", 4: "charge, mx, my, mz"}


def read_vasp(text: Text) -> Density:
    """Reads text as VASP writes densities: https://www.vasp.at/wiki/index.php/CHGCAR.

    A POSCAR (VASP 5 or later, or 4, which has no line of element names), then rho * V_cell with x
    fastest, then one (collinear) or three (non-collinear) further blocks of m * V_cell. PAW
    augmentation occupancies, which follow each block, are passed over: they are no density. The
    numbers are parsed by pymatgen's compiled reader; its `Chgcar.from_file` is not used, because it
    takes a file with more numbers than the grid has.

    Elements of a VASP 4 file are those of the comment line, where it names as many as there are
    counts, else unknown: atomic number 0.

    Raises:
        DensityFormatError: the text is damaged or is none of these files.
    """
    source = text.source
    lattice, species, positions, notes = _read_header(text)
    blocks, augmented = _read_blocks(text)
    if len(blocks) not in _BLOCKS:
        expected = " or ".join(f"{n} ({names})" for n, names in _BLOCKS.items())
        raise DensityFormatError(f"{source}: {len(blocks)} grid blocks; expected {expected}")
    if augmented and augmented != len(blocks) * len(species):  # VASP writes them for each atom
        notes.append(
            f"PAW augmentation of {augmented} atoms in {len(blocks)} blocks of {len(species)} "
            "atoms: the file may be cut short"
        )
    values, *spin = blocks  # each [X, Y, Z] times V_cell
    return make_density(
        values, spin, lattice, species, positions, source,
        factor=1 / check_lattice(lattice, source), code="VASP" if augmented else "unknown",
        notes=notes,
    )


def _read_header(text: Text) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The POSCAR part: lattice [3, 3] Å, species [N], fractional positions [N, 3], notes."""
    comment = text.words("a comment")
    line = text.words("a scale factor")
    scale = text.floats(
        3 if len(line) == 3 else 1, "a scale factor: one number, or three", line
    )  # [1 or 3]
    vectors = [text.floats(3, "a cell vector: three numbers") for _ in range(3)]
    lattice = np.stack(vectors)  # [3, 3]
    with np.errstate(all="ignore"):  # what overflows is refused below
        if len(scale) == 1 and scale[0] < 0:  # minus the wanted volume in Å^3
            scale = np.cbrt(-scale / abs(np.linalg.det(lattice)))
        lattice = lattice * scale  # [3, 3] Å; three factors scale the columns x, y, z
    check_lattice(lattice, f"{text.source}: line {text.line}")

    words = text.words("element symbols or atom counts")
    counts, notes = _whole(words), []
    if words and counts:  # VASP 4
        species, symbols = _species_of_comment(comment, counts), words
        if species[0] != UNKNOWN_ELEMENT:
            notes.append("elements are those of the comment line, the header has none (VASP 4)")
    else:
        symbols = [word.split("_")[0].split("/")[0] for word in words]  # Fe_pv/ab12
        if not symbols or not all(Element.is_valid_symbol(symbol) for symbol in symbols):
            raise text.error("element symbols, as VASP 5 writes them above the numbers of atoms")
        counts = _whole(text.words("atom counts"))
        species = [Element(symbol).Z for symbol in symbols]
    if len(counts) != len(symbols):
        raise text.error(f"{len(symbols)} atom counts, one for each element")
    if sum(counts) > min(MAX_ATOMS, text.remaining // 6):  # a position takes six bytes
        raise text.error(f"atom counts, {sum(counts)} atoms are more than the file has room for")
    species = np.repeat(species, counts)  # [N]

    style = text.words("'Direct' or 'Cartesian'")
    if style and style[0][0] in "sS":  # Selective dynamics
        style = text.words("'Direct' or 'Cartesian'")
    if not style or style[0][0] not in "dDcCkK":
        raise text.error("'Direct' or 'Cartesian'")
    row = f"the position of one of {len(species)} atoms: three numbers"
    positions = np.stack([text.floats(3, row) for _ in species])  # [N, 3]
    if style[0][0] not in "dD":
        with np.errstate(over="ignore", invalid="ignore"):
            positions = positions * scale @ np.linalg.inv(lattice)
    return lattice, species, positions, notes


def _whole(words: list[str]) -> list[int]:
    """The words as positive whole numbers; empty if one is none."""
    numbers = [whole(word) for word in words]
    return [n for n in numbers if n] if all(numbers) else []


def _species_of_comment(comment: list[str], counts: list[int]) -> list[int]:
    """Atomic numbers of 'Hf S' or 'Hf4 S2' for counts 4 2; else unknown ones."""
    matches = [re.fullmatch(r"([A-Z][a-z]?)(\d*)", word) for word in comment]
    if len(matches) == len(counts) and all(
        match and Element.is_valid_symbol(match[1]) and match[2] in ("", str(count))
        for match, count in zip(matches, counts)
    ):
        return [Element(match[1]).Z for match in matches]
    return [UNKNOWN_ELEMENT] * len(counts)


def _read_blocks(text: Text) -> tuple[list[np.ndarray], int]:
    """What follows the header: the grid blocks, each [X, Y, Z], and how many PAW data do."""
    blocks: list[np.ndarray] = []
    augmented = 0
    for line in iter(text.raw_line, b""):
        words = line.split()
        if not words:
            continue
        if words[0] == b"augmentation" and blocks:
            augmented += b"(imaginary" not in words
            if count := whole(words[-1]):  # ... of atom I, N numbers
                text.numbers(count, "augmentation occupancies", more=True)
        elif len(words) == 3 and all(whole(word) for word in words):
            shape = tuple(int(word) for word in words)
            if blocks and shape != blocks[0].shape:
                if augmented:
                    continue
                raise DensityFormatError(
                    f"{text.source}: grid block {len(blocks) + 1} is {shape}; expected "
                    f"{blocks[0].shape} as in the first"
                )
            what = f"grid block {len(blocks) + 1} of {shape}"
            check_shape(shape, f"{text.source}: {what}")
            if len(blocks) == max(_BLOCKS):
                raise DensityFormatError(f"{text.source}: more than {len(blocks)} grid blocks")
            values = text.numbers(math.prod(shape), what)
            blocks.append(values.reshape(shape, order="F"))
        elif not augmented:  # after PAW data VASP may write atomic moments, of no use here
            expected = "three grid dimensions" if not blocks else "nothing or another grid block"
            found = line[:40].decode(errors="replace").strip()
            after = f"{len(blocks)} grid blocks" if blocks else "the header"
            raise DensityFormatError(
                f"{text.source}: after {after}: expected {expected}, found '{found}'"
            )
    return blocks, augmented
