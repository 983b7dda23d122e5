"""VASP's CHGCAR, CHG, AECCAR and PARCHG, of versions 4 to 6."""

import dataclasses
import math
import re
from collections.abc import Callable

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
from densityjax.density.formats.text import Text, shown, whole

# Fe_pv, Fe/5e0f28cc669, Fe1, Fe2+, H1.25, Fe(1), Fe:up: an element and which of its kind.
_SYMBOL = re.compile(r"([A-Z][a-z]?)(?:[^A-Za-z].*)?")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?")
_BLOCKS = {1: "charge", 2: "charge, m", 4: "charge, mx, my, mz"}


@dataclasses.dataclass
class _Header:
    """The POSCAR part."""

    lattice: np.ndarray  # [3, 3] Å
    species: np.ndarray  # [N]
    positions: np.ndarray  # [N, 3] fractional
    notes: list[str]


def is_vasp(head: bytes) -> bool:
    """Whether the lines 2 to 5 of a file are those of a POSCAR: a scale factor, three vectors.

    Line 1 is a title, which may look like any other format: '[110] surface', 'SLAB', '<111>'.
    """
    lines = [line.split() for line in head.split(b"\n")[1:5]]
    counts = [
        next((n for n, word in enumerate(words) if not _NUMBER.fullmatch(word)), len(words))
        for words in lines
    ]
    return len(counts) == 4 and counts[0] in (1, 3) and all(n >= 3 for n in counts[1:])


def read_vasp(text: Text) -> Density:
    """Reads text as VASP writes densities: https://www.vasp.at/wiki/index.php/CHGCAR.

    A POSCAR (VASP 5 or later, or 4, which has no line of element names), then rho * V_cell with x
    fastest, then one (collinear) or three (non-collinear) further blocks of m * V_cell. PAW
    augmentation occupancies, which follow each block, are passed over: they are no density. A CHG
    of a relaxation has all that for each step, of which the last is taken. The numbers are parsed
    by pymatgen's compiled reader; its `Chgcar.from_file` is not used, because it takes a file with
    more numbers than the grid has.

    Elements of a VASP 4 file are those of the comment line, where it names as many as there are
    counts, else unknown: atomic number 0.

    Raises:
        DensityFormatError: the text is damaged or is none of these files.
    """
    source, steps = text.source, 0
    following: _Header | None = _read_header(text)
    while following:
        header, steps = following, steps + 1
        blocks, augmented, following = _read_blocks(text, header)
    lattice, species, notes = header.lattice, header.species, header.notes
    if steps > 1:
        notes.append(f"{steps} structures in the file, as of the steps of a relaxation: the last "
                     "is taken")
    if len(blocks) not in _BLOCKS:
        expected = " or ".join(f"{n} ({names})" for n, names in _BLOCKS.items())
        poscar = "" if blocks else " (a POSCAR or CONTCAR alone has no density)"
        raise DensityFormatError(
            f"{source}: {len(blocks)} grid blocks; expected {expected}{poscar}"
        )
    if augmented and augmented != len(blocks) * len(species):  # VASP writes them for each atom
        notes.append(
            f"PAW augmentation of {augmented} atoms in {len(blocks)} blocks of {len(species)} "
            "atoms: the file may be cut short"
        )
    values, *spin = blocks  # each [X, Y, Z] times V_cell
    return make_density(
        values, spin, lattice, species, header.positions, source,
        factor=1 / check_lattice(lattice, source), code="VASP" if augmented else "unknown",
        notes=notes,
    )


def _read_header(text: Text) -> _Header:
    comment = text.title().split()
    scale, lattice = _read_lattice(text)
    counts, species, notes = _read_species(text, comment)
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
    return _Header(lattice, species, positions, notes)


def _read_lattice(text: Text) -> tuple[np.ndarray, np.ndarray]:
    """Scale factors [1 or 3], and the lattice [3, 3] Å."""
    line = _without_comment(text.words("a scale factor"))
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
    return scale, lattice


def _read_species(text: Text, comment: list[str]) -> tuple[list[int], list[int], list[str]]:
    """Counts and atomic numbers of the groups of atoms, and notes. Both may take several lines."""
    words, notes = _without_comment(text.words("element symbols or atom counts")), []
    if counts := _whole(words):  # VASP 4
        counts += _more(text, _whole)
        species = _species_of_comment(comment, counts)
        if species[0] != UNKNOWN_ELEMENT:
            notes.append("elements are those of the comment line, the header has none (VASP 4)")
    else:
        if not (species := _elements(words)):
            raise text.error("element symbols, as VASP 5 writes them above the numbers of atoms")
        species += _more(text, _elements)
        counts = _whole(_without_comment(text.words("atom counts")))
        if counts and len(counts) < len(species):
            counts += _more(text, _whole)
    if len(counts) != len(species):
        raise text.error(f"{len(species)} atom counts, one for each element")
    if not sum(counts):
        raise text.error("atoms")
    return counts, species, notes


def _more(text: Text, read: Callable[[list[str]], list[int]]) -> list[int]:
    """What `read` finds in the next lines, up to one of which it makes nothing."""
    found: list[int] = []
    while True:
        mark = text.mark()
        numbers = read(_without_comment(text.words("'Direct' or 'Cartesian'")))
        if not numbers:
            text.back_to(mark)
            return found
        found += numbers


def _without_comment(words: list[str]) -> list[str]:
    """Words before one that starts with ! or #."""
    ends = [at for at, word in enumerate(words) if word[0] in "!#"]
    return words[: ends[0]] if ends else words


def _elements(words: list[str]) -> list[int]:
    """Atomic numbers of the words; empty if one names no element."""
    matches = [_SYMBOL.fullmatch(word) for word in words]
    if not all(match and Element.is_valid_symbol(match[1]) for match in matches):
        return []
    return [Element(match[1]).Z for match in matches]


def _whole(words: list[str]) -> list[int]:
    """The words as whole numbers; empty if one is none."""
    numbers = [whole(word) for word in words]
    return [] if None in numbers else numbers


def _species_of_comment(comment: list[str], counts: list[int]) -> list[int]:
    """Atomic numbers of 'Hf S' or 'Hf4 S2' for counts 4 2; else unknown ones."""
    matches = [re.fullmatch(r"([A-Z][a-z]?)(\d*)", word) for word in comment]
    if len(matches) == len(counts) and all(
        match and Element.is_valid_symbol(match[1]) and match[2] in ("", str(count))
        for match, count in zip(matches, counts)
    ):
        return [Element(match[1]).Z for match in matches]
    return [UNKNOWN_ELEMENT] * len(counts)


def _read_blocks(text: Text, header: _Header) -> tuple[list[np.ndarray], int, _Header | None]:
    """What follows the header: the grid blocks, each [X, Y, Z], how many PAW data do, and the next
    header if there is one."""
    blocks: list[np.ndarray] = []
    augmented = 0
    mark = above = text.mark()  # where this line starts, and the one above if it is blank
    for line in iter(text.raw_line, b""):
        words = line.split()
        paw = line.lstrip().startswith(b"augmentation occupancies")
        if words and blocks and not paw and (
            following := _next_header(text, (mark, above), header)
        ):
            return blocks, augmented, following
        if not words:
            above = mark
        elif paw and blocks:
            augmented += b"(imaginary" not in words
            if count := whole(words[-1]):  # ... of atom I, N numbers
                text.numbers(count, "augmentation occupancies", more=True)
        elif len(words) == 3 and all(whole(word) for word in words):
            shape = tuple(int(word) for word in words)
            if not augmented or shape == blocks[0].shape:
                blocks.append(_read_block(text, shape, blocks))
        elif not augmented:  # after PAW data VASP may write atomic moments; others write text
            raise _unexpected(text, line, len(blocks))
        mark = text.mark()
        if words:
            above = mark
    return blocks, augmented, None


def _read_block(text: Text, shape: tuple[int, ...], blocks: list[np.ndarray]) -> np.ndarray:
    """The numbers of another block, [X, Y, Z]."""
    if blocks and shape != blocks[0].shape:
        raise DensityFormatError(
            f"{text.source}: grid block {len(blocks) + 1} is {shape}; expected "
            f"{blocks[0].shape} as in the first"
        )
    what = f"grid block {len(blocks) + 1} of {shape}"
    check_shape(shape, f"{text.source}: {what}")
    if len(blocks) == max(_BLOCKS):
        raise DensityFormatError(f"{text.source}: more than {len(blocks)} grid blocks")
    return text.numbers(math.prod(shape), what).reshape(shape, order="F")


def _next_header(
    text: Text, starts: tuple[tuple[int, int], tuple[int, int]], header: _Header
) -> _Header | None:
    """The header of a further step at one of two starts, None (and nothing is read) if none is.

    Its title may be anything: blank, three whole numbers, a word that other lines start with.

    Raises:
        DensityFormatError: it is that of another material.
    """
    after, following = text.mark(), None
    for start in dict.fromkeys(starts):
        text.back_to(start)
        try:
            following = _read_header(text)
            break
        except DensityFormatError:
            pass
    if following is None:
        text.back_to(after)
        return None
    if not np.array_equal(following.species, header.species):
        raise DensityFormatError(
            f"{text.source}: two files in one, the second starts before line {text.line} with "
            "other atoms; expected the steps of one material, split the file"
        )
    return following


def _unexpected(text: Text, line: bytes, num_blocks: int) -> DensityFormatError:
    """What to raise for a line where a grid or the end was expected."""
    found = shown(line)
    if not num_blocks and b"(fermi energy" in text.raw_line():
        return DensityFormatError(
            f"{text.source}: ABACUS's own format of densities, which is not read: give the .cube "
            "file that it writes beside it"
        )
    expected = "three grid dimensions" if not num_blocks else "nothing or another grid block"
    after = f"{num_blocks} grid blocks" if num_blocks else "the header"
    another = " (two files in one?)" if num_blocks and not _NUMBER.match(line.strip()) else ""
    return DensityFormatError(
        f"{text.source}: after {after}: expected {expected}, found '{found}'{another}"
    )
