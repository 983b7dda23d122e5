"""Golden predictions of the model that ships: `python -m tests.prediction.golden` makes them anew.

To be done when the shipped model changes, and then only: they show that nothing else does.
"""

import json
import tarfile
import tempfile
from pathlib import Path

from densityjax.prediction.materials import read_material
from densityjax.prediction.model import Model, open_model
from densityjax.prediction.pretrained import DEFAULT, find_model
from densityjax.prediction.rows import Row

ARCHIVE = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
FILE = Path(__file__).parent / "golden.json"
COUNT = 3


def golden_files(folder: Path) -> list[Path]:
    """Three of the densities that ship, written to a folder."""
    with tarfile.open(ARCHIVE) as archive:
        names = sorted(name for name in archive.getnames() if "CHGCAR" in name)
        chosen = names[:: len(names) // COUNT][:COUNT]
        for name in chosen:
            (folder / Path(name).name).write_bytes(archive.extractfile(name).read())
    return [folder / Path(name).name for name in chosen]


def golden_rows(model: Model, folder: Path) -> list[list[Row]]:
    """What a model says of them."""
    files = golden_files(folder)
    return model.rows([read_material(file, model.grid) for file in files])


def main() -> None:
    """Writes golden.json."""
    with tempfile.TemporaryDirectory() as folder:
        found = golden_rows(open_model(find_model(DEFAULT)), Path(folder))
    kept = ("formula", "target", "prediction", "lower", "upper")
    content = [[{key: row[key] for key in kept} for row in rows] for rows in found]
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
