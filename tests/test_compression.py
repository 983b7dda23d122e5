import bz2
import gzip
import lzma

import pytest
import zstandard

from densityjax.formats import compression
from densityjax.formats.compression import CompressionError, decompress, is_compressed

FORMATS = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress,
}  # fmt: skip
TEXT = b"".join(b"%d " % (n * n) for n in range(50_000))  # 0.5 MB


def streamed(data: bytes) -> bytes:
    """Zstandard that does not state its size, as of a pipe."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("compress", [*FORMATS.values(), streamed])
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
