"""Density files in, `Density` out: the only reader of densities."""

import bz2
import gzip
import io
import lzma
import os
import zlib
from pathlib import Path

import numpy as np
from pymatgen.core import Element
from pymatgen.optimization.fast_parser import parse_n_doubles

from densityjax.density import Density, DensityFormatError
from densityjax.formats.table import density_from_row

__all__ = [
    "Density", "DensityFormatError", "density_from_row", "read_density", "read_density_bytes",
]  # fmt: skip

# First bytes of a compressed file -> what expands it. The content decides, not the file's name.
_DECOMPRESS = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ\0": lzma.decompress}
_BLOCKS = {1: "charge", 2: "charge, m", 4: "charge, mx, my, mz"}


def read_density(path: str | os.PathLike) -> Density:
    """Reads a VASP 5 CHGCAR-like file, plain or compressed with gzip, bzip2 or xz.

    VASP stores rho * V_cell with x fastest, and one (collinear) or three (non-collinear) further
    blocks of m * V_cell: https://www.vasp.at/wiki/index.php/CHGCAR.

    Raises:
        DensityFormatError: the file is missing, damaged or not such a file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DensityFormatError(
            f"{path}: cannot be opened ({error.strerror}); expected a CHGCAR file"
        ) from error
    return read_density_bytes(data, str(path))


def read_density_bytes(data: bytes, source: str) -> Density:
    """`read_density` for content that is already in memory, `source` naming it in messages."""
    for magic, decompress in _DECOMPRESS.items():
        if data.startswith(magic):
            try:
                data = decompress(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DensityFormatError(
                    f"{source}: compressed data are damaged or cut short ({error}); "
                    "expected a complete file, fetch it again"
                ) from error
            break
    if not data.strip():
        raise DensityFormatError(f"{source}: the file is empty; expected a CHGCAR file")
    stream = io.BytesIO(data)
    lattice, species, positions = _read_header(stream, source)
    blocks, augmented = _read_blocks(stream, source)
    if len(blocks) not in _BLOCKS:
        expected = " or ".join(f"{n} ({names})" for n, names in _BLOCKS.items())
        raise DensityFormatError(f"{source}: {len(blocks)} grid blocks; expected {expected}")
    volume = abs(np.linalg.det(lattice))  # Å^3
    values, *spin = (block / volume for block in blocks)  # each [X, Y, Z], per Å^3
    if values.mean() <= 0:
        raise DensityFormatError(
            f"{source}: the density integrates to {values.mean() * volume:.4g} electrons; expected "
            "a positive number (is this a potential or a difference?)"
        )
    magnetization = None
    if spin:
        magnetization = spin[0] if len(spin) == 1 else np.sqrt(sum(m**2 for m in spin))  # [X, Y, Z]
    code = "VASP" if augmented else "unknown"
    return Density(values, magnetization, lattice, species, positions, code, source)


def _read_header(stream: io.BytesIO, source: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads the POSCAR part: lattice [3, 3] Å, species [N], fractional positions [N, 3]."""
    number = 0

    def fail(expected: str) -> DensityFormatError:
        return DensityFormatError(f"{source}: line {number}: expected {expected}")

    def words(expected: str) -> list[str]:
        nonlocal number
        number += 1
        try:
            return stream.readline(10_000).decode().split()
        except UnicodeDecodeError as error:
            raise fail(f"{expected}, found bytes that are not text") from error

    def floats(count: int, expected: str, line: list[str] | None = None) -> np.ndarray:
        try:
            row = np.array((words(expected) if line is None else line)[:count], float)
        except ValueError as error:
            raise fail(expected) from error
        if len(row) != count or not np.isfinite(row).all():
            raise fail(expected)
        return row

    words("a comment")
    line = words("a scale factor")
    scale = floats(3 if len(line) == 3 else 1, "a scale factor: one number, or three", line)
    lattice = np.stack([floats(3, "a cell vector: three numbers") for _ in range(3)])  # [3, 3]
    volume = abs(np.linalg.det(lattice))
    if volume < 1e-6 or not scale.all():
        raise fail("three independent cell vectors and a scale factor other than 0")
    if len(scale) == 1 and scale[0] < 0:  # minus the wanted volume in Å^3
        scale = (-scale / volume) ** (1 / 3)
    lattice = lattice * scale  # [3, 3] Å; three factors scale the columns x, y, z

    symbols = [word.split("_")[0].split("/")[0] for word in words("element symbols")]  # Fe_pv/ab12
    if not symbols or not all(Element.is_valid_symbol(symbol) for symbol in symbols):
        raise fail("element symbols, as VASP 5 writes them above the numbers of atoms")
    counts = words("atom counts")
    if len(counts) != len(symbols) or not all(c.isdigit() and int(c) for c in counts):
        raise fail(f"{len(symbols)} atom counts, one for each element")
    numbers = [Element(symbol).Z for symbol in symbols]
    species = np.repeat(numbers, [int(count) for count in counts])  # [N]

    style = words("'Direct' or 'Cartesian'")
    if style and style[0][0] in "sS":  # Selective dynamics
        style = words("'Direct' or 'Cartesian'")
    if not style or style[0][0] not in "dDcCkK":
        raise fail("'Direct' or 'Cartesian'")
    row = f"the position of one of {len(species)} atoms: three numbers"
    positions = np.stack([floats(3, row) for _ in species])  # [N, 3]
    if style[0][0] not in "dD":
        positions = positions * scale @ np.linalg.inv(lattice)
    positions = positions - np.floor(positions)
    positions[positions >= 1.0] = 0.0  # -1e-17 + 1 rounds to 1
    return lattice, species, positions


def _read_blocks(stream: io.BytesIO, source: str) -> tuple[list[np.ndarray], bool]:
    """Reads what follows the header: the grid blocks, each [X, Y, Z], and whether PAW data do."""
    blocks: list[np.ndarray] = []
    augmented = False
    for line in iter(stream.readline, b""):
        words = line.split()
        if not words:
            continue
        if words[0] == b"augmentation" and blocks:
            augmented = True
            if words[-1].isdigit():  # ... of atom I, N numbers
                _read_numbers(stream, int(words[-1]), f"{source}: augmentation occupancies")
        elif len(words) == 3 and all(word.isdigit() and int(word) for word in words):
            shape = tuple(int(word) for word in words)
            if blocks and shape != blocks[0].shape:
                if augmented:
                    continue
                raise DensityFormatError(
                    f"{source}: grid block {len(blocks) + 1} is {shape}; expected "
                    f"{blocks[0].shape} as in the first"
                )
            where = f"{source}: grid block {len(blocks) + 1} of {shape}"
            values = _read_numbers(stream, int(np.prod(shape, dtype=object)), where)
            if not np.isfinite(values).all():
                raise DensityFormatError(f"{where} holds NaN or infinity; expected finite numbers")
            blocks.append(values.reshape(shape, order="F"))
        elif not augmented:  # after PAW data VASP may write atomic moments, of no use here
            expected = "three grid dimensions" if not blocks else "nothing or another grid block"
            found = line[:40].decode(errors="replace").strip()
            raise DensityFormatError(
                f"{source}: after {f'{len(blocks)} grid blocks' if blocks else 'the header'}: "
                f"expected {expected}, found '{found}'"
            )
    return blocks, augmented


def _read_numbers(stream: io.BytesIO, count: int, where: str) -> np.ndarray:
    """Reads `count` numbers and the end of their last line. Returns float64 [count]."""
    remaining = stream.getbuffer().nbytes - stream.tell()
    if count > remaining:  # a damaged count must not ask for terabytes of memory
        raise DensityFormatError(f"{where}: expected {count} numbers, the file ends before")
    values = np.empty(count)
    found = parse_n_doubles(stream, values, count)
    rest = stream.readline() if found == count else stream.read(80)
    rest = rest.decode(errors="replace").strip()[:40]
    if found < count or rest:
        after = f"found '{rest}'" if rest else "the file ends"
        raise DensityFormatError(f"{where}: expected {count} numbers, after {found} {after}")
    return values
