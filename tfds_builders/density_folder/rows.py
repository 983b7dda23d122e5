"""A row of labels.csv that has a density file."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of labels.csv with a density file.

    Attributes:
        index: place in labels.csv, from 0.
        file: as people know it: relative to the folder, where it lies there.
        path: where it lies.
        fold: as the column says, None without one.
    """

    index: int
    material_id: str
    file: str
    path: str
    fold: int | None

    @property
    def line(self) -> int:
        """Line of labels.csv, as an editor counts rows without line breaks in cells."""
        return self.index + 2
