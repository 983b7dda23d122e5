"""From a question to the files that answer it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.attribution.grad_cam import grad_cam
from densityjax.attribution.integrated_gradients import integrated_gradients
from densityjax.attribution.occlusion import occlusion
from densityjax.attribution.partition import atom_weights
from densityjax.attribution.planes import draw_planes
from densityjax.attribution.question import Question
from densityjax.attribution.references import reference_density
from densityjax.attribution.result import Attribution
from densityjax.attribution.shapley import shapley_shares
from densityjax.attribution.smoothing import gaussian_smooth
from densityjax.attribution.tables import atom_rows, facts_of, warnings_of, write_atoms
from densityjax.attribution.volumes import write_map_chgcar, write_map_cube
from densityjax.features.average_atoms import AverageAtoms
from densityjax.report.text import file_stem
from densityjax.runtime.files import replace_json

METHODS = ("integrated_gradients", "occlusion", "grad_cam")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a prediction is explained.

    Attributes:
        method: of `METHODS`.
        reference: of `references.REFERENCES`.
        steps: of integrated gradients.
        smooth: Å, see `smoothing`; None for half a voxel of the view, below which a view sees
          nothing (0 for the fractional view, whose voxels are the map's).
        width: Å between windows of occlusion.
        orders: of atoms that Shapley's shares are averaged over; 0: none are made.
    """

    method: str = "integrated_gradients"
    reference: str = "uniform"
    steps: int = 16
    smooth: float | None = None
    width: float = 1.5
    orders: int = 16


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A map with its table and facts.

    Attributes:
        found: the map.
        rows: see `tables.atom_rows`.
        facts: see `tables.facts_of`.
        warnings: in words.
    """

    found: Attribution
    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    warnings: list[str]


def explain(
    question: Question, settings: Settings, atoms: AverageAtoms | None = None
) -> Explanation:
    """Answers a question.

    Args:
        atoms: of the run; for the reference 'atoms' alone.

    Raises:
        UserError: an element has no average atom.
    """
    record = question.material.record
    reference = reference_density(record, atoms)
    weights = atom_weights(record["lattice"], record["positions"], len(record["density"]))
    if settings.method == "occlusion":
        found = occlusion(question, reference, settings.width)
    elif settings.method == "grad_cam":
        found = grad_cam(question)
    else:
        found = integrated_gradients(question, reference, settings.steps)
    width = _resolution(question) if settings.smooth is None else settings.smooth
    found = dataclasses.replace(
        found, values=gaussian_smooth(found.values, record["lattice"], width)
    )
    shares, ends = None, None
    if settings.orders:
        shares, *ends = shapley_shares(question, reference, weights, settings.orders)
    facts = facts_of(question, found, settings.reference, tuple(ends) if ends else None)
    facts["smoothed_by"] = width
    of_views = gaussian_smooth(weights, record["lattice"], width)  # as if the views were smoothed
    rows = atom_rows(question, weights, of_views, found, shares)
    return Explanation(found, rows, facts, warnings_of(question, found))


def _resolution(question: Question) -> float:
    view = question.parts[0].task.view
    return view.spacing / 2 if view.kind == "cartesian" else 0.0


def write_explanation(folder: Path, question: Question, answer: Explanation) -> list[Path]:
    """Writes TARGET.cube, CHGCAR_TARGET, TARGET_atoms.csv, TARGET.json and TARGET.png.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = file_stem(question.spec.name)
    names = (f"{stem}.cube", f"CHGCAR_{stem}", f"{stem}_atoms.csv", f"{stem}.json", f"{stem}.png")
    cube, chgcar, table, facts, picture = (folder / name for name in names)
    record, unit = question.material.record, question.unit or "pure number"
    comment = (
        f"densityjax {answer.found.method} of {question.spec.name} for {record['formula']}, {unit}"
    )
    place = record["lattice"].astype(np.float64), record["species"], record["positions"]
    write_map_cube(cube, answer.found.values, *place, f"{comment} per voxel")
    write_map_chgcar(chgcar, answer.found.values, *place, f"{comment} times V / Angstrom^3")
    write_atoms(table, answer.rows)
    replace_json(facts, answer.facts | {"warnings": answer.warnings})
    draw_planes(picture, question, answer.found, answer.rows)
    return [cube, chgcar, table, facts, picture]
