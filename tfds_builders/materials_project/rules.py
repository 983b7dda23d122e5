"""Which numbers of the Materials Project's documents are labels; README.md states every rule."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfds_builders.materials_project.ids import UnknownIdError, number_of

THERMO_TYPES = {"GGA": "GGA_GGA+U", "GGA+U": "GGA_GGA+U", "r2SCAN": "R2SCAN"}
PHONON_METHOD = "dfpt"
STABLE_ABOVE = -0.1  # THz: an imaginary frequency beyond this makes an entry unstable
BULK_MODULUS_RANGE = (1.0, 600.0)  # GPa; diamond has 444 in PBE
SHEAR_MODULUS_RANGE = (0.0, 600.0)  # GPa
BAND_HOLE = 2.0  # eV without a state that ends the occupied manifold
BAND_HOLES_TRIED = (1.5, 3.0)  # eV: other choices must agree within
BANDWIDTH_TOLERANCE = 0.1  # relative


class NoLabelError(Exception):
    """There is no label, or none that the rules admit; the message says why."""


def bandwidth(energies: np.ndarray, top: float) -> float | None:
    """Width of the occupied manifold: from `top` down to the first hole of 2 eV.

    Args:
        energies: eV, of all bands at all k points and both spins, any shape.
        top: eV, Fermi energy of a metal or top of the valence band.

    Returns:
        eV; None where a hole of 1.5 or 3 eV would change the result by over 10 %, and where there
        is no occupied state. tfds_builders/elastic_densities has the same definition.
    """
    occupied = np.sort(energies[energies <= top + 1e-6], axis=None)[::-1]  # from the top
    if not occupied.size:
        return None
    widths = []
    for hole in (BAND_HOLE, *BAND_HOLES_TRIED):
        ends = np.flatnonzero(-np.diff(occupied) >= hole)
        widths.append(float(top - occupied[ends[0] if ends.size else -1]))
    if any(abs(other - widths[0]) > BANDWIDTH_TOLERANCE * widths[0] for other in widths[1:]):
        return None
    return widths[0]


def lowest_frequency(frequencies: np.ndarray, q_points: np.ndarray) -> float:
    """Lowest phonon frequency, THz, imaginary ones being negative.

    The three branches nearest to zero at Gamma are the acoustic ones, zero but for errors, and
    left out: an imaginary optical mode there counts.

    Args:
        frequencies: [branches, q].
        q_points: [q, 3] fractional.
    """
    frequencies = np.array(frequencies, float)
    order = np.argsort(np.abs(frequencies), axis=0)
    frequencies = np.take_along_axis(frequencies, order, axis=0)
    gamma = np.all(np.abs(np.asarray(q_points) - np.round(q_points)) < 1e-6, axis=1)
    frequencies[:3, gamma] = np.inf
    return float(frequencies.min())


def same_run_type(found: Any, expected: str) -> bool:
    """Whether two run types are the same, whatever their case."""
    return str(found).casefold() == expected.casefold()


def finite_number(document: Mapping[str, Any], key: str, source: str) -> float:
    """A number of a document. Raises NoLabelError, which names `source`, if there is none."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NoLabelError(f"{source}: no finite '{key}' ({value})")
    return float(value)


def not_negative(value: float, name: str) -> float:
    """The value. Raises NoLabelError if it is below zero."""
    if value < 0:
        raise NoLabelError(f"a negative {name} ({value:g})")
    return value


def bulk_modulus(document: Mapping[str, Any]) -> float:
    """K_VRH of an elasticity document, GPa. Raises NoLabelError if the rules do not admit it."""
    bulk, shear = document.get("bulk_modulus") or {}, document.get("shear_modulus") or {}
    voigt, reuss, hill = (finite_number(bulk, key, "K") for key in ("voigt", "reuss", "vrh"))
    low, high = BULK_MODULUS_RANGE
    if not low <= hill <= high:
        raise NoLabelError(f"K_VRH of {hill:g} GPa is not in [{low:g}, {high:g}]")
    if not 0 < reuss <= voigt + 0.01 or abs(hill - (voigt + reuss) / 2) > 0.02 + 1e-3 * hill:
        raise NoLabelError(
            f"K of {reuss:g} (Reuss), {hill:g} (Hill), {voigt:g} GPa (Voigt): expected "
            "0 < Reuss <= Voigt, and Hill their mean"
        )
    low, high = SHEAR_MODULUS_RANGE
    modulus = finite_number(shear, "vrh", "G")
    if not low < modulus <= high:
        raise NoLabelError(f"G_VRH of {modulus:g} GPa is not in ({low:g}, {high:g}]")
    return hill


def magnetic_moment(output: Mapping[str, Any], volume: float) -> float:
    """|Total moment| of a task's cell, μB. Raises NoLabelError if the task has none.

    The server's pipeline writes moment / volume, and null for a moment of zero, which an
    antiferromagnet has; the number itself is in the summary of OUTCAR.

    Args:
        volume: Å^3.
    """
    if output.get("mag_density") is not None:
        return abs(finite_number(output, "mag_density", "the task")) * volume
    outcar = output.get("outcar") or {}
    return abs(finite_number(outcar, "total_magnetization", "the task's OUTCAR"))


def elastic_tasks(document: Mapping[str, Any]) -> list[int]:
    """Numbers of the tasks behind an elastic tensor, any of which may tell its run type."""
    data = document.get("fitting_data") or {}
    tasks = [data.get("optimization_task"), *(data.get("deformation_tasks") or ())]
    numbers = {}  # in their order, each once
    for task in filter(None, tasks):
        with contextlib.suppress(UnknownIdError):
            numbers[number_of(task)] = None
    return list(numbers)


def formation_energy(document: Mapping[str, Any], run_type: str) -> tuple[float, float | None]:
    """Formation energy of a thermo document and the correction in it, eV per atom.

    Raises:
        NoLabelError: there is none, or it is of another run type.
    """
    if not same_run_type(document.get("energy_type"), run_type):
        raise NoLabelError(f"energy of run type {document.get('energy_type')}")
    energy = finite_number(document, "formation_energy_per_atom", "the thermo document")
    corrected, raw = (document.get(f"{kind}energy_per_atom") for kind in ("", "uncorrected_"))
    return energy, None if corrected is None or raw is None else corrected - raw


def chosen_phonons(summary: Mapping[str, Any]) -> int:
    """Number of the phonon calculation of a summary. Raises NoLabelError if none serves."""
    ids = summary.get("phonon_IDs") or {}
    ids = {str(getattr(k, "value", k)): v for k, v in ids.items()}
    if not ids.get(PHONON_METHOD):
        raise NoLabelError(f"no phonons by {PHONON_METHOD}; it has {', '.join(ids) or 'none'}")
    # The order of the API's list means nothing; the lowest is always the same one.
    try:
        return min(map(number_of, ids[PHONON_METHOD]))
    except UnknownIdError as error:
        raise NoLabelError(f"phonons: {error}") from error
