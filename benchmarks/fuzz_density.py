"""Damages density files at random and reads them: a valid density or a clear error, nothing else.

    python -m benchmarks.fuzz_density --count 20000 --json benchmarks/results/fuzz_density.json

The files are pieces of real densities that ship with the repository, written in every format, and
files as people have them (tests/density/field_cases), plain and compressed. Case n of a seed is
always the same, and can be repeated with --first n --count 1.
tests/benchmarks/test_fuzz_density.py runs 2,100 of them.
"""

import argparse
import bz2
import gzip
import json
import lzma
import math
import signal
import tarfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py  # noqa: F401  now: its import would count as the memory of the first HDF5 file
import lz4.frame
import numpy as np
import zstandard
from pymatgen.core import Element

from densityjax.density.formats.compression import CompressionError, decompress, is_compressed
from densityjax.density.formats.unit import BOHR
from densityjax.density.plausibility import warnings_of
from densityjax.density.reader import Density, DensityFormatError, read_density_bytes

ARCHIVE = Path(__file__).parents[1] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
FIELD_CASES = Path(__file__).parents[1] / "tests/density/field_cases"
PIECE = (6, 5, 7)  # voxels cut from the grid of each real density
HANG = 20  # seconds for a file that is read in a millisecond
SLACK = 2**21  # bytes beside file, text and four times the arrays: decompressors, Python's objects


class BrokenPromise(Exception):
    """The reader returned something that is no valid density, or an error that says nothing."""


def _vasp(density: Density, blocks: list[np.ndarray], augmented: bool, version: int = 5) -> str:
    symbols = [Element.from_Z(int(z)).symbol for z in density.species]
    names = list(dict.fromkeys(symbols))
    counts = [symbols.count(name) for name in names]
    cell = [" ".join(f"{x:.9f}" for x in row) for row in density.lattice]
    lines = [" ".join(names), "1.0", *cell]
    lines += [" ".join(names)] * (version > 4) + [" ".join(map(str, counts)), "Direct"]
    lines += [" ".join(f"{x:.6f}" for x in row) for row in density.positions] + [""]
    for block in blocks:
        numbers = [f"{x:.11E}" for x in (block * density.volume).ravel(order="F")]
        lines.append(" ".join(map(str, block.shape)))
        lines += [" ".join(numbers[i : i + 5]) for i in range(0, len(numbers), 5)]
        for atom in range(len(symbols) * augmented):
            lines += [f"augmentation occupancies {atom + 1} 6", "1.0 0.5 0.2 0.1 0.0", "-0.1E-02"]
    return "\n".join(lines) + "\n"


def _cube(density: Density, values_per_voxel: int = 1) -> str:
    edges = density.lattice / np.array(density.values.shape)[:, None] / BOHR
    atoms = -len(density.species) if values_per_voxel > 1 else len(density.species)
    lines = ["a density", "in e/Bohr^3", f"{atoms:5d} 0.0 0.0 0.0"]
    for n, row in zip(density.values.shape, edges):
        lines.append(f"{n:5d} " + " ".join(f"{x:.8f}" for x in row))
    for z, row in zip(density.species, density.positions @ density.lattice / BOHR):
        lines.append(f"{z:5d} 0.0 " + " ".join(f"{x:.6f}" for x in row))
    if values_per_voxel > 1:
        lines.append(" ".join(map(str, [values_per_voxel, *range(values_per_voxel)])))
    numbers = [f"{x:.5E}" for x in np.repeat(density.values.ravel() * BOHR**3, values_per_voxel)]
    lines += [" ".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6)]
    return "\n".join(lines) + "\n"


def _xsf(density: Density) -> str:
    rows = [" ".join(f"{x:.9f}" for x in row) for row in density.lattice]
    lines = ["CRYSTAL", "PRIMVEC", *rows, "PRIMCOORD", f"{len(density.species)} 1"]
    for z, row in zip(density.species, density.positions @ density.lattice):
        lines.append(f"{z} " + " ".join(f"{x:.6f}" for x in row))
    values = np.pad(density.values, [(0, 1)] * 3, mode="wrap") * BOHR**3
    lines += ["BEGIN_BLOCK_DATAGRID_3D", "density", "BEGIN_DATAGRID_3D_1"]
    lines += [" ".join(map(str, values.shape)), "0.0 0.0 0.0", *rows]
    numbers = [f"{x:.6E}" for x in values.ravel(order="F")]
    lines += [" ".join(numbers[i : i + 6]) for i in range(0, len(numbers), 6)]
    return "\n".join([*lines, "END_DATAGRID_3D", "END_BLOCK_DATAGRID_3D"]) + "\n"


def _json(density: Density, spin: bool) -> str:
    fields = {"total": density.values}
    if spin:
        fields["diff"] = density.magnetization
    sites = [
        {"species": [{"element": Element.from_Z(int(z)).symbol, "occu": 1}], "abc": row.tolist()}
        for z, row in zip(density.species, density.positions)
    ]
    structure = {"lattice": {"matrix": density.lattice.tolist()}, "sites": sites, "charge": 0}
    return json.dumps({"data": {
        "@module": "pymatgen.io.vasp.outputs", "@class": "Chgcar",
        "poscar": {"@class": "Poscar", "structure": structure},
        "data": {
            name: {"@module": "numpy", "@class": "array", "dtype": "float64",
                   "data": (field * density.volume).tolist()}
            for name, field in fields.items()
        },
        "data_aug": {"total": {"1": {"data": [0.1, 0.2]}}},
    }})


def real_files() -> dict[str, bytes]:
    """Pieces of real densities in every format, plain and compressed, by name."""
    files = {}
    with tarfile.open(ARCHIVE) as archive:
        for name in ("mp-13", "mp-10000"):  # with spin and without
            data = archive.extractfile(f"densities/{name}.CHGCAR.xz").read()
            density = read_density_bytes(data, name)
            cut = tuple(slice(n) for n in PIECE)
            charge = np.ascontiguousarray(density.values[cut])
            spin = density.magnetization
            spin = None if spin is None else np.ascontiguousarray(spin[cut])
            density = Density(
                charge, spin, density.lattice, density.species, density.positions, "unknown", name
            )
            files[f"{name} VASP 5"] = _vasp(density, [charge], augmented=False).encode()
            files[f"{name} VASP 4"] = _vasp(density, [charge], augmented=True, version=4).encode()
            if spin is not None:
                text = _vasp(density, [charge, spin], augmented=True)
                files[f"{name} VASP spin"] = text.encode()
                text = _vasp(density, [charge, spin, -spin, spin], augmented=True)
                files[f"{name} VASP non-collinear"] = text.encode()
            files[f"{name} cube"] = _cube(density).encode()
            files[f"{name} cube with 3 values"] = _cube(density, 3).encode()
            files[f"{name} XSF"] = _xsf(density).encode()
            files[f"{name} JSON"] = _json(density, spin is not None).encode()
    return files


def field_files() -> dict[str, bytes]:
    """Files as people have them, by name; some are to be refused as they are."""
    return {
        path.name: lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        for path in sorted(FIELD_CASES.iterdir())
    }


COMPRESSIONS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: gzip.compress(data, 1), lambda data: bz2.compress(data, 1),
    lambda data: lzma.compress(data, preset=0), zstandard.compress, lz4.frame.compress,
)


def _lines(data: bytes, rng: np.random.Generator, change: Callable) -> bytes:
    """Applies `change` to the lines, preferring those of the header."""
    lines = data.split(b"\n")
    top = min(len(lines), 14) if rng.random() < 0.6 else len(lines)
    return b"\n".join(change(lines, int(rng.integers(top)), int(rng.integers(top))))


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(data)
    for at in rng.integers(len(found), size=rng.integers(1, 8)):
        found[at] = rng.integers(256)
    return bytes(found)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = sorted(rng.integers(len(data) + 1, size=2))
    return [data[:stop], data[start:], data[:start] + data[stop:]][rng.integers(3)]


def _swap_lines(data: bytes, rng: np.random.Generator) -> bytes:
    def swap(lines: list[bytes], i: int, j: int) -> list[bytes]:
        lines[i], lines[j] = lines[j], lines[i]
        return lines

    return _lines(data, rng, swap)


def _drop_or_repeat_line(data: bytes, rng: np.random.Generator) -> bytes:
    keep = int(rng.integers(2)) * 2
    return _lines(data, rng, lambda lines, i, _: lines[:i] + [lines[i]] * keep + lines[i + 1 :])


def _fuse(data: bytes, rng: np.random.Generator) -> bytes:
    """Numbers without a space between them, as Fortran writes those that fill their columns."""
    if rng.random() < 0.5:
        return data.replace(b" ", b"", int(rng.integers(1, 50)))
    at = int(rng.integers(len(data)))
    return data[:at] + data[at : at + 60].replace(b" ", b"-") + data[at + 60 :]


_WORDS = (
    b"*" * 18, b"NaN", b"nan", b"inf", b"-Infinity", b"1e999", b"-1e308", b"0.123-105", b"1D+05",
    b"-0.1E+01-0.2E+01", b"0x10", b"null", b"", b"-", b"1" * 5000, b"-1", b"0", b"1e-320",
    b"99999999", b"2000000000", b"\xc2\xb2", b"\x00", b"[", b"{}", b"1_000", b"T", b"#",
)


def _replace_word(data: bytes, rng: np.random.Generator) -> bytes:
    """A word or number becomes stars, NaN, a number too large, or nothing."""

    def replace(lines: list[bytes], i: int, _: int) -> list[bytes]:
        separator = b"," if data[:1] in b"{[" else None
        words = lines[i].split(separator)
        if words:
            words[rng.integers(len(words))] = _WORDS[rng.integers(len(_WORDS))]
            lines[i] = (separator or b" ").join(words)
        return lines

    return _lines(data, rng, replace)


def _wrong_count(data: bytes, rng: np.random.Generator) -> bytes:
    """A whole number of the first lines changes: atoms, voxels, values."""

    def change(lines: list[bytes], i: int, _: int) -> list[bytes]:
        words = lines[i].split(b" ")
        whole = [n for n, word in enumerate(words) if word.isdigit()]
        if whole:
            at = whole[rng.integers(len(whole))]
            value = int(words[at][:9])
            values = [value + 1, value - 1, 0, 10 * value, -value, 10**int(rng.integers(3, 25))]
            words[at] = str(values[rng.integers(len(values))]).encode()
            lines[i] = b" ".join(words)
        return lines

    return _lines(data, rng, change)


def _brackets(data: bytes, rng: np.random.Generator) -> bytes:
    """One of JSON's signs becomes another."""
    signs = b"[]{},:\""
    places = [at for at, byte in enumerate(data) if byte in signs]
    if not places:
        return _flip(data, rng)
    at = places[rng.integers(len(places))]
    new = bytes([signs[rng.integers(len(signs))]]) if rng.random() < 0.8 else b""
    return data[:at] + new + data[at + 1 :]


def _line_ends(data: bytes, rng: np.random.Generator) -> bytes:
    return data.replace(b"\n", [b"\r\n", b"\r", b" ", b"\n\n", b"\n \n"][rng.integers(5)])


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = sorted(rng.integers(len(data) + 1, size=2))
    return data[:stop] + data[start:stop] * int(rng.integers(1, 4)) + data[stop:]


MUTATIONS = (_flip, _cut, _swap_lines, _drop_or_repeat_line, _fuse, _replace_word, _wrong_count,
             _brackets, _line_ends, _repeat)


def case(files: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Name and bytes of one damaged file; a function of its arguments alone."""
    rng = np.random.default_rng([seed, number])
    name = list(files)[rng.integers(len(files))]
    data = files[name]
    for _ in range(min(rng.integers(1, 4, size=2))):
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        name += f", {mutation.__name__.strip('_')}"
        data = mutation(data, rng) or b"\n"
    if rng.random() < 0.2:
        data = COMPRESSIONS[rng.integers(len(COMPRESSIONS))](data)
        name += ", compressed"
        if rng.random() < 0.5:
            data = (_flip, _cut, _repeat)[rng.integers(3)](data, rng)
            name += ", damaged again"
    return name, data


def check(data: bytes, source: str) -> Density | None:
    """Reads it. A density, which is valid, or None for a clear error.

    Raises:
        BrokenPromise: the density is not valid or the error not clear.
        Exception: whatever the reader should not have raised.
    """
    try:
        with warnings.catch_warnings(action="error"):
            density = read_density_bytes(data, source)
            _ = density.formula, density.num_electrons, warnings_of(density)
    except DensityFormatError as error:
        if not str(error).startswith(source) or not len(source) + 10 < len(str(error)) < 2000:
            raise BrokenPromise(f"the error is not clear: {str(error)[:200]}") from error
        return None
    spin = density.magnetization
    promises = {
        "values are float64 [X, Y, Z]": density.values.dtype == np.float64
        and density.values.ndim == 3 and density.values.size > 0,
        "values are finite": np.isfinite(density.values).all(),
        "values can be written to": density.values.flags.writeable,
        "electrons are positive": 0 < density.num_electrons < math.inf,
        "magnetisation is as large": spin is None or spin.shape == density.values.shape,
        "magnetisation is finite": spin is None or np.isfinite(spin).all(),
        "lattice is [3, 3]": density.lattice.shape == (3, 3),
        "volume is positive": 0 < density.volume < math.inf,
        "charge is finite": math.isfinite(density.charge),
        "each atom has a position": density.positions.shape == (len(density.species), 3),
        "there are atoms": len(density.species) > 0,
        "atomic numbers exist": ((density.species >= 0) & (density.species <= 118)).all(),
        "positions are wrapped": ((density.positions >= 0) & (density.positions < 1)).all(),
        "it has a formula": bool(density.formula and density.chemical_system),
    }
    if broken := [promise for promise, kept in promises.items() if not kept]:
        raise BrokenPromise(f"not so: {', '.join(broken)}")
    return density


def _hangs(*_: object) -> None:
    raise BrokenPromise(f"no answer within {HANG} s")


def begin(description: str) -> argparse.Namespace:
    """Which cases the command line asks for; from now on an alarm is a broken promise."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _hangs)
    return options


def finish(result: dict, broken: int, path: Path | None) -> None:
    """Prints a result and writes it to a file, if there is one; exits if cases were broken."""
    text = json.dumps(result, indent=1)
    print(text)
    if path:
        path.write_text(text + "\n")
    if result["failures"]:
        raise SystemExit(f"{broken} cases broke the promise")


def main() -> None:
    """Prints counts; exits with the first cases that broke the promise."""
    options = begin(__doc__.splitlines()[0])
    files = real_files()
    for name, data in files.items():
        if check(data, name) is None:
            raise SystemExit(f"{name} is not read undamaged")
    files |= field_files()
    outcome, mutations, failures = Counter(), Counter(), []
    slowest = memory = 0.0
    started = time.perf_counter()
    tracemalloc.start()
    for number in range(options.first, options.first + options.count):
        name, data = case(files, options.seed, number)
        mutations.update(name.split(", ")[1:])
        text = 0
        if is_compressed(data):
            try:
                text = len(decompress(data))
            except CompressionError:
                text = len(data) * 20
        before = time.perf_counter()
        tracemalloc.reset_peak()
        floor = tracemalloc.get_traced_memory()[0]
        signal.alarm(HANG)
        try:
            density = check(data, f"case {number}")
        except Exception as error:
            failures.append(f"case {number} ({name}): {type(error).__name__}: {error}")
            outcome["broken"] += 1
            continue
        finally:
            signal.alarm(0)
        arrays = 0
        if density is not None:
            arrays = density.values.nbytes * (1 + (density.magnetization is not None))
        # What stays of the file itself is counted by the caller of this reader: add it here.
        used = tracemalloc.get_traced_memory()[1] - floor
        # A refused file may have had a number for every two bytes.
        arrays = max(arrays, 8 * math.prod(PIECE), len(data) // 2, text // 2)
        allowed = len(data) + text + 4 * arrays + SLACK
        memory = max(memory, used / allowed)
        if used > allowed:
            failures.append(f"case {number} ({name}): {used} bytes of memory, allowed {allowed}")
        slowest = max(slowest, time.perf_counter() - before)
        outcome["read" if density is not None else "refused"] += 1
    result = {
        "cases": options.count, "seed": options.seed, "files": len(files), **outcome,
        "broken": outcome["broken"], "failures": failures[:20],
        "slowest_ms": round(1e3 * slowest, 1),
        "largest_memory_over_allowed": round(memory, 3),
        "seconds": round(time.perf_counter() - started, 1),
        "mutations": dict(mutations.most_common()),
    }
    finish(result, len(failures), options.json)


if __name__ == "__main__":
    main()
