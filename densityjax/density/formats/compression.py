"""Compressed bytes in, plain bytes out, within a stated limit of memory."""

import bz2
import io
import itertools
import lzma
from collections.abc import Callable, Iterator
from typing import Any

import zstandard
from isal import isal_zlib  # expands gzip at more than twice zlib's speed

from densityjax.runtime.errors import UserError

# A text of numbers shrinks to a half or a tenth, one that is mostly zeros to a fiftieth. What
# claims more is refused once it has taken this much memory, whatever it would expand to.
MAX_RATIO = 100
ALWAYS_ALLOWED = 2**28  # bytes: small files may have any ratio
MAX_BYTES = 2**35  # of a file's text

_CHUNK = 2**16  # bytes fed at once
_PIECE = 2**22  # bytes taken out at once
_LZ4_PIECE = 2**18  # LZ4 takes that memory whether it is filled or not


def _gzip() -> Any:
    return isal_zlib.decompressobj(wbits=31)


def _zstd() -> Any:
    # A frame's window is memory, too: the limit is that of `zstd --ultra -22`.
    return zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()


def _zlib() -> Any:
    return isal_zlib.decompressobj(wbits=15)


def _lz4() -> Any:
    import lz4.frame  # few files are LZ4

    return lz4.frame.LZ4FrameDecompressor()


ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".lz4")  # of names of compressed files
# First bytes of a compressed file -> what expands it. The content decides, not the file's name.
_FORMATS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=2**30),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x04\x22\x4d\x18": _lz4,
}
# zlib without a file's header, as databases keep it, where binary data follow: x may start a text.
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_CONTROL = bytes(c for c in range(32) if c not in b"\t\n\r\f")
_ERRORS = (
    OSError, EOFError, ValueError, MemoryError, RuntimeError, lzma.LZMAError, isal_zlib.error,
    zstandard.ZstdError,
)


class CompressionError(UserError):
    """Compressed data that cannot be, or will not be, expanded."""


def is_gzip(data: bytes) -> bool:
    """Whether `data` starts like gzip."""
    return data.startswith(b"\x1f\x8b")


def is_compressed(data: bytes) -> bool:
    """Whether `data` starts like gzip, bzip2, xz, Zstandard, LZ4 or zlib."""
    return _decompressor(data) is not None


def _decompressor(data: bytes) -> Callable[[], Any] | None:
    """What expands data that start so."""
    start = data[:256]
    if start.startswith(_ZLIB) and start.translate(None, _CONTROL) != start:
        return _zlib
    return next((create for magic, create in _FORMATS.items() if start.startswith(magic)), None)


def decompress(data: bytes) -> bytes:
    """The content of a file that may be compressed, of several streams one after another too.

    Raises:
        CompressionError: it is damaged or cut short, or it expands beyond the limits of this file.
    """
    create = _decompressor(data)
    if create is None:
        return data
    limit = _limit(data)
    view = memoryview(data)
    output = io.BytesIO()  # gives its bytes away without a copy
    start = 0
    try:
        while start < len(view):
            start = _expand_stream(create, view, start, output, limit)
            if not bytes(view[start : start + 64]).strip(b"\0"):
                break  # padding
    except _ERRORS as error:
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
    most = _LZ4_PIECE if create is _lz4 else _PIECE
    while not decompressor.eof:
        if start >= len(view):
            raise EOFError("the end is missing")
        piece = view[start : start + chunk]
        start += len(piece)
        if not bounded:
            _append(output, decompressor.decompress(piece), limit)
            continue
        while True:
            _append(output, decompressor.decompress(piece, most), limit)
            # zlib hands back what it has not looked at; bz2 and xz keep it.
            piece = getattr(decompressor, "unconsumed_tail", b"")
            if decompressor.eof or not (piece or not getattr(decompressor, "needs_input", True)):
                break
    return start - len(decompressor.unused_data or b"")  # LZ4 says None


def _append(output: io.BytesIO, piece: bytes, limit: int) -> None:
    if output.tell() + len(piece) > limit:
        raise CompressionError(
            f"compressed data expand to more than {limit} bytes, the limit of this reader; "
            f"expected at most {MAX_RATIO} times the compressed size (a damaged file, or a bomb)"
        )
    output.write(piece)


def _limit(data: bytes) -> int:
    return min(max(ALWAYS_ALLOWED, MAX_RATIO * len(data)), MAX_BYTES)


class GzipStream:
    """The text of one gzip stream, expanded while it is read: it never is in memory as a whole.

    A file to read numbers from, forwards; `seek` reaches what was read last. Every method may raise
    CompressionError, also where `decompress` would not: then that is the way to read the data.

    Attributes:
        size: bytes of the text, as the stream states at its end.
    """

    def __init__(self, data: bytes):
        self.size = min(int.from_bytes(data[-4:], "little"), _limit(data))
        self._pieces = self._expand(data)
        self._last, self._piece = b"", b""  # the text before and around the position
        self._start = 0  # position of _piece
        self._offset = 0  # in _piece

    def _expand(self, data: bytes) -> Iterator[bytes]:
        decompressor, done = _gzip(), 0
        try:
            for start in range(0, len(data), _CHUNK):
                rest = data[start : start + _CHUNK]
                while rest and not decompressor.eof:
                    piece = decompressor.decompress(rest, 2**20)  # the parser takes 1 MiB at once
                    rest = decompressor.unconsumed_tail
                    if done + len(piece) > self.size:
                        raise CompressionError("more text than stated")
                    done += len(piece)
                    if piece:
                        yield piece
        except _ERRORS as error:
            raise CompressionError(f"damaged ({error})") from error
        if not decompressor.eof or decompressor.unused_data.strip(b"\0"):
            raise CompressionError("cut short, or more than one stream")

    def _next(self) -> bool:
        """Goes to the next piece if this one is used up; whether there is text."""
        if self._offset == len(self._piece):
            piece = next(self._pieces, b"")
            if not piece:
                return False
            self._start += len(self._piece)
            self._last, self._piece, self._offset = self._piece, piece, 0
        return True

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b'' only at the end (or for none)."""
        if not size or not self._next():
            return b""
        found = self._piece[self._offset : self._offset + size]
        self._offset += len(found)
        return found

    def readline(self, size: int) -> bytes:
        """The next line with its end, or its first `size` bytes."""
        line = b""
        while len(line) < size and self._next():
            stop = self._offset + size - len(line)
            end = self._piece.find(b"\n", self._offset, stop)
            stop = end + 1 if end >= 0 else min(stop, len(self._piece))
            line += self._piece[self._offset : stop]
            self._offset = stop
            if end >= 0:
                break
        return line

    def tell(self) -> int:
        """Bytes before the position."""
        return self._start + self._offset

    def seek(self, position: int) -> int:
        """Goes back to what was read last."""
        if position < self._start:
            self._pieces = itertools.chain([self._piece], self._pieces)
            self._start -= len(self._last)
            self._last, self._piece = b"", self._last
        if not self._start <= position <= self._start + len(self._piece):
            raise CompressionError("out of reach")
        self._offset = position - self._start
        return position
