import bz2
import gzip
import lzma
import os
import re
import tarfile
import tracemalloc
from pathlib import Path

import ase.io
import lz4.frame
import numpy as np
import pytest
import zstandard
from ase.calculators.vasp import VaspChargeDensity

from benchmarks import fuzz_density
from densityjax.density.formats import compression
from densityjax.density.reader import (
    DensityFormatError,
    find_files,
    read_density,
    read_density_bytes,
)

ARCHIVE = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"

# A skewed cell written in every way that VASP 5 knows: the lines between comment and grid.
HEADERS = {
    "direct": ["1.0", "4 0 0", "1 5 0", "0 0.5 6", "Fe O", "1 2", "Direct", *["0.25 0.5 0.75"] * 3],
    "scaled": ["2.0", "2 0 0", "1 3 0", "0 1 3", "Fe_pv O/ab1f", "1 2", "direct", *["0 .2 .3"] * 3],
    "volume": ["-200", "2 0 0", "1 3 0", "0 1 3", "Fe O", "1 2", "Direct", *["0 -0.2 1.3 Fe"] * 3],
    "cartesian": ["2", "4 0 0", "1 5 0", "0 0 6", "Fe O", "1 2", "Cartesian", *["1 2 -0.5"] * 3],
    "selective": [
        "1", "4 0 0", "1 5 0", "0 0 6", "Fe O", "1 2", "Selective dynamics", "Direct",
        *["0.1 0.2 0.3 T F T"] * 3,
    ],
}
SHAPE = (2, 3, 4)


def member(name: str) -> bytes:
    """The text of a density file that ships with the repository."""
    with tarfile.open(ARCHIVE) as archive:
        return lzma.decompress(archive.extractfile(f"densities/{name}.CHGCAR.xz").read())


def block(values: np.ndarray) -> str:
    return "2 3 4\n" + "\n".join(f"{value:.6E}" for value in values) + "\n"


def chgcar(header: str = "direct", blocks: int = 1, separator: str = "") -> str:
    """A CHGCAR whose n-th block counts up from 100 n, x fastest."""
    grids = separator.join(block(100 * n + np.arange(24)) for n in range(1, blocks + 1))
    return "\n".join(["comment", *HEADERS[header], "", ""]) + grids


@pytest.mark.parametrize("name", ["mp-13", "mp-606949", "mp-10000"])  # spin; long cell; hexagonal
def test_agrees_with_ase(name, tmp_path):
    path = tmp_path / "CHGCAR"
    path.write_bytes(member(name))
    density = read_density(path)
    expected = VaspChargeDensity(str(path))
    np.testing.assert_allclose(density.values, expected.chg[-1], rtol=1e-9)
    assert (density.magnetization is not None) == expected.is_spin_polarized()
    if expected.is_spin_polarized():
        np.testing.assert_allclose(density.magnetization, expected.chgdiff[-1], rtol=1e-9)
    atoms = expected.atoms[-1]
    np.testing.assert_allclose(density.lattice, atoms.cell[:], rtol=1e-9)
    np.testing.assert_allclose(density.positions, atoms.get_scaled_positions(), atol=1e-9)
    assert density.species.tolist() == atoms.numbers.tolist()
    assert density.code == "unknown"


def test_derived_quantities():
    density = read_density_bytes(member("mp-10000"), "mp-10000")
    assert density.num_electrons == pytest.approx(60, rel=2e-5)
    assert density.volume == pytest.approx(117.083, rel=1e-5)
    assert (density.formula, density.chemical_system) == ("Hf2S", "Hf-S")


@pytest.mark.parametrize("header", HEADERS)
def test_header_agrees_with_ase(header, tmp_path):
    text = chgcar(header)
    density = read_density_bytes(text.encode(), "CHGCAR")
    path = tmp_path / "POSCAR"
    path.write_text(text.split("\n\n")[0].replace("Fe_pv O/ab1f", "Fe O"))
    atoms = ase.io.read(path, format="vasp")
    np.testing.assert_allclose(density.lattice, atoms.cell[:], atol=1e-12)
    np.testing.assert_allclose(density.positions, atoms.get_scaled_positions(), atol=1e-12)
    assert density.species.tolist() == atoms.numbers.tolist()


def test_three_scale_factors_scale_the_cartesian_axes():
    text = chgcar().replace("1.0", "1 2 0.5", 1)
    expected = np.array([[4, 0, 0], [1, 10, 0], [0, 1, 3]])
    np.testing.assert_allclose(read_density_bytes(text.encode(), "CHGCAR").lattice, expected)


def test_positions_are_wrapped_below_one():
    text = chgcar().replace("0.25 0.5 0.75", "-1e-18 1.0 -0.25", 1)
    positions = read_density_bytes(text.encode(), "CHGCAR").positions
    assert positions[0].tolist() == [0, 0, 0.75]


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
)
def test_compressed_files_read_alike(compress, tmp_path):
    path = tmp_path / "density"  # the content decides, not the name
    path.write_bytes(compress(chgcar().encode()))
    density = read_density(path)
    expected = (100 + np.arange(24)).reshape(SHAPE, order="F") / 4 / (5 * 6)
    np.testing.assert_allclose(density.values, expected, rtol=1e-12)
    assert density.source == str(path)


@pytest.mark.parametrize("augmentation", ["augmentation occupancies 1 3\n 1.0 2.0\n 3.0\n", ""])
@pytest.mark.parametrize("moments", ["", "  2.5 0.1 0.1\n"])
def test_spin_blocks(augmentation, moments):
    separator = augmentation + (moments if augmentation else "")
    one, two, four = (
        read_density_bytes((chgcar(blocks=n, separator=separator) + augmentation).encode(), "x")
        for n in (1, 2, 4)
    )
    fields = [(100 * n + np.arange(24)).reshape(SHAPE, order="F") / 120 for n in (1, 2, 3, 4)]
    assert one.magnetization is None
    np.testing.assert_allclose(two.magnetization, fields[1])
    np.testing.assert_allclose(four.magnetization, np.linalg.norm(fields[1:], axis=0))
    for density in (one, two, four):
        np.testing.assert_allclose(density.values, fields[0])
        assert density.code == ("VASP" if augmentation else "unknown")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("comment\nx\n", "line 2: expected a scale factor"),
        (chgcar().replace("4 0 0", "4 0"), "line 3: expected a cell vector"),
        (chgcar().replace("4 0 0", "4 nan 0"), "line 3: expected a cell vector"),
        (chgcar().replace("4 0 0", "1 5 0"), "line 5: expected three independent cell vectors"),
        (chgcar().replace("Fe O\n", "\n"), "line 6: expected element symbols, as VASP 5"),
        (chgcar().replace("Fe O", "Fe Zz"), "line 6: expected element symbols"),
        (chgcar().replace("\n1 2\n", "\n1 2 3\n"), "line 7: expected 2 atom counts"),
        (chgcar().replace("Direct", "0.1 0.2 0.3"), "line 8: expected 'Direct' or 'Cartesian'"),
        (chgcar().replace("\n1 2\n", "\n1 3\n"), "line 12: expected the position of one of 4"),
        (chgcar().replace("\n1 2\n", "\n1 1\n"), "expected three grid dimensions, found '0.25"),
        (chgcar().split("2 3 4")[0], "0 grid blocks; expected 1 (charge)"),
        (chgcar().replace("2 3 4", "2 3 5"), "(2, 3, 5): expected 30 numbers, after 24 the file"),
        (chgcar().replace("2 3 4", "2 3 3"), "expected 18 numbers, after 18 found '1.180000E+02'"),
        (chgcar().replace("2 3 4", "2000000 3000000 4000000"), "the limit of this reader"),
        (chgcar().replace("2 3 4", "200 300 400"), "expected 24000000 numbers, the file ends"),
        (chgcar().replace("1.100000E+02", "1.1x0000E+02"), "after 11 found 'x0000E+02"),
        (chgcar().replace("1.100000E+02", "************"), "after 10 found '****"),
        (chgcar().replace("1.100000E+02", "nan"), "holds NaN or infinity"),
        (chgcar() + "7.0\n", "expected 24 numbers, after 24 found '7.0'"),
        (chgcar() + "7 8\n", "after 1 grid blocks: expected nothing or another grid block"),
        (chgcar()[:-1] + " 7.0\n", "after 24 found '7.0'"),
        (chgcar(blocks=2)[:-40], "grid block 2 of (2, 3, 4): expected 24 numbers"),
        (chgcar() + block(np.arange(24)).replace("2 3 4", "4 3 2"), "block 2 is (4, 3, 2)"),
        (chgcar(blocks=3), "3 grid blocks; expected 1 (charge) or 2 (charge, m) or 4"),
        (chgcar().replace("E+02", "E+02 ").replace("1.", "-1."), "expected a positive number"),
        (chgcar() + "augmentation occupancies 1 3\n 1.0", "augmentation occupancies: expected 3"),
    ],
)
def test_a_bad_file_is_named_with_what_was_expected(text, message, tmp_path):
    path = tmp_path / "bad.CHGCAR"
    path.write_text(text)
    with pytest.raises(DensityFormatError) as error:
        read_density(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress, bz2.compress, lzma.compress,
        zstandard.ZstdCompressor(write_checksum=True).compress,
    ],
)
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_compressed_file(compress, damage, tmp_path):
    data = bytearray(compress(member("mp-13")))
    if damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 0xFF
    path = tmp_path / "CHGCAR.z"
    path.write_bytes(data)
    with pytest.raises(DensityFormatError, match=r"CHGCAR\.z: compressed data are damaged"):
        read_density(path)


def test_noble_gases_have_a_formula_without_warnings(recwarn):
    density = read_density_bytes(chgcar().replace("Fe O", "He Ne").encode(), "x")
    assert (density.formula, density.chemical_system) == ("HeNe2", "He-Ne")
    assert not recwarn.list


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("kind", ["VASP", "cube", "JSON"])
def test_memory_stays_below_four_times_the_arrays_and_the_text(compress, kind):
    """Grids of 40^3, of which arrays are 0.5 MB each: what is constant does not count."""
    values = np.random.default_rng(0).random((40, 40, 40))
    lattice, atoms = np.diag([6.0, 6, 6]), np.array([26, 8])
    given = fuzz_density.Density(values, values, lattice, atoms, np.zeros((2, 3)), "unknown", "x")
    text = {
        "VASP": lambda: fuzz_density._vasp(given, [values] * 4, augmented=True),
        "cube": lambda: fuzz_density._cube(given, 3),
        "JSON": lambda: fuzz_density._json(given, spin=True),
    }[kind]().encode()
    data = compress(text)
    read_density_bytes(data, "x")  # what is imported and cached does not count
    tracemalloc.start()
    density = read_density_bytes(data, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    blocks = {"VASP": 4, "cube": 3, "JSON": 2}[kind]  # of numbers in the file
    # The parser reads 1 MB at once, compressors keep as much.
    assert peak < 4 * blocks * density.values.nbytes + len(data) + 2**21
    if compress is bytes:  # the text, which is the caller's, is not copied
        assert peak < 2.5 * blocks * density.values.nbytes + 2**21


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "CHGCAR")
    for path in (tmp_path / "CHGCAR", "/dev/zero"):
        with pytest.raises(DensityFormatError, match="not a file"):
            read_density(path)


def test_folders(tmp_path):
    names = ["CHGCAR", "b.chgcar.gz", "CHG", "CHG.xz", "AECCAR0", "PARCHG.0001.ALLK", "x.cube.zst",
             "y.xsf", "mp-1.json.gz"]
    others = ["run.json", "POSCAR", "labels.csv", "CHGTXT.md", ".CHGCAR.swp", "x.json.txt"]
    for name in names + others:
        (tmp_path / name).touch()
    (tmp_path / "CHGCAR.d").mkdir()
    assert [path.name for path in find_files(tmp_path)] == sorted(names)


def test_gzip_of_every_kind_reads_like_its_text():
    text = chgcar(blocks=2).encode()
    expected = read_density_bytes(text, "x")
    tiny = text.replace(b"1.050000E+02", b"0.1050000-102")
    for data in (
        gzip.compress(text), gzip.compress(text[:500]) + gzip.compress(text[500:]),
        gzip.compress(text) + bytes(100), gzip.compress(tiny),
    ):
        density = read_density_bytes(data, "x")
        np.testing.assert_array_equal(density.magnetization, expected.magnetization)
    assert density.values[1, 2, 0] == 0.0  # of the last
    wrong = bytearray(gzip.compress(text))
    wrong[-7] ^= 1
    with pytest.raises(DensityFormatError, match="damaged or cut short"):
        read_density_bytes(bytes(wrong), "x")


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DensityFormatError, match=r"none\.CHGCAR: cannot be opened \(No such file"):
        read_density(tmp_path / "none.CHGCAR")
    with pytest.raises(DensityFormatError, match="cannot be opened"):
        read_density(tmp_path)
    (tmp_path / "x.npy").write_bytes(bytes(range(128, 256)) * 4)
    with pytest.raises(DensityFormatError, match="found bytes that are not text"):
        read_density(tmp_path / "x.npy")


def test_numbers_that_are_written_out_lose_no_block(monkeypatch):
    """A stream gives its text in pieces, of which all must be looked through."""
    monkeypatch.setattr(compression, "_CHUNK", 100)
    text = chgcar(blocks=2).encode().replace(b"1.050000E+02", b"0.1050000-102")
    density = read_density_bytes(gzip.compress(text), "x")
    assert density.values[1, 2, 0] == 0.0
    assert density.magnetization is not None


def test_marks_labels_and_odd_numbers_of_text():
    """A byte order mark, labels in Latin-1, numbers without their E in the header."""
    text = chgcar().replace("0.25 0.5 0.75", "0.25 0.5 0.75 Fé", 1).replace("1.0", "1.0 ! Å", 1)
    text = text.replace("4 0 0", "0.4D+01 0.10000-101 0")
    expected = read_density_bytes(chgcar().encode(), "x")
    for data in (text.encode("latin-1"), b"\xef\xbb\xbf" + chgcar().encode()):
        density = read_density_bytes(data, "x")
        np.testing.assert_array_equal(density.values, expected.values)
        np.testing.assert_array_equal(density.positions, expected.positions)


@pytest.mark.parametrize(
    ("start", "meaning"),
    [
        (b"PK\x03\x04", "zip archive"), (b"\x93NUMPY\x01\x00", "NumPy array"),
        (b"CDF\x01", "netCDF"), (b"/annex/objects/SHA256E-s1--x\n", "git annex get"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html>\n<body>Sign in</body></html>", "an HTML page"),
        (b"\n<!DOCTYPE HTML PUBLIC>\n<html>", "an HTML page"),
        (b"<?xml version='1.0'?>\n<Error><Code>NoSuchKey</Code></Error>", "an XML document"),
        (b"<Error><Code>AccessDenied</Code></Error>", "an XML document"),
        ("Si\n1.0\n".encode("utf-16-le"), "text in UTF-16"), (b"%PDF-1.7\n", "a PDF"),
        (b"\0\0\0H" + bytes(72) + b"\0\0\0H", "a binary density of SIESTA"),
        (b"\x10\0\0\0" + bytes(16) + b"\x10\0\0\0", "a binary file of a Fortran program"),
        (b"some\0bytes", "a binary file"),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, lz4.frame.compress])
def test_what_is_no_density_is_named(start, meaning, compress, tmp_path):
    (tmp_path / "CHGCAR").write_bytes(compress(start))
    with pytest.raises(DensityFormatError, match=rf"CHGCAR: .*{re.escape(meaning)}"):
        read_density(tmp_path / "CHGCAR")


def test_tar_archives_of_every_age(tmp_path):
    (tmp_path / "CHGCAR").write_text(chgcar())
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "x.tar", "w", format=kind) as archive:
            archive.add(tmp_path / "CHGCAR", "CHGCAR")
        with pytest.raises(DensityFormatError, match="a tar archive: unpack it"):
            read_density(tmp_path / "x.tar")


TITLES = ["[110] surface", "{cell}", "<111> of Fe", "SLAB", "CRYSTAL of Fe", "ATOMS", "PRIMVEC", "",
          "a\0b", "1 2 3", "long " * 5000]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("title", [*(title.encode() for title in TITLES), "硅".encode("gbk")])
def test_a_title_may_look_like_any_format(title, compress):
    data = chgcar().encode().replace(b"comment", title, 1)
    density = read_density_bytes(compress(data), "x")
    np.testing.assert_array_equal(density.values, read_density_bytes(chgcar().encode(), "x").values)


@pytest.mark.parametrize("title", ["[110] surface", "<111> of Fe", "SLAB", "{cell}"])
def test_a_title_of_a_cube_may_look_like_any_format(title):
    text = fuzz_density._cube(read_density_bytes(chgcar().encode(), "x"))
    expected = read_density_bytes(text.encode(), "x")
    found = read_density_bytes(text.replace("a density", title, 1).encode(), "x")
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (chgcar().encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
        (chgcar().replace("comment", "硅").encode("utf-16-le"), "iconv -f UTF-16LE -t UTF-8"),
        (chgcar().encode("utf-16-be"), "iconv -f UTF-16BE -t UTF-8"),
        (chgcar().encode("utf-32"), "iconv -f UTF-32 -t UTF-8"),
        (chgcar().encode("utf-32-le"), "iconv -f UTF-32LE -t UTF-8"),
        (chgcar().replace("\n", "\r").encode(), "lines end with CR alone"),
        (b"outs:\n- md5: 00\n  path: CHGCAR\n", "dvc pull"),
        (b"../../.git/annex/objects/3j/K/SHA256E-s1--a/SHA256E-s1--a\n", "git annex get"),
        (b"404: Not Found", "'404: Not Found', such as a server's error message"),
        (b'{"message": "Not Found"}', "found {'message': 'Not Found'} (a server's error message?)"),
        (chgcar().replace("1.100000E+02", "****").encode(), "after 10 found '****'"),
        (chgcar().encode() + b"a\0\n", "found 'a\N{REPLACEMENT CHARACTER}' (two files in one?)"),
    ],
)
def test_what_it_is_and_the_remedy_are_said_in_one_line(data, message):
    for given in (data, gzip.compress(data)):
        with pytest.raises(DensityFormatError) as error:
            read_density_bytes(given, "x")
        assert message in str(error.value)
        assert str(error.value).isprintable()


def test_names_that_no_file_can_have(tmp_path):
    (tmp_path / "loop.cube").symlink_to("loop.cube")
    for name in ("a\0b", "x" * 300, "d/" * 3000, "\ud800", b"a\0b", tmp_path / "loop.cube"):
        with pytest.raises(DensityFormatError, match="cannot be opened"):
            read_density(name)
