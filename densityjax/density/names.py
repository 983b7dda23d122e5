"""What a file's name or title says that it holds, when that is not the whole density."""

import re

POTENTIAL = "a potential"
SPIN_CHANNEL = "the density of one spin"
SPIN_DENSITY = "a spin density"
LOCALISATION = "an electron localisation function"
KINETIC = "a kinetic-energy density"
DIFFERENCE = "a difference of densities"
CHOSEN = "the density of chosen bands or energies"
CORE = "the density of the core electrons alone"
ORBITALS = "orbitals or some states"
# These are certainly not the density of a material; one spin or an all-electron part may serve.
NO_DENSITIES = frozenset((
    POTENTIAL, LOCALISATION, KINETIC, DIFFERENCE, SPIN_DENSITY, ORBITALS, CHOSEN, CORE,
))

# Words of a name or title, upper case and separated by blanks -> what they stand for. The first
# that fits counts. Who writes so: VASP, vaspkit, VTST, ABACUS, CP2K, OpenMX, Octopus, FHI-aims,
# QE, CRYSTAL, ORCA, Psi4, Multiwfn.
_KINDS = (
    (r"(LOCPOT|V ?(HARTREE|XC|EXT|TOTAL|LOCAL|HAR|KS|EFF)|V?POT|TOTPOT|(?<!PSEUDO )POTENTIAL|ESP|"
     r"TOTESP)", POTENTIAL),
    (r"(ELFCAR|ELF\w{0,3}|LOL|LOCALI[SZ]ATION FUNCTION)", LOCALISATION),
    (r"(TAUCAR|KINETIC ENERGY DENSITY)", KINETIC),
    (r"((CHG|CHD|CHARGE|RHO|DEN|DENSITY)DIFF?\d*|DIFF|DIFFERENCE|DRHO|DDEN|"
     r"DELTA ?(RHO|DENSITY)|DEFORMATION)",
     DIFFERENCE),
    (r"(SPIN ?(UP|DOWN|DW|DN|\d)|(UP|DOWN|DW|DN) ?(SPIN|CHG|RHO|DENSITY)|CHGS ?\d|"
     r"(CHG|CHGCAR|RHO|DENSITY) ?(UP|DOWN|DW|DN)|DENSITY ?SP ?\d|CHG ?S[12]|DEN[01]|"
     r"(ALPHA|BETA) SPIN|(SPIN|RHO) (ALPHA|BETA)|SPIN CHANNEL)", SPIN_CHANNEL),
    (r"((SPIN|MAG) ?DEN(S(ITY)?)?|SDEN|MAGNETI[SZ]ATION( DENSITY)?)", SPIN_DENSITY),
    (r"PARCHG", CHOSEN),
    (r"AECCAR0", CORE),
    (r"AECCAR\d*", "a part of the all-electron density, coarse near the cores"),
    (r"(WFN|WFC|WAVEFUNCTION|HOMO|LUMO|ORBITAL|LDOS|ILDOS|STM)", ORBITALS),
)
# Of names alone: a title may speak of spin, or of a unit of energy, and mean the calculation.
_ENDINGS = r"( (CUBE?|XSF|VASP|CHGCAR|CHG))?( (GZ|XZ|BZ2|ZST|LZ4))?$"
_KINDS_OF_NAMES = (
    (r"HARTREE", POTENTIAL),
    (rf"(?<!UP )(UP|DOWN|DW|DN)(?={_ENDINGS})", SPIN_CHANNEL),
    (r"(SPIN|MAG)", SPIN_DENSITY),
)


def _compiled(kinds: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern, str], ...]:
    return tuple((re.compile(rf"(?:^| ){words}(?= |$)"), kind) for words, kind in kinds)


_OF_TITLES = _compiled(_KINDS)
_OF_NAMES = _compiled(_KINDS + _KINDS_OF_NAMES)


def kind_of(text: str, title: bool = False) -> tuple[str, str] | None:
    """What a file's name (or title) names, and the words that say so; None for a density.

    'mp-1_CHGDIFF.vasp' -> ('a difference of densities', 'CHGDIFF').
    """
    words = re.sub(r"[^A-Z0-9]+", " ", text.upper()).strip()
    for pattern, kind in _OF_TITLES if title else _OF_NAMES:
        if found := pattern.search(words):
            return kind, found[0].strip()
    return None


def note_of_title(title: str) -> tuple[str, ...]:
    """A note if a title names something else than the whole density."""
    if not (found := kind_of(title, title=True)):
        return ()
    return (f"by its title {found[0]} ('{' '.join(title.split())[:60]}'), not the whole density",)
