"""A trained model as its users have it: it is opened, and asked."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from densityjax.prediction.answers import answers
from densityjax.prediction.materials import Material
from densityjax.prediction.rows import Row, make_rows
from densityjax.results.calibration import Calibration, read_calibration
from densityjax.results.manifest import read_manifest
from densityjax.results.run_directory import RunDirectory
from densityjax.targets import TargetSpec
from densityjax.training.trained_model import TrainedModel, restore_members


@dataclasses.dataclass(frozen=True)
class Model:
    """What predicts materials.

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
    def grid(self) -> int:
        """Voxels along each axis of what it sees of a density."""
        return self.members[0][0].applicability.grid

    @property
    def batch_size(self) -> int:
        """Materials that are asked at a time."""
        return self.members[0][0].config.train.batch_size

    def check_coverages(self, coverages: Sequence[float]) -> None:
        """Raises UserError for a coverage that the calibration does not support."""
        if self.calibration is not None:
            self.calibration.check_coverages(coverages)

    def rows(
        self, materials: Sequence[Material], coverages: Sequence[float] = (0.9,),
        batch_size: int = 0,
    ) -> list[list[Row]]:
        """Rows of each material, a row per target, see `rows.make_rows`.

        Args:
            materials: on the grid of the model.
            coverages: of the intervals.
            batch_size: so many at a time; 0 for all. Calls with the same share one compilation.
        """
        if not materials:
            return []
        said = answers(self.members, materials, batch_size)
        return make_rows(said, materials, self.calibration, coverages)


def open_model(path: str | Path, quick: bool = False) -> Model:
    """The model that a finished run left, or that was exported from one.

    Args:
        quick: to predict few materials, see `parallel.mapped_predict_step`.

    Raises:
        UserError: it is neither, or a file of it is damaged.
    """
    folder = Path(path)
    if RunDirectory(folder).manifest.exists():
        read_manifest(folder)
    return Model(folder, restore_members(folder, quick), read_calibration(RunDirectory(folder)))
