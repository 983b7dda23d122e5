"""What a density file's name says: whose it is, in which spelling, and which of several to take."""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from densityjax.density import names as density_names
from densityjax.density.formats.compression import ENDINGS

_KIND = r"(?:chgcar|chg|aeccar\d?|parchg|locpot|elfcar)"
_FORMAT = r"\.(?:cube|cub|xsf|vasp|json|h5|hdf5)"
# Endings that ids of a table carry along from the files that it was made of.
_ID_ENDING = re.compile(
    r"(?i)\.(?:cif|poscar|contcar|vasp|xyz|extxyz|json|res|chgcar|cube|xsf|h5|hdf5)$"
)
# Backups, and the sums that scripts of VASP users leave for a Bader analysis.
_BACKUP = re.compile(
    r"(?i)~$|[._ -](?:bak|backup|old|orig|save|saved|copy|prev|previous|sum|error|tmp)\d*$|^#"
    r"|\(\d+\)$|^(?:copy of|old|bak|backup)[._ -]|(?:^|[._-])chgcar[._-]\d{1,2}$"
)
_DASHES = re.compile(r"[\u2010-\u2015\u2212\uff0d]")  # what editors make of a hyphen
_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")


def plain(name: str) -> str:
    """A file's name without the ending of its compression."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in ENDINGS else name


def keys(folder: Path, path: Path) -> Iterator[tuple[int, str]]:
    """What a material may be called whose density is this file, with how exact that is, 0 most.

    The exactness depends on the kind of the name alone, not on the file's compression.
    """
    relative = path.relative_to(folder)
    name = plain(path.name)
    bare = re.sub(f"(?i){_FORMAT}$", "", name)
    stem = path.name.partition(".")[0]
    yield 0, relative.as_posix()
    yield 0, plain(relative.as_posix())
    yield 1, name
    yield 2, bare
    # mp-1.CHGCAR, CHGCAR_mp-1, CHGCAR.mp-1; ids may hold points
    yield 3, re.sub(f"(?i)^{_KIND}[._ -]|[._ -]{_KIND}$", "", bare)
    yield 4, stem
    yield 5, re.sub(f"(?i)^{_KIND}[_ -]|[_ -]{_KIND}$", "", stem)
    for depth, parent in enumerate(reversed(relative.parts[:-1])):
        yield 6 + depth, parent  # mp-1/CHGCAR, mp-1/static/CHGCAR


def spellings(material: str) -> tuple[str, ...]:
    """A material as its row calls it; without the ending of a file; a number without '.0'."""
    without = _ID_ENDING.sub("", material)
    found = (material, without, re.sub(r"^(\d+)\.0$", r"\1", material))
    return tuple(dict.fromkeys(found))


def loose(name: str) -> str:
    """A name without regard to case, kind of hyphen, and zeros in front of a number."""
    text = _DASHES.sub("-", unicodedata.normalize("NFC", name)).casefold()
    return _ZEROS.sub("", text)


def is_of_run(path: Path) -> bool:
    """Whether a file is called as VASP calls its charge density, so that its folder is a run's."""
    return plain(path.name).upper() in ("CHGCAR", "CHG")


def is_beside(path: Path) -> bool:
    """Whether a file is what lies beside a CHGCAR: VASP's other files, and backups."""
    return rank(path)[0] > 2


def rank(path: Path) -> tuple[int, bool]:
    """Least for what should be the charge density, more for CHG, parts, backups.

    Of two equal files a plain one comes before a compressed one: what was written again.
    """
    name = plain(path.name)
    packed = name != path.name
    if name.upper() == "CHGCAR":
        return 0, packed
    if _BACKUP.search(name):
        return 5, packed
    if re.search(r"(?i)aeccar|parchg|locpot|elfcar", name):
        return 4, packed
    if re.search(r"(?i)(^|[._ -])chg([._ -]|$)", name):
        return 3, packed
    return 2, packed


def no_density(path: Path, material: str) -> str:
    """What a file is by its name if that is certainly not the density of a material, else ''.

    Args:
        material: its name is not looked at, if the file's contains it.
    """
    name = path.name.replace(material, " ") if len(material) > 1 else path.name
    kind = density_names.kind_of(name)
    return kind[0] if kind and kind[0] in density_names.NO_DENSITIES else ""
