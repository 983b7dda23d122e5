"""Lines and numbers of a text, with their position in every error."""

import functools
import io
import re
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import numpy as np
from pymatgen.optimization.fast_parser import parse_n_doubles

from densityjax.density.density import DensityFormatError

_LONGEST_LINE = 10_000  # bytes, of a header: a file without line ends is not one line in memory
# Fortran drops the E of an exponent of three digits: 0.12345678901-102, .5-100.
_TINY = re.compile(rb"(?:\d\.\d*|(?<!\d)\.\d+)-\d{3}(?![\d.])")
# It writes D for E in double precision: 0.5D-02, 1d+3.
_DOUBLE = re.compile(rb"(?<=[\d.])[dD](?=[+-]?\d)")
# A line of numbers, the first with a point, as grids are and titles are not. It may be cut.
_NUMBERS = re.compile(rb"\s*[+-]?\d*\.[-+.\deEdD]*(?:\s+[-+.\deEdD]+)*\s*")
_NO_E = re.compile(r"^([+-]?(?:\d+\.\d*|\.\d+))([+-]\d{3})$")
T = TypeVar("T")


class Text:
    """A text that is read from its start, remembering where.

    Args:
        data: the whole of it, or a file at its start.
        source: name of the file, for messages.
        size: bytes of the file.
    """

    def __init__(self, data: bytes | BinaryIO, source: str, size: int = 0):
        self.source = source
        self.line = 0  # of a header's, counted from 1
        plain = isinstance(data, bytes)
        self._stream = io.BytesIO(data) if plain else data
        self._size = len(data) if plain else size

    def error(self, expected: str, found: str = "") -> DensityFormatError:
        """What to raise when the last line read is not `expected`."""
        found = f", found {found}" if found else ""
        return DensityFormatError(f"{self.source}: line {self.line}: expected {expected}{found}")

    @property
    def remaining(self) -> int:
        """Bytes that are left."""
        return self._size - self._stream.tell()

    def raw_line(self) -> bytes:
        """The next line, b'' at the end; of an endless one its first 10,000 bytes."""
        self.line += 1
        return self._stream.readline(_LONGEST_LINE)

    def title(self) -> str:
        """The start of the next line, of any length, which may hold bytes that are not UTF-8."""
        line = piece = self.raw_line()
        while piece and not piece.endswith(b"\n"):
            piece = self._stream.readline(_LONGEST_LINE)
        return line.decode(errors="replace").strip()

    def words(self, expected: str) -> list[str]:
        """Words of the next line; what is not UTF-8 may follow the first, as a label or comment."""
        line = self.raw_line()
        try:
            return line.decode().split()
        except UnicodeDecodeError as error:
            words = line.split()
            if not words[0].isascii():
                raise self.error(f"{expected}, found bytes that are not text") from error
            return [word.decode(errors="replace") for word in words]

    def mark(self) -> tuple[int, int]:
        """The position, for `back_to`."""
        return self._stream.tell(), self.line

    def back_to(self, mark: tuple[int, int]) -> None:
        """Goes back to a position a few lines ago."""
        position, self.line = mark
        self._stream.seek(position)

    def floats(self, count: int, expected: str, words: list[str] | None = None) -> np.ndarray:
        """The first `count` numbers of the next line, or of `words`. float64 [count], finite."""
        words = self.words(expected) if words is None else words
        try:
            row = np.array(words[:count], float)
        except ValueError:
            try:
                row = np.array([_with_e(word) for word in words[:count]], float)
            except ValueError as error:
                raise self.error(expected) from error
        if len(row) != count or not np.isfinite(row).all():
            raise self.error(expected)
        return row

    def numbers(
        self, count: int, what: str, out: np.ndarray | None = None, more: bool = False
    ) -> np.ndarray:
        """Reads `count` numbers, in whatever lines, and the end of their last line.

        Args:
            out: float64 [count] to write them to; then more may follow in the same line.
            more: fractional numbers may follow in the next line.

        Returns:
            float64 [count].

        Raises:
            DensityFormatError: fewer, more, or something else; the message tells after how many.
        """
        where = f"{self.source}: {what}"
        # A damaged count must not ask for terabytes of memory: each number takes two bytes.
        if 2 * count > self.remaining + 1:
            raise DensityFormatError(f"{where}: expected {count} numbers, the file ends before")
        start = self._stream.tell()
        values = np.empty(count) if out is None else out
        found, rest = self._parse(values, count, out is not None, more)
        if (found < count or rest) and self._repair(start):
            found, rest = self._parse(values, count, out is not None, more)
        if found < count or rest:
            after = f"found '{rest}'" if rest else "the file ends"
            raise DensityFormatError(f"{where}: expected {count} numbers, after {found} {after}")
        return values

    def rest(self) -> str:
        """The next word that is left, '' if only white space is; reads to the end."""
        while piece := self._stream.read(2**16):
            if word := piece.strip():
                return shown(word).split()[0]
        return ""

    def next_word(self) -> str:
        """The first word of the next line that is not blank, '' at the end."""
        for line in iter(functools.partial(self._stream.readline, _LONGEST_LINE), b""):
            if words := line[:200].split():
                return shown(words[0])
        return ""

    def _parse(
        self, values: np.ndarray, count: int, partial: bool, more: bool
    ) -> tuple[int, str]:
        """Numbers found, and what stands where another or the end of the line was expected."""
        found = parse_n_doubles(self._stream, values, count)
        if found == count and partial:
            return found, ""
        rest = self._stream.readline(100) if found == count else self._stream.read(80)
        if found == count and not more and not rest.strip():
            end = self._stream.tell()
            below = self._stream.readline(100)
            if _NUMBERS.fullmatch(below):
                rest = below
            self._stream.seek(end)
        return found, shown(rest)

    def repaired(self, read: Callable[[], T]) -> T:
        """What `read` returns; if it fails, once more with Fortran's odd numbers written out.

        A number without its E parses as two, so that only what follows the last one shows it.
        """
        start = self._stream.tell()
        try:
            return read()
        except DensityFormatError:
            if not self._repair(start):
                raise
            return read()

    def _repair(self, start: int) -> bool:
        """Writes out what Fortran abbreviates, from `start` on; whether there is any.

        Numbers like 0.1-102 become zeros, and the D of 0.1D-02 an E. No byte moves.
        """
        self._stream.seek(0)
        # One read of a stream may be a part.
        data = b"".join(iter(functools.partial(self._stream.read, 2**20), b""))
        head, body = data[:start], data[start:]
        plain = _TINY.sub(lambda match: b"0." + b"0" * (len(match[0]) - 2), body)
        plain = _DOUBLE.sub(b"E", plain)
        changed = plain != body
        self._stream = io.BytesIO(head + plain if changed else data)
        self._stream.seek(start)
        return changed


def _with_e(word: str) -> str:
    """A number of Fortran's with an E, for a D or for nothing; any other word as it is."""
    if word[:1] not in "+-.0123456789":
        return word
    return _NO_E.sub(r"\1E\2", word.replace("D", "E").replace("d", "e"))


def shown(piece: bytes) -> str:
    """The start of the first line of a piece of a file, for a message: one line, printable."""
    line = piece.strip().split(b"\n")[0].decode(errors="replace")[:40].rstrip()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def whole(word: str | bytes) -> int | None:
    """The number that a word of ASCII digits, 18 at most, stands for, else None."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 18 else None
