"""A material with a density file: a row of labels.csv, or a file that no row names."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """A material with a density file.

    Attributes:
        index: place in labels.csv, from 0; files that no row names come after its rows.
        file: as people know it: relative to the folder, where it lies there.
        path: where it lies.
        fold: as the column says, None without one.
        listed: whether labels.csv names it.
    """

    index: int
    material_id: str
    file: str
    path: str
    fold: int | None
    listed: bool = True

    @property
    def line(self) -> int | None:
        """Line of labels.csv, as an editor counts rows without line breaks in cells."""
        return self.index + 2 if self.listed else None
