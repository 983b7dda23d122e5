"""Looks at density files: `python -m densityjax.inspect FILE...` says what they hold."""

import argparse
import glob
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.density.density import Density, DensityFormatError
from densityjax.density.grid import negative_fraction
from densityjax.density.plausibility import moment_of, warnings_of
from densityjax.density.reader import find_files, read_density
from densityjax.runtime.command_line import run

KEYS = ("file", "formula", "grid", "volume", "num_electrons", "magnetization", "min", "max",
        "warnings", "error")


def facts(density: Density) -> dict[str, Any]:
    """What `--json` prints of a file, see KEYS: Å^3, μB, and min and max in e/Å^3."""
    return {
        "file": density.source,
        "formula": density.formula,
        "grid": list(density.values.shape),
        "volume": density.volume,
        "num_electrons": density.num_electrons,
        "magnetization": None if density.magnetization is None else moment_of(density),
        "min": float(density.values.min()),
        "max": float(density.values.max()),
        "warnings": [*density.notes, *warnings_of(density)],
        "error": None,
    }


def failure(path: str, message: str) -> dict[str, Any]:
    """The same of a file that cannot be read."""
    return dict.fromkeys(KEYS) | {"file": path, "warnings": [], "error": message}


def describe(density: Density, found: dict[str, Any]) -> str:
    """Lines about one file."""
    a, b, c = lengths = np.linalg.norm(density.lattice, axis=1)  # Å
    cosines = (density.lattice @ density.lattice.T) / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos(np.clip(cosines[[1, 0, 0], [2, 2, 1]], -1, 1)))
    spacing = lengths / density.values.shape
    lines = [
        f"{density.source}: {density.formula}",
        f"  atoms      {len(density.species)}",
        f"  cell       {a:.4f} x {b:.4f} x {c:.4f} Å, "
        f"{' '.join(f'{angle:.2f}' for angle in angles)}°, {found['volume']:.4f} Å³",
        f"  grid       {' x '.join(map(str, found['grid']))}, "
        f"every {' x '.join(f'{step:.3f}' for step in spacing)} Å",
        f"  electrons  {found['num_electrons']:.6f}",
        f"  density    {found['min']:.6g} to {found['max']:.6g} e/Å³, "
        f"{100 * negative_fraction(density.values):.3g} % of it below zero",
    ]
    if found["magnetization"] is not None:
        low, high = density.magnetization.min(), density.magnetization.max()
        lines.append(
            f"  moment     {found['magnetization']:.6f} μB, {low:.6g} to {high:.6g} μB/Å³"
        )
    lines += [f"  warning: {warning}" for warning in found["warnings"]]
    return "\n".join(lines)


def draw(density: Density, path: Path) -> None:
    """Draws the planes through the middle of the cell, magnetisation below, in their true shape."""
    from matplotlib.colors import CenteredNorm, LogNorm
    from matplotlib.figure import Figure

    fields = [("e/Å³", density.values)]
    if density.magnetization is not None:
        fields.append(("μB/Å³", density.magnetization))
    figure = Figure(figsize=(12, 3.8 * len(fields)), layout="constrained")
    axes = figure.subplots(len(fields), 3, squeeze=False)
    for row, (unit, field) in zip(axes, fields):
        planes = [field.take(field.shape[axis] // 2, axis) for axis in range(3)]  # each [n, m]
        highest = max(abs(plane).max() for plane in planes) or 1
        norm = LogNorm(1e-4 * highest, highest) if unit == "e/Å³" else CenteredNorm(0, highest)
        for normal, (axis, plane) in enumerate(zip(row, planes)):
            first, second = (i for i in range(3) if i != normal)
            x, y = _corners(density.lattice[first], density.lattice[second], plane.shape)
            shown = np.maximum(plane, norm.vmin) if unit == "e/Å³" else plane
            cmap = "viridis" if unit == "e/Å³" else "RdBu_r"
            image = axis.pcolormesh(x, y, shown, norm=norm, cmap=cmap, rasterized=True)
            axis.set(
                aspect="equal", xlabel=f"{'abc'[first]} (Å)",
                title=f"{'abc'[first]}, {'abc'[second]} at {'abc'[normal]} / 2",
            )
        figure.colorbar(image, ax=row, label=unit)
    figure.suptitle(f"{density.formula}  {Path(density.source).name}")
    figure.savefig(path, dpi=100)


def _corners(
    first: np.ndarray, second: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Plane coordinates x, y [n + 1, m + 1] Å of the voxels' corners, x along `first`."""
    u, v = (np.arange(n + 1) / n - 0.5 / n for n in shape)
    length = np.linalg.norm(first)
    along = first @ second / length
    across = np.sqrt(max(second @ second - along**2, 0))
    return u[:, None] * length + v * along, np.broadcast_to(v * across, (len(u), len(v)))


def expand(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Files of the arguments, each with '' or what is wrong with the argument.

    A folder stands for its density files by name, a pattern for what it matches.
    """
    paths = []
    for argument in arguments:
        if os.path.isdir(argument):  # unlike Path's it takes any name
            problem = f"{argument}: the folder has no file with the name of a density"
            try:
                found = [str(path) for path in find_files(argument)]
            except OSError as error:
                found, problem = [], f"{argument}: cannot be opened ({error.strerror})"
        else:
            pattern = not os.path.exists(argument) and glob.has_magic(argument)
            found = sorted(glob.glob(argument, recursive=True)) if pattern else [argument]
            problem = f"{argument}: no file matches"
        paths += [(path, "") for path in found] or [(argument, problem)]
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m densityjax.inspect",
        description="Says what density files hold, and what looks wrong.",
        epilog="Exit status: 0 all were read, 1 some could not be read (each is told).",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="VASP densities, Materials Project JSON, cube or XSF, plain or compressed; a folder "
        "stands for its density files, 'a/*/CHGCAR' for what it matches",
    )
    parser.add_argument("--json", action="store_true", help="print a list with an object per file")
    parser.add_argument("--png", action="store_true", help="draw the three mid-planes of each file")
    parser.add_argument(
        "--png_dir", type=Path, default=Path(), help="where to (default: the current directory)"
    )
    options = parser.parse_args(arguments)
    table, drawn = [], set()
    for path, problem in expand(options.files):
        try:
            if problem:
                raise DensityFormatError(problem)
            density = read_density(path)
        except DensityFormatError as error:
            table.append(failure(path, str(error)))
            print(f"error: {error}", file=sys.stderr)
            continue
        table.append(facts(density))
        if not options.json:
            print(describe(density, table[-1]), flush=True)
        if options.png:
            name = Path(path).name
            if name in drawn:
                name = "_".join(Path(path).parts).strip("/_")
            drawn.add(name)
            image = options.png_dir / f"{name}.png"
            try:
                image.parent.mkdir(parents=True, exist_ok=True)
                draw(density, image)
            except OSError as error:
                print(f"error: {image} cannot be written: {error.strerror}", file=sys.stderr)
                return 2
    if options.json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
    failed = sum(row["error"] is not None for row in table)
    if failed:
        print(f"error: {failed} of {len(table)} files could not be read", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
