"""How many valence electrons atoms bring along, by the pseudopotentials that are in use."""

import functools

import numpy as np
from pymatgen.core import Element

# Valence electrons of VASP's potentials, of all releases from 2010 to 2024 that pymatgen knows
# (`pymatgen/io/vasp/potcar-summary-stats.json.bz2`, ZVAL of PBE, PBE_52, PBE_54, PBE_64 and LDA);
# those of other families (GTH, ONCV, PSlibrary) are among them for nearly all elements. The rest
# was added by hand, from other families and older releases: alkali metals, Sr and Ba without
# semicore shells, As to Xe with a filled d shell, Hf to Os with 4f (ONCV), Hg 18 of GPAW, Zn, Cd
# and Hg without their d shells. Left out: Ti 2, and fractional H.
_USUAL = """
H 1 He 2 Li 1,3 Be 2,4 B 3 C 4,6 N 5 O 6,8 F 7 Ne 8,10 Na 1,7,9 Mg 2,8,10 Al 3,9,11 Si 4,10,12 P 5
S 6 Cl 7 Ar 8 K 1,7,9 Ca 2,8,10 Sc 3,9,11 Ti 4,10,12 V 5,11,13 Cr 6,12,14 Mn 7,13,15 Fe 8,14,16
Co 9,15,17 Ni 10,16,18 Cu 11,17,19 Zn 2,12,18,20 Ga 3,13,19,21 Ge 4,14,22 As 5,15,23 Se 6,16,24
Br 7,17,25 Kr 8,18,26 Rb 1,7,9 Sr 2,8,10 Y 3,9,11 Zr 4,10,12 Nb 5,11,13 Mo 6,12,14 Tc 7,13,15
Ru 8,14,16 Rh 9,15,17 Pd 10,16,18 Ag 11,17,19 Cd 2,12,18,20 In 3,13,19,21 Sn 4,14,22 Sb 5,15,23
Te 6,16,24 I 7,17,25 Xe 8,18,26 Cs 1,7,9 Ba 2,8,10 La 9,11 Ce 10,11,12 Pr 11,13 Nd 11,14 Pm 11,15
Sm 10,11,16 Eu 8,9,17 Gd 9,18 Tb 9,19 Dy 9,20 Ho 9,21 Er 8,9,22 Tm 9,23 Yb 8,9,10,24 Lu 9,25
Hf 4,10,12,26 Ta 5,11,13,27 W 6,12,14,28 Re 7,13,15,29 Os 8,14,16,30 Ir 9,15,17 Pt 10,16,18
Au 11,17,19 Hg 2,12,18,20 Tl 3,13,15,21 Pb 4,14,16,22 Bi 5,15,17,21,23 Po 6,16,18,24 At 7,17,25
Rn 8,18,26 Fr 9 Ra 10 Ac 9,11 Th 10,12 Pa 11,13 U 14 Np 15 Pu 16 Am 17 Cm 18 Cf 20
"""
_MOST_SUMS = 100_000  # of a cell; far more than a material of ten elements has


@functools.cache
def _table() -> dict[int, tuple[int, ...]]:
    """Atomic number -> valences, rising."""
    words = _USUAL.split()
    return {
        Element(symbol).Z: tuple(int(n) for n in valences.split(","))
        for symbol, valences in zip(words[::2], words[1::2])
    }


def _counts(species: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of atomic number and atoms; empty if an element is unknown or has no entry."""
    numbers, counts = np.unique(species, return_counts=True)
    if not all(int(z) in _table() for z in numbers):
        return []
    return [(int(z), int(n)) for z, n in zip(numbers, counts)]


def valence_range(species: np.ndarray) -> tuple[int, int] | None:
    """Fewest and most valence electrons that the neutral atoms [N] usually have, together."""
    if not (counts := _counts(species)):
        return None
    low = sum(n * _table()[z][0] for z, n in counts)
    return low, sum(n * _table()[z][-1] for z, n in counts)


def usual_sums(species: np.ndarray) -> frozenset[int]:
    """Electrons of the neutral atoms [N] with one usual potential for each element.

    All electrons of the atoms are among them. Empty if an element is unknown.
    """
    if not (counts := _counts(species)):
        return frozenset()
    sums = {0}
    for z, n in counts:
        sums = {total + n * valence for total in sums for valence in _table()[z]}
        if len(sums) > _MOST_SUMS:
            return frozenset()
    return frozenset(sums | {int(species.sum())})


def is_usual(electrons: float, sums: frozenset[int]) -> bool:
    """Whether a number of electrons is one of `usual_sums`, to the few digits that files hold."""
    return is_whole(electrons) and round(electrons) in sums


def is_more_than_all(electrons: float, species: np.ndarray) -> bool:
    """Whether neutral atoms [N] have fewer electrons in all, those of their cores included."""
    return electrons > 1.01 * species.sum() + 1


def is_whole(electrons: float) -> bool:
    """Whether a number of electrons is whole to the few digits that files hold."""
    return abs(electrons - round(electrons)) < 0.01 + 1e-4 * electrons
