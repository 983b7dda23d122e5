"""pymatgen's Chgcar as JSON, as the Materials Project keeps its densities."""

import re
from typing import Any

import numpy as np
import orjson
from pymatgen.core import Element

from densityjax.density.density import (
    MAX_ATOMS,
    Density,
    DensityFormatError,
    check_lattice,
    check_shape,
    make_density,
)
from densityjax.density.formats.text import Text

MAX_SKELETON = 2**26  # bytes of all but the grids: structure, augmentation

_GRID_START = re.compile(rb"\[\s*\[\s*\[")
_GRID_END = re.compile(rb"\]\s*\]\s*\]")
_PLACEHOLDER = b'{"@grid":%d}'
_AS_SPACES = bytes.maketrans(b"[],", b"   ")
_STRUCTURE = b"[],"  # what is left of an array without its numbers
_NOT_STRUCTURE = bytes(c for c in range(256) if c not in _STRUCTURE)
_CHUNK = 2**20  # bytes of numbers converted at once


def is_json(head: bytes) -> bool:
    """Whether a file starts as a JSON object or list."""
    return head.lstrip()[:1] in (b"{", b"[")


def read_chgcar_json(data: bytes, source: str) -> Density:
    """Reads `chgcars/<task_id>.json.gz` of the Materials Project: a Chgcar, or {"data": Chgcar}.

    Values are rho * V_cell, and m * V_cell under 'diff', or 'diff_x', 'diff_y', 'diff_z'. Grids are
    cut out of the text and parsed as numbers, and only the rest is decoded as JSON, to dicts and
    lists and nothing else: no class that it names is ever made.

    Raises:
        DensityFormatError: the text is damaged or holds something else.
    """
    skeleton, spans = _cut_grids(data, source)
    try:
        document = orjson.loads(skeleton)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise DensityFormatError(
            f"{source}: expected a complete JSON document, {error} (counted without the grids)"
        ) from error
    chgcar = document
    if isinstance(chgcar, list) and len(chgcar) == 1:
        chgcar = chgcar[0]
    if isinstance(chgcar, dict) and "poscar" not in chgcar and "structure" not in chgcar:
        chgcar = chgcar.get("data")
    if not isinstance(chgcar, dict) or not isinstance(chgcar.get("data"), dict):
        found = type(document).__name__
        if isinstance(document, dict):
            found = ascii(dict(list(document.items())[:4]))[:100] + " (a server's error message?)"
        raise DensityFormatError(
            f"{source}: expected pymatgen's Chgcar as JSON, an object with 'poscar' and 'data', "
            f"bare or under 'data', found {found}"
        )
    structure = chgcar.get("structure") or chgcar.get("poscar")
    if isinstance(structure, dict) and "structure" in structure:
        structure = structure["structure"]
    lattice, species, positions, charge = _read_structure(structure, source)
    names = ("diff_x", "diff_y", "diff_z") if "diff_x" in chgcar["data"] else ("diff",)
    if names == ("diff",) and "diff" not in chgcar["data"]:
        names = ()
    blocks: list[np.ndarray] = []
    for name in ("total", *names):
        entry = chgcar["data"].get(name)
        if isinstance(entry, dict) and "data" in entry:  # {"@module": "numpy", ...}
            entry = entry["data"]
        index = entry.get("@grid") if isinstance(entry, dict) else None
        if not isinstance(index, int) or not 0 <= index < len(spans):
            raise DensityFormatError(
                f"{source}: data '{name}': expected lists [X][Y][Z] of numbers"
            )
        blocks.append(_read_grid(data, spans[index], f"{source}: data '{name}'"))
        if blocks[-1].shape != blocks[0].shape:
            raise DensityFormatError(
                f"{source}: data '{name}' has shape {blocks[-1].shape}; expected "
                f"{blocks[0].shape} as 'total'"
            )
    return make_density(
        blocks[0], blocks[1:], lattice, species, positions, source,
        factor=1 / check_lattice(lattice, source), code="VASP", charge=charge,
    )


def _cut_grids(data: bytes, source: str) -> tuple[bytes, list[tuple[int, int]]]:
    """The text with a placeholder for each three-dimensional array, and where those stand."""
    pieces, spans, position, size = [], [], 0, 0
    while True:
        start = _GRID_START.search(data, position)
        upto = start.start() if start else len(data)
        size += upto - position
        if size > MAX_SKELETON:
            raise DensityFormatError(
                f"{source}: expected at most {MAX_SKELETON} bytes of JSON beside the grids, the "
                "limit of this reader"
            )
        pieces.append(data[position:upto])
        if not start:
            return b"".join(pieces), spans
        end = _GRID_END.search(data, start.end())
        if not end:
            raise DensityFormatError(
                f"{source}: byte {upto}: expected an array that ends, the file is cut short"
            )
        pieces.append(_PLACEHOLDER % len(spans))
        size += len(pieces[-1])
        spans.append((upto, end.end()))
        position = end.end()


def _read_grid(data: bytes, span: tuple[int, int], where: str) -> np.ndarray:
    """Parses the array at `span` of the text. float64 [X, Y, Z]."""
    start, stop = span
    row = data.find(b"]", start, stop)
    plane = re.compile(rb"\]\s*\]").search(data, start, stop)
    nz = data.count(b",", start, row) + 1
    ny = data.count(b"[", start, plane.end()) - 2
    count = data.count(b",", start, stop) + 1
    nx = count // (ny * nz)
    shape = check_shape((nx, ny, nz), where)
    # Brackets and commas as they must be: no row is short and none long.
    line = b"[" + b"," * (nz - 1) + b"]"
    sheet = b"[" + b",".join([line] * ny) + b"]"
    expected = b"[" + b",".join([sheet] * nx) + b"]"
    found = bytearray()
    for at in range(start, stop, _CHUNK):
        found += data[at : min(at + _CHUNK, stop)].translate(None, _NOT_STRUCTURE)
    if count != nx * ny * nz or found != expected:
        raise DensityFormatError(f"{where}: expected lists [X][Y][Z] of equal lengths")
    del found, expected
    values = np.empty(count)
    done = 0
    while start < stop:
        cut = stop if start + _CHUNK >= stop else data.rfind(b",", start, start + _CHUNK)
        if cut <= start:
            raise DensityFormatError(f"{where}: after {done} numbers: expected another")
        numbers = data[start:cut]
        n = min(numbers.count(b",") + 1, count - done)
        text = Text(numbers.translate(_AS_SPACES), where)
        text.numbers(n, f"after {done}", out=values[done : done + n])
        if rest := text.rest():
            raise DensityFormatError(
                f"{where}: after {done + n} numbers: expected ',', found '{rest}'"
            )
        done += n
        start = cut + 1
    if done != count:
        raise DensityFormatError(f"{where}: expected {count} numbers, found {done}")
    return values.reshape(shape)


def _read_structure(
    structure: Any, source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Lattice [3, 3] Å, species [N], fractional positions [N, 3], charge of a Structure's dict."""
    expected = f"{source}: expected pymatgen's Structure, with lattice and sites"
    try:
        lattice = np.array(structure["lattice"]["matrix"], np.float64)
        sites = structure["sites"]
        if lattice.shape != (3, 3) or not 0 < len(sites) <= MAX_ATOMS:
            raise DensityFormatError(f"{expected}: a 3 x 3 matrix, and atoms")
        species = np.zeros(len(sites), np.int64)
        positions = np.empty((len(sites), 3))
        for row, site in enumerate(sites):
            if len(site["species"]) != 1 or float(site["species"][0].get("occu", 1)) != 1:
                raise DensityFormatError(f"{expected}: site {row + 1} is not one whole atom")
            species[row] = Element(site["species"][0]["element"]).Z
            positions[row] = np.array(site["abc"], np.float64)
        charge = float(structure.get("charge") or 0.0)
    except DensityFormatError:
        raise
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DensityFormatError(f"{expected}: {type(error).__name__} {error}") from error
    check_lattice(lattice, source)
    if not np.isfinite(charge):
        raise DensityFormatError(f"{expected}: a finite charge")
    return lattice, species, positions, charge
