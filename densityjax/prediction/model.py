"""A trained model as its users have it: it is opened, and asked."""

import dataclasses
import functools
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densityjax.prediction.answers import answers, compile_networks, needs_of
from densityjax.prediction.materials import Material, Needs, expand_folders
from densityjax.prediction.objects import is_pair, material_of, name_of
from densityjax.prediction.rows import Elsewhere, Row, make_rows, unreadable
from densityjax.results.calibration import Calibration, read_calibration
from densityjax.results.manifest import read_manifest
from densityjax.results.pretrained import find_model
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import compile_cache
from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec
from densityjax.training.trained_model import TrainedModel, restore_members

if TYPE_CHECKING:
    import pandas as pd

_LARGE_BATCH = 64  # materials, beyond which no time is gained


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """What predicts materials: `model.predict(x)`; `densityjax.load` opens one.

    Attributes:
        path: the folder that it was opened from.
        members: see `answers.answers`.
        calibration: what intervals are made from; None where there is none.
    """

    path: Path
    members: tuple[tuple[TrainedModel, ...], ...]
    calibration: Calibration | None = None

    @property
    def specs(self) -> tuple[TargetSpec, ...]:
        """The targets, in the order of the rows."""
        return tuple(spec for model in self.members[0] for spec in model.specs)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in the order of the rows."""
        return tuple(spec.name for spec in self.specs)

    @property
    def grid(self) -> int:
        """Voxels along each axis of what it sees of a density."""
        return self.members[0][0].applicability.grid

    @property
    def batch_size(self) -> int:
        """Materials that are asked at a time."""
        return self.members[0][0].config.train.batch_size

    @property
    def large_batch_size(self) -> int:
        """Materials that are asked at a time where there are many.

        As many as take no more memory than a step of the training on a whole batch, which keeps
        what all layers make of it for its backward pass. A training that took less, in
        config.train.accumulation_steps or with config.model.remat, does not bound it.
        """
        return max(self.batch_size, min(4 * self.batch_size, _LARGE_BATCH))

    def compile(self, batch_size: int) -> None:
        """Compiles the networks for so many materials at a time, before there are any."""
        compile_networks(self.members, batch_size)

    def check_coverages(self, coverages: Sequence[float]) -> None:
        """Raises UserError for a coverage that the calibration does not support."""
        if self.calibration is not None:
            self.calibration.check_coverages(coverages)

    def rows(
        self, materials: Sequence[Material], coverages: Sequence[float] = (0.9,),
        batch_size: int = 0, anyway: bool = False,
    ) -> list[list[Row]]:
        """Rows of each material, a row per target, see `rows.make_rows`.

        Args:
            materials: on the grid of the model.
            coverages: of the intervals.
            batch_size: so many at a time; 0 for all. Calls with the same share one compilation.
            anyway: predict materials whose electrons are of other potentials, too.
        """
        if not materials:
            return []
        said = answers(self.members, materials, batch_size)
        elsewhere = [self.elsewhere(material, anyway) for material in materials]
        return make_rows(said, materials, self.calibration, coverages, elsewhere)

    @functools.cached_property
    def needs(self) -> Needs:
        """What it sees of a density, see `materials.prepare`."""
        return needs_of(self.members)

    def elsewhere(self, material: Material, anyway: bool = False) -> Elsewhere:
        """Whether a density is of another make than those of the training, and what follows.

        Another code with the same electrons is predicted: what codes differ in is what models with
        config.input.core='charge' do not see (docs/results/core).
        """
        known = self.members[0][0].applicability
        electrons = known.other_electrons(material.record)
        text = "; ".join([*electrons, *known.other_code(material.code)])
        return Elsewhere(text, bool(electrons) and not anyway)

    def predict(
        self, x: Any, coverage: float | Sequence[float] = 0.9, anyway: bool = False
    ) -> "pd.DataFrame":
        """Predicts every target of one density or of many.

        Args:
            x: one of

              * the path of a density file, see `density.reader.read_density`; a folder stands for
                its density files;
              * a pymatgen `Chgcar` (data 'total' [X, Y, Z] is rho * V_cell in electrons, 'diff' or
                'diff_x', 'diff_y', 'diff_z' the same of the magnetisation);
              * another pymatgen `VolumetricData`, as of `from_cube`: it states no unit, its
                electrons must tell it;
              * a pair (ASE `Atoms`, array): [X, Y, Z] e/Å^3, or [X, Y, Z, 2] with the
                magnetisation in μB/Å^3, spin up minus spin down;
              * a `densityjax.density.density.Density`;
              * a list, or an iterator, of these.

              Voxel (i, j, k) of an array is the point (i/X, j/Y, k/Z) of the cell.
            coverage: how often intervals hold the truth, between 0 and 1, or several.
            anyway: predict, too, what has other valence electrons than the training densities; else
              the predictions of such a density are NaN, and its warnings say why.

        Returns:
            A row per density and target, with the columns

              * file: the path, or the kind of object and, in a list, its place: 'Chgcar [3]';
              * formula: reduced;
              * target: see `densityjax.targets`;
              * prediction: in the target's unit; the name of a class for classes;
              * unit: 'class' for classes, '' for pure numbers;
              * lower, upper: of the interval, in the same unit ('lower_0.8' and so on with several
                coverages), NaN where there is none; set: the classes that are possible, a tuple;
              * spread: standard deviation over views and members (of the class's probability);
              * probability: of the class;
              * warnings: where the density leaves what the model was trained on, and what had to
                be assumed of it, joined by '; '.

            In a list (or folder) what cannot be read gets one row, whose warnings begin with
            'error: '; its other columns are empty. An array does not say which code it is from;
            its warnings say so.

        Raises:
            UserError: x is one density and it cannot be read, or a coverage cannot be had.
        """
        # A third of a second, which the command line does not pay.
        from densityjax.prediction.frame import frame_of

        coverages = _coverages(coverage)
        self.check_coverages(coverages)
        items, alone = _items(x)
        rows = []
        while batch := list(itertools.islice(items, self.batch_size)):
            found = [
                material_of(item, self.grid, name) if reason is None else reason
                for name, item, reason in batch
            ]
            if alone and isinstance(found[0], str):
                raise UserError(found[0])
            readable = [material for material in found if isinstance(material, Material)]
            predicted = iter(self.rows(
                readable, coverages, self._compiled_size(len(readable)), anyway
            ))
            for (name, *_), material in zip(batch, found, strict=True):
                rows += [unreadable(name, material)] if isinstance(material, str) else next(
                    predicted)
        return frame_of(rows, coverages)

    def _compiled_size(self, count: int) -> int:
        """Rows that a program is compiled for: of few sizes, so that calls share programs."""
        return min(self.batch_size, 1 << max(count - 1, 0).bit_length())

    def __repr__(self) -> str:
        members = f"{len(self.members)} members, " if len(self.members) > 1 else ""
        intervals = "intervals" if self.calibration is not None else "no intervals (not calibrated)"
        return (f"<densityjax model {self.path}: {members}{intervals}, "
                f"{len(self.specs)} targets: {', '.join(self.targets)}>")


def _coverages(coverage: float | Sequence[float]) -> tuple[float, ...]:
    """Each once, as numbers."""
    given = coverage if isinstance(coverage, list | tuple) else [coverage]
    try:
        found = tuple(dict.fromkeys(float(one) for one in given))
    except (TypeError, ValueError) as error:
        raise UserError(f"coverage={coverage!r}: expected a number, or several") from error
    if not found or not all(0 < one < 1 for one in found):
        raise UserError(f"coverage={coverage!r}: each must be between 0 and 1, as 0.9")
    return found


def _items(x: Any) -> tuple[Iterator[tuple[str, Any, str | None]], bool]:
    """(name, what it names, what is wrong with it) of each density, and whether it is one alone.

    Raises:
        UserError: a folder has no density files.
    """
    if isinstance(x, str | os.PathLike) and os.path.isdir(x):
        paths = expand_folders([os.fsdecode(x)])
        return ((str(path), path, None) for path in paths), False
    if isinstance(x, list | Iterator) or (isinstance(x, tuple) and not is_pair(x)):
        return _of_many(x), False
    return iter([(name_of(x), x, None)]), True


def _of_many(items: Any) -> Iterator[tuple[str, Any, str | None]]:
    for place, item in enumerate(items):
        if isinstance(item, str | os.PathLike) and os.path.isdir(item):
            try:
                yield from _items(item)[0]
            except UserError as error:
                yield name_of(item), item, str(error)
        else:
            yield name_of(item, place), item, None


def load_model(name: str | os.PathLike) -> Model:
    """The model that `densityjax.load` gives: of a name, see `pretrained.find_model`.

    Raises:
        UserError: there is none of this name, or a file of it is damaged.
    """
    compile_cache.enable()
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)  # Orbax warns of every restore
    try:
        return open_model(find_model(name))
    finally:
        log.setLevel(level)


def open_model(path: str | Path, quick: bool = False) -> Model:
    """The model that a finished run left, or that was exported from one.

    Args:
        quick: to predict few materials, see `PredictMembers`.

    Raises:
        UserError: it is neither, or a file of it is damaged.
    """
    folder = Path(path)
    if RunDirectory(folder).manifest.exists():
        read_manifest(folder)
    return Model(folder, restore_members(folder, quick), read_calibration(RunDirectory(folder)))
