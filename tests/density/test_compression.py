import bz2
import gzip
import io
import lzma
import zlib

import lz4.frame
import numpy as np
import pytest
import zstandard

from densityjax.density.formats import compression
from densityjax.density.formats.compression import (
    CompressionError,
    GzipStream,
    decompress,
    is_compressed,
)

FORMATS = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress,
    "LZ4": lz4.frame.compress,
}
TEXT = b"".join(b"%d " % (n * n) for n in range(50_000))  # 0.5 MB


def streamed(data: bytes) -> bytes:
    """Zstandard that does not state its size, as of a pipe."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("compress", [*FORMATS.values(), streamed, zlib.compress])
def test_whatever_was_compressed_comes_back(compress):
    assert is_compressed(compress(TEXT))
    assert decompress(compress(TEXT)) == TEXT
    assert decompress(compress(TEXT) + compress(b"more")) == TEXT + b"more"  # as pigz and cat do
    assert decompress(compress(TEXT) + b"\0" * 512) == TEXT  # padded, as on a tape


def test_plain_bytes_stay():
    assert not is_compressed(TEXT)
    assert decompress(TEXT) is TEXT


@pytest.mark.parametrize("compress", [*FORMATS.values(), streamed])
@pytest.mark.parametrize("keep", [6, 0.5, 0.999])
def test_cut_short(compress, keep):
    data = compress(TEXT)
    with pytest.raises(CompressionError, match="damaged or cut short"):
        decompress(data[: keep if keep > 1 else int(keep * len(data))])


@pytest.mark.parametrize("compress", [*FORMATS.values(), streamed])
def test_a_bomb_is_refused_early(compress, monkeypatch):
    """50 MB of zeros in a few kB, of which no more than the limit is ever made."""
    monkeypatch.setattr(compression, "ALWAYS_ALLOWED", 2**20)
    made = []
    append = compression._append

    def counted(output, piece, limit):
        made.append(len(piece))
        append(output, piece, limit)

    monkeypatch.setattr(compression, "_append", counted)
    bomb = compress(bytes(50_000_000))
    with pytest.raises(CompressionError, match=r"expand to more than \d+ bytes, the limit"):
        decompress(bomb)
    limit = max(2**20, compression.MAX_RATIO * len(bomb))
    # Zstandard gives all of a piece of 4 KiB at once, which here is all of the bomb.
    assert sum(made) < limit + compression._PIECE or compress in (zstandard.compress, streamed)


def test_a_small_file_may_have_any_ratio():
    assert len(decompress(gzip.compress(bytes(10_000_000)))) == 10_000_000


def test_a_gzip_stream_reads_like_a_file(monkeypatch):
    monkeypatch.setattr(compression, "_CHUNK", 50)  # pieces of a few hundred bytes
    text = TEXT.replace(b"4 ", b"4\n")
    stream, file = GzipStream(gzip.compress(text)), io.BytesIO(text)
    assert stream.size == len(text)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        place = stream.tell()
        assert place == file.tell()
        size = int(rng.integers(1, 200))
        if rng.random() < 0.5:
            assert stream.readline(size) == file.readline(size)
        else:
            piece = stream.read(size)  # a file may return less
            assert piece == file.read(len(piece))
            assert piece or place == len(text)
        if rng.random() < 0.3:
            back = stream.tell() - int(rng.integers(min(20, stream.tell() - place + 1)))
            assert stream.seek(back) == file.seek(back)
    while stream.read(1000):
        pass
    assert stream.tell() == len(text)
    with pytest.raises(CompressionError, match="out of reach"):
        stream.seek(0)


@pytest.mark.parametrize("damage", ["cut", "checksum", "size", "two streams"])
def test_a_gzip_stream_refuses_what_is_not_simple(damage):
    data = bytearray(gzip.compress(TEXT))
    if damage == "cut":
        data = data[:-20]
    elif damage == "checksum":
        data[-8] ^= 1
    elif damage == "size":
        data[-4] ^= 1
    else:
        data += gzip.compress(TEXT)
    stream = GzipStream(bytes(data))

    def read_all():
        while stream.read(2**20):
            pass

    with pytest.raises(CompressionError):
        read_all()


@pytest.mark.parametrize("level", range(10))
def test_zlib_of_every_level(level):
    assert decompress(zlib.compress(TEXT, level)) == TEXT
