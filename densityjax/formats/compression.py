"""Compressed bytes in, plain bytes out, within a stated limit of memory."""

import bz2
import io
import lzma
from collections.abc import Callable
from typing import Any

import zstandard
from isal import isal_zlib  # expands gzip at more than twice zlib's speed

# A text of numbers shrinks to a half or a tenth, one that is mostly zeros to a fiftieth. What
# claims more is refused once it has taken this much memory, whatever it would expand to.
MAX_RATIO = 100
ALWAYS_ALLOWED = 2**28  # bytes: small files may have any ratio
MAX_BYTES = 2**35  # of a file's text

_CHUNK = 2**16  # bytes fed at once
_PIECE = 2**22  # bytes taken out at once


def _gzip() -> Any:
    return isal_zlib.decompressobj(wbits=31)


def _zstd() -> Any:
    # A frame's window is memory, too: the limit is that of `zstd --ultra -22`.
    return zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()


# First bytes of a compressed file -> what expands it. The content decides, not the file's name.
_FORMATS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=2**30),
    b"\x28\xb5\x2f\xfd": _zstd,
}
_ERRORS = (
    OSError, EOFError, ValueError, MemoryError, lzma.LZMAError, isal_zlib.error,
    zstandard.ZstdError,
)  # fmt: skip


class CompressionError(ValueError):
    """Compressed data that cannot be, or will not be, expanded."""


def is_compressed(data: bytes) -> bool:
    """Whether `data` starts like gzip, bzip2, xz or Zstandard."""
    return data.startswith(tuple(_FORMATS))


def decompress(data: bytes) -> bytes:
    """The content of a file that may be compressed, of several streams one after another too.

    Raises:
        CompressionError: it is damaged or cut short, or it expands beyond the limits of this file.
    """
    create = next((f for magic, f in _FORMATS.items() if data.startswith(magic)), None)
    if create is None:
        return data
    limit = min(max(ALWAYS_ALLOWED, MAX_RATIO * len(data)), MAX_BYTES)
    view = memoryview(data)
    output = io.BytesIO()  # gives its bytes away without a copy
    start = 0
    try:
        while start < len(view):
            start = _expand_stream(create, view, start, output, limit)
            if not bytes(view[start : start + 64]).strip(b"\0"):
                break  # padding
    except _ERRORS as error:
        if isinstance(error, CompressionError):
            raise
        raise CompressionError(
            f"compressed data are damaged or cut short ({error}); expected a complete file, fetch "
            "it again"
        ) from error
    return output.getvalue()


def _expand_stream(
    create: Callable[[], Any], view: memoryview, start: int, output: io.BytesIO, limit: int
) -> int:
    """Appends one stream to `output`; returns where the next one starts."""
    decompressor = create()
    bounded = create is not _zstd
    # Zstandard's cannot be bounded; 4 bytes of it expand to at most 128 KiB.
    chunk = _CHUNK if bounded else 2**12
    while not decompressor.eof:
        if start >= len(view):
            raise EOFError("the end is missing")
        piece = view[start : start + chunk]
        start += len(piece)
        if not bounded:
            _append(output, decompressor.decompress(piece), limit)
            continue
        while True:
            _append(output, decompressor.decompress(piece, _PIECE), limit)
            # zlib hands back what it has not looked at; bz2 and xz keep it.
            piece = getattr(decompressor, "unconsumed_tail", b"")
            if decompressor.eof or not (piece or not getattr(decompressor, "needs_input", True)):
                break
    return start - len(decompressor.unused_data)


def _append(output: io.BytesIO, piece: bytes, limit: int) -> None:
    if output.tell() + len(piece) > limit:
        raise CompressionError(
            f"compressed data expand to more than {limit} bytes, the limit of this reader; "
            f"expected at most {MAX_RATIO} times the compressed size (a damaged file, or a bomb)"
        )
    output.write(piece)
