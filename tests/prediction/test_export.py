"""An exported run predicts as the run does, and every file of it is verified."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from densityjax import export
from densityjax.prediction.materials import Material, read_material
from densityjax.prediction.model import open_model
from densityjax.prediction.tables import CsvTable, JsonTable, PlainTable
from densityjax.results.manifest import ModelFolderError, read_manifest
from densityjax.runtime.errors import UserError

SHIPPED = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"


@pytest.fixture(scope="module")
def exported(smoke_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "small"
    assert export.main([f"--workdir={smoke_run}", f"--out={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    with tarfile.open(SHIPPED) as archive:
        names = [name for name in archive.getnames() if "CHGCAR" in name][:2]
        for name in names:
            (folder / Path(name).name).write_bytes(archive.extractfile(name).read())
    return sorted(folder.iterdir())


def materials(files: list[Path], grid: int) -> list[Material]:
    return [read_material(file, grid) for file in files]


def csv_of(folder: Path, files: list[Path]) -> str:
    model = open_model(folder)
    with io.StringIO() as text:
        table = CsvTable(text, (0.9,))
        for rows in model.rows(materials(files, model.grid)):
            table.add(rows)
        return text.getvalue()


def test_an_exported_run_predicts_as_the_run(smoke_run, exported, files):
    assert csv_of(exported, files) == csv_of(smoke_run, files)
    assert not list(exported.rglob("*.pkl"))
    assert not (exported / "checkpoints").exists()
    card = (exported / "README.md").read_text()
    assert "bulk_modulus" in card
    assert "GPAW" in card
    assert str(smoke_run.parent) not in (exported / "config.json").read_text()
    assert json.loads((exported / "model.json").read_text())["name"] == "small"


def test_half_changes_the_fourth_digit(smoke_run, files, tmp_path):
    export.main([f"--workdir={smoke_run}", f"--out={tmp_path / 'half'}", "--half"])
    whole, half = open_model(smoke_run), open_model(tmp_path / "half")
    size = {
        name: (tmp_path / name / "network.safetensors").stat().st_size for name in ("half",)
    }["half"]
    assert size < 0.6 * 4 * sum(
        np.size(leaf) for leaf in _leaves(whole.members[0][0].state.ema_params)
    )
    made = materials(files, whole.grid)
    for a, b in zip(whole.rows(made), half.rows(made), strict=True):
        for one, other in zip(a, b, strict=True):
            value, again = (row.get("probability", row["prediction"]) for row in (one, other))
            assert again == pytest.approx(value, rel=5e-3, abs=5e-3)


def _leaves(tree) -> list:
    return [leaf for value in tree.values() for leaf in (
        _leaves(value) if isinstance(value, dict) else [value]
    )]


@pytest.mark.parametrize("name", ["config.json", "network.safetensors", "statistics.json"])
def test_a_changed_or_missing_file_is_named(exported, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b" ")
    with pytest.raises(ModelFolderError, match=f"{name} is not the file that was exported"):
        open_model(folder)
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=f"{name} is missing"):
        open_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2; this densityjax reads 1"),
        ({"files": {"../x": {"sha256": "0"}}}, "is not in the folder"),
        ({"files": ["x"]}, "is damaged"),
        ({"files": {"x": {}}}, "is damaged"),
    ],
)
def test_a_strange_manifest_is_refused(tmp_path, change, message):
    content = {"format": 1, "files": {}} | change
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match=message):
        read_manifest(tmp_path)


def test_nothing_is_overwritten(smoke_run, exported, tmp_path):
    before = (exported / "model.json").read_bytes()
    with pytest.raises(UserError, match="is there: remove it"):
        export.main([f"--workdir={smoke_run}", f"--out={exported}"])
    assert (exported / "model.json").read_bytes() == before
    with pytest.raises(UserError, match="there is no folder"):
        export.main([f"--workdir={smoke_run}", f"--out={tmp_path / 'no' / 'model'}"])
    with pytest.raises(UserError, match="not the directory of a finished run"):
        export.main([f"--workdir={tmp_path}", f"--out={tmp_path / 'model'}"])
    assert not list(tmp_path.iterdir())


def test_tables_for_people_and_programs(exported, files):
    """The same rows: aligned with four digits, and as JSON with all of them."""
    model = open_model(exported)
    rows = model.rows(materials(files[:1], model.grid))[0]
    with io.StringIO() as text:
        table = JsonTable(text)
        table.add(rows)
        table.add([{"file": "no", "warnings": ["error: no such file"]}])
        table.end()
        first, failed = json.loads(text.getvalue())
    assert first["formula"] == rows[0]["formula"]
    assert [p["prediction"] for p in first["predictions"]] == [row["prediction"] for row in rows]
    assert (failed["error"], failed["predictions"]) == ("no such file", [])
    last = rows[-1]["warnings"]
    rows[-1]["warnings"] = [*last, "of one target alone"]  # as another group's model may say
    with io.StringIO() as text:
        table = JsonTable(text)
        table.add(rows)
        table.end()
        assert json.loads(text.getvalue())[0]["warnings"] == [*last, "of one target alone"]
    with io.StringIO() as text:
        PlainTable(text, (0.9,)).add(rows)
        lines = text.getvalue().splitlines()
    assert "  warning: of one target alone" in lines
    start = lines[1].index("value")
    for line, row in zip(lines[2:], rows):
        assert line.split()[0] == row["target"]
        if "probability" not in row:
            assert float(line[start:].split()[0]) == pytest.approx(row["prediction"], rel=1e-3)
