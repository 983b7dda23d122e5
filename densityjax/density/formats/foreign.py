"""Files that are no density text: what they are, and what to do with them."""

import tarfile

from densityjax.density.formats.text import shown

# First bytes -> what it is, and the remedy.
_MAGIC = (
    (b"PK\x03\x04", "a zip archive (or .npz): unpack it and give the density file inside"),
    (b"PK\x05\x06", "an empty zip archive: fetch it again"),
    (b"PK\x07\x08", "a part of a zip archive: unpack it and give the density file inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it and give the density file inside"),
    (b"Rar!\x1a\x07", "a RAR archive: unpack it and give the density file inside"),
    (b"\x1f\x9d", "compressed with Unix compress (.Z): expand it with `uncompress`"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"CDF\x01", "a netCDF file: write the density as cube or XSF"),
    (b"CDF\x02", "a netCDF file: write the density as cube or XSF"),
    (b"CDF\x05", "a netCDF file: write the density as cube or XSF"),
    (b"\x93NUMPY", "a NumPy array (.npy), which has no cell and no atoms: write it with them as a "
     "cube, ase.io.cube.write_cube does"),
    (b"- of Ulm", "a trajectory of ASE: write the density as a cube, ase.io.cube.write_cube does"),
    (b"\x80\x04\x95", "a pickle of Python, which is not read: write the density as a cube"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs.github.com/spec/",
     "a Git LFS pointer that stands for the file: fetch the file with `git lfs pull`"),
    (b"/annex/objects/",
     "a git-annex pointer that stands for the file: fetch the file with `git annex get`"),
    (b"outs:", "a DVC pointer that stands for the file: fetch the file with `dvc pull`"),
    (b"\xff\xfe\0\0", "text in UTF-32: convert it, `iconv -f UTF-32 -t UTF-8`"),
    (b"\0\0\xfe\xff", "text in UTF-32: convert it, `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe", "text in UTF-16: convert it, `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "text in UTF-16: convert it, `iconv -f UTF-16 -t UTF-8`"),
)
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
_NO_ASCII = bytes(c for c in range(256) if (c < 32 and c not in b"\t\n\r\f") or c > 126)
_SIESTA = 9 * 8  # bytes of the first record of .RHO: a cell of nine doubles


def is_hdf5(head: bytes) -> bool:
    """Whether a file starts like HDF5."""
    return head.startswith(b"\x89HDF\r\n\x1a\n")


def foreign(head: bytes, titled: bool = False) -> str:
    """What a file with these first bytes is, and the remedy; '' if it may be a density text.

    Args:
        titled: the lines after the first are those of a density, whose title may be anything.
    """
    for magic, meaning in _MAGIC:
        if head.startswith(magic):
            return meaning
    if _is_tar(head):
        return "a tar archive: unpack it (`tar xf`) and give the density file inside"
    if titled:
        return ""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:100].lower()
    if start.startswith(_HTML):
        return "an HTML page, such as a server's error or login page: fetch the file again"
    if start.startswith((b"<?xml", b"<!doctype")) or (start[:1] == b"<" and b">" in head):
        kind = "an HTML page" if b"<html" in head.lower() else "an XML document"
        return f"{kind}, such as a server's error message or vasprun.xml: fetch the density itself"
    if meaning := _fortran(head):
        return meaning
    if b"\0" in head:
        # Text of two or four bytes a character without a mark has a NUL beside most letters.
        if meaning := _wide(head):
            return meaning
        return "a binary file (it holds NUL bytes), found bytes that are not text"
    ascii_ = len(head.translate(None, _NO_ASCII))
    return "a binary file, found bytes that are not text" if 2 * ascii_ < len(head) else ""


def a_line(head: bytes, cut: bool) -> str:
    """What a text of one line is, and the remedy; '' of more lines.

    Args:
        cut: the file goes on.
    """
    if b"\r" in head.strip() and b"\n" not in head:
        return "text whose lines end with CR alone: convert it, `tr '\\r' '\\n'`"
    text = head.strip()
    if b"\n" in text or cut:
        return ""
    if b"annex/objects/" in text:  # a link of git's, written as text
        return "a git-annex pointer that stands for the file: fetch the file with `git annex get`"
    return (f"a text of one line, '{shown(text)}', such as a server's error message: fetch the "
            "density itself")


def _wide(head: bytes) -> str:
    """A meaning if most characters are letters or digits of two or four bytes."""
    for width, places in ((4, ((1, 2, 3), (0, 1, 2))), (2, ((1,), (0,)))):
        part = head[: len(head) // width * width]
        for nuls in places:
            others = set(range(width)) - set(nuls)
            rows = range(0, len(part), width)
            fit = sum(not any(part[r + n] for n in nuls) and all(part[r + o] for o in others)
                      for r in rows)
            if rows and fit > 0.8 * len(rows):
                code = f"UTF-{8 * width}{'LE' if nuls[0] else 'BE'}"
                return f"text in UTF-{8 * width}: convert it, `iconv -f {code} -t UTF-8`"
    return ""


def _is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes are a member's header, whose checksum fits."""
    if len(head) < tarfile.BLOCKSIZE or b"\0" not in head:  # fields are padded with NUL
        return False
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _fortran(head: bytes) -> str:
    """A meaning if the first record is framed by its length, as Fortran's binary files are."""
    for order in ("little", "big"):
        size = int.from_bytes(head[:4], order)
        if 4 <= size <= len(head) - 8 and head[4 + size : 8 + size] == head[:4]:
            if size == _SIESTA:
                return ("a binary density of SIESTA (.RHO, .DRHO, .VT ...): write it as a cube or "
                        "XSF, `sgrid x.RHO x.cube` of sisl or rho2xsf of SIESTA do")
            return "a binary file of a Fortran program: write the density as a cube or XSF"
    return ""
