"""Density files in, `Density` out: the only reader of densities."""

import codecs
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from densityjax.density.density import Density, DensityFormatError
from densityjax.density.formats.chgcar_json import is_json, read_chgcar_json
from densityjax.density.formats.compression import (
    ENDINGS,
    CompressionError,
    GzipStream,
    decompress,
    is_compressed,
    is_gzip,
)
from densityjax.density.formats.cube import is_cube, read_cube
from densityjax.density.formats.foreign import a_line, foreign, is_hdf5
from densityjax.density.formats.hdf5 import read_hdf5
from densityjax.density.formats.row import density_from_row
from densityjax.density.formats.text import Text
from densityjax.density.formats.vasp import is_vasp, read_vasp
from densityjax.density.formats.xsf import is_xsf, read_xsf

__all__ = [
    "Density", "DensityFormatError", "density_from_row", "find_files", "looks_like_density",
    "read_density", "read_density_bytes",
]

FORMATS = "a VASP density (CHGCAR, CHG, AECCAR, PARCHG), a Chgcar as JSON, a cube or XSF file"
# In a name, whatever else stands in it: what VASP, the Materials Project and others call densities.
_NAMES = ("CHGCAR", "AECCAR", "PARCHG", ".CUBE", ".CUB", ".XSF")
_HEAD = 4096  # bytes that tell the format


def read_density(path: str | os.PathLike) -> Density:
    """Reads a density file: VASP (HDF5, too), Materials Project JSON, Gaussian cube or XSF.

    Plain or compressed with gzip, bzip2, xz, Zstandard, LZ4 or zlib; format and compression are
    found from the content. Every format ends in e/Å^3; see the readers in `formats` for what each
    of them holds.

    Whatever the file holds, the result is a valid density or the error below. Reading takes less
    than four times the memory of the file's arrays, and for compressed files these (and, but for
    gzipped text, their plain text). The limits are stated in `density` (grid and atoms) and
    `formats.compression` (expansion).

    Raises:
        DensityFormatError: the file is missing, damaged, beyond a limit or not such a file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise DensityFormatError(f"{path}: not a file (a pipe or device); expected {FORMATS}")
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            file.seek(0)
            if is_hdf5(head):
                return _guarded(read_hdf5, path, str(path))
            if _is_text(head):  # read as it is parsed: it never is in memory as a whole
                text = Text(file, str(path), os.fstat(file.fileno()).st_size)
                return _guarded(_read_text, text, head)
            data = file.read()
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    return read_density_bytes(data, str(path))


def _cannot_open(path: str | os.PathLike, error: Exception) -> DensityFormatError:
    """What to raise for a file that is not there, or whose name cannot be."""
    name = os.fspath(path)
    if isinstance(error, ValueError):
        if isinstance(error, UnicodeEncodeError):
            return DensityFormatError(f"{name!r}: cannot be opened (a name with letters that this "
                                      "system's names cannot have); give another")
        if (b"\0" if isinstance(name, bytes) else "\0") not in name:
            raise error  # no fault of the name's
        return DensityFormatError(f"{name!r}: cannot be opened (a name with a NUL); give another")
    reason = error.strerror
    if os.path.islink(name):
        reason += f", it is a link to {os.readlink(name)}"
    shown = name if len(name) < 500 else f"{name[:100]}...{name[-100:]}"
    return DensityFormatError(f"{shown}: cannot be opened ({reason}); expected {FORMATS}")


def read_density_bytes(data: bytes, source: str) -> Density:
    """`read_density` for content that is already in memory, `source` naming it in messages."""
    return _guarded(_read, data, source)


def _guarded(read: Callable[..., Density], *arguments: Any) -> Density:
    """Calls a reader. That this machine has too little memory is no traceback either."""
    try:
        return read(*arguments)
    except MemoryError as error:
        source = getattr(arguments[0], "source", arguments[1])
        raise DensityFormatError(f"{source}: this machine has too little memory for it") from error


def _read(data: bytes, source: str) -> Density:
    if is_gzip(data) and (density := _read_gzip(data, source)):
        return density
    try:
        data = decompress(data)
    except CompressionError as error:
        raise DensityFormatError(f"{source}: {error}") from error
    if not re.search(rb"\S", data):  # unlike strip() it copies nothing
        raise DensityFormatError(f"{source}: the file is empty; expected {FORMATS}")
    if is_compressed(data):
        raise DensityFormatError(f"{source}: compressed twice; expected once at most")
    if data.startswith(codecs.BOM_UTF8):  # of Windows' editors
        data = data[len(codecs.BOM_UTF8) :]
    head = data[:_HEAD]
    if is_hdf5(head):
        return read_hdf5(data, source)
    if is_json(head) and not _shown_format(head):
        return read_chgcar_json(data, source)
    return _read_text(Text(data, source), head)


def _read_gzip(data: bytes, source: str) -> Density | None:
    """Parses a text while it is expanded, which takes half the time.

    None is returned for JSON, for a file of several gzip streams, and for a damaged file. The file
    is then expanded as a whole and read again, and that reader's error is what the user sees.
    """
    try:
        stream = GzipStream(data)
        head = stream.read(_HEAD)
        if not _is_text(head):
            return None
        stream.seek(0)
        density = _read_text(Text(stream, source, stream.size), head)
        while stream.read(2**20):  # to the checksum
            pass
    except (CompressionError, DensityFormatError):
        return None
    return density


def _is_text(head: bytes) -> bool:
    """Whether a file starts as text in lines."""
    if head.startswith(codecs.BOM_UTF8) or is_compressed(head) or not head.strip():
        return False
    return not is_json(head) or _shown_format(head) is not None


def _shown_format(head: bytes) -> Callable[[Text], Density] | None:
    """The reader of text with these first lines if they show it, whatever their title is."""
    cube = is_cube(head)
    if is_vasp(head) and not cube:
        return read_vasp
    if is_xsf(head):
        return read_xsf
    return read_cube if cube else None


def _read_text(text: Text, head: bytes) -> Density:
    """Reads text in the format that its first lines show."""
    read = _shown_format(head)
    meaning = foreign(head, titled=read is not None)
    if not read and not meaning:
        meaning = a_line(head, cut=len(head) == _HEAD)
    if meaning:
        raise DensityFormatError(f"{text.source}: {meaning}")
    return (read or read_vasp)(text)  # VASP's says what it expected


def looks_like_density(name: str) -> bool:
    """Whether a file of this name is to be read when its folder is given."""
    if name.startswith("."):
        return False
    if any(part in name.upper() for part in _NAMES):
        return True
    stem = next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)
    # Of JSON only what is compressed: a plain one is rather something about the files.
    return stem == "CHG" or stem.endswith(".CHG") or (stem != name and stem.endswith(".json"))


def find_files(path: str | os.PathLike) -> list[Path]:
    """The density files of a folder, by name, sorted; not those of folders in it.

    Names with CHGCAR, AECCAR, PARCHG, .cube or .xsf in them and CHG, plain or compressed, and
    compressed *.json.
    """
    names = (p for p in Path(path).iterdir() if looks_like_density(p.name))
    # A link to nothing is to be named by who reads it, not passed over.
    return sorted(p for p in names if p.is_file() or (p.is_symlink() and not p.exists()))
