"""A picture of three planes of a map."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from densityjax.attribution.question import Question
from densityjax.attribution.result import Attribution
from densityjax.density.density import symbol
from densityjax.report.style import GREY, INK, STYLE
from densityjax.report.text import formula_text
from densityjax.runtime.files import replaced

_NEAR = 0.4  # Å from a plane, within which atoms are drawn
_AXES = "abc"


def draw_planes(
    path: Path, question: Question, found: Attribution, rows: list[dict[str, Any]]
) -> None:
    """Three planes of the cell through the atom with the largest share, as a PNG.

    Each is spanned by two of the cell's vectors and drawn undistorted; colours are symmetric about
    0 and cut at the 99.5th percentile of what the planes show.

    Args:
        rows: see `tables.atom_rows`.
    """
    record = question.material.record
    largest = max(range(len(rows)), key=lambda row: abs(rows[row]["share"]))
    centre = np.asarray(record["positions"][largest], np.float64)
    lattice = np.asarray(record["lattice"], np.float64)
    voxel = abs(np.linalg.det(lattice)) / found.values.size  # Å^3
    per_volume = found.values / voxel if found.method != "grad_cam" else found.values
    cuts = [np.take(per_volume, _plane(centre, axis, per_volume), axis) for axis in range(3)]
    limit = max(float(np.percentile(np.abs(np.concatenate(cuts)), 99.5)), 1e-30)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(10.5, 3.9))
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 3)
        for axis, (axes, cut) in enumerate(zip(panels, cuts, strict=True)):
            mesh = _draw(axes, cut, lattice, axis, limit)
            _draw_atoms(axes, record, lattice, axis, centre[axis])
        unit = "of the largest" if found.method == "grad_cam" else f"{question.unit} per Å³".strip()
        figure.colorbar(mesh, ax=panels, label=unit, shrink=0.8, extend="both")
        name = formula_text(str(record["formula"]))
        figure.suptitle(f"{name}: {question.spec.label}, {found.method.replace('_', ' ')}, planes "
                        f"through {rows[largest]['element']} (atom {largest + 1})", fontsize=10)
        with replaced(path) as partial:
            figure.savefig(partial, format="png", metadata={"Software": None})


def _plane(centre: np.ndarray, axis: int, values: np.ndarray) -> int:
    return int(np.rint(centre[axis] * values.shape[axis])) % values.shape[axis]


def _in_plane(lattice: np.ndarray, axis: int) -> tuple[list[int], np.ndarray]:
    """The other two axes, and their vectors [2, 2] Å in a frame of the plane."""
    pair = [other for other in range(3) if other != axis]
    first, second = lattice[pair]
    along = first / np.linalg.norm(first)
    across = second - along * (along @ second)
    across /= np.linalg.norm(across)
    return pair, np.array([[first @ along, 0.0], [second @ along, second @ across]])


def _draw(axes: Axes, cut: np.ndarray, lattice: np.ndarray, axis: int, limit: float) -> Any:
    pair, vectors = _in_plane(lattice, axis)
    steps = [np.arange(-1, size) + 0.5 for size in cut.shape]  # edges about the points
    u, v = np.meshgrid(*(s / n for s, n in zip(steps, cut.shape)), indexing="ij")
    x, y = (u * vectors[0, i] + v * vectors[1, i] for i in range(2))  # Å
    mesh = axes.pcolormesh(x, y, cut, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
    axes.set_aspect("equal")
    axes.set_title(f"plane of {_AXES[pair[0]]} and {_AXES[pair[1]]}", fontweight="normal")
    axes.set_xlabel("Å")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(color=GREY)
    return mesh


def _draw_atoms(
    axes: Axes, record: Any, lattice: np.ndarray, axis: int, level: float
) -> None:
    """Atoms within `_NEAR` of the plane, with their images on the cell's edges."""
    pair, vectors = _in_plane(lattice, axis)
    height = 1 / np.linalg.norm(np.linalg.inv(lattice)[:, axis])  # Å between faces
    for number, place in zip(record["species"], record["positions"]):
        away = (float(place[axis]) - level + 0.5) % 1.0 - 0.5
        if abs(away) * height > _NEAR:
            continue
        for i in (0, 1):
            for j in (0, 1):
                where = np.array([place[pair[0]] % 1 + i, place[pair[1]] % 1 + j])
                if (where < 1.02).all():
                    x, y = where @ vectors
                    axes.plot(x, y, "o", ms=11, mfc="#ffffffb0", mec=INK, mew=1.0,
                              clip_on=False)
                    axes.annotate(symbol(int(number)), (x, y), ha="center", va="center",
                                  fontsize=6.5, color=INK)
