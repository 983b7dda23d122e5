import csv
import dataclasses
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from densityjax import predict
from densityjax.density.core import seen_record
from densityjax.density.reader import Density, read_density
from densityjax.prediction import materials, reading
from densityjax.prediction.answers import answers, predict_materials
from densityjax.prediction.materials import make_material
from densityjax.prediction.model import Model, open_model
from densityjax.prediction.predict_files import predict_files
from densityjax.prediction.tables import CsvTable
from densityjax.results.predictions import Predictions
from densityjax.runtime import command_line
from densityjax.runtime.errors import UserError
from densityjax.step import parallel
from densityjax.step.create_task import create_task, field_size
from densityjax.step.members import PredictMembers, members_program
from densityjax.step.train_state import create_train_state
from densityjax.training.trained_model import TrainedModel, restore_run
from tests.tfds_builders.test_folder_tables import silicon

SHIPPED = Path(__file__).parents[1] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"


@pytest.fixture(scope="module")
def restored(smoke_run) -> TrainedModel:
    return restore_run(smoke_run)


@pytest.fixture(scope="module")
def labels() -> dict[str, dict[str, str]]:
    with tarfile.open(SHIPPED) as archive:
        rows = csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines())
        return {row["material_id"]: row for row in rows}


@pytest.fixture(scope="module")
def folder(labels, tmp_path_factory) -> Path:
    """Five files of the test fold 0 and of the training fold 2, one computed with spin in each."""
    path = tmp_path_factory.mktemp("densities")
    with tarfile.open(SHIPPED) as archive:
        for fold in "02":
            rows = [row for row in labels.values() if row["fold"] == fold]
            rows.sort(key=lambda row: float(row["magnetic_moment"]) > 0.5)
            for row in [*rows[:4], rows[-1]]:
                (path / fold).mkdir(exist_ok=True)
                (path / fold / Path(row["file"]).name).write_bytes(
                    archive.extractfile(row["file"]).read()
                )
    return path


def predict_densities(
    model: TrainedModel, densities: list[Density]
) -> tuple[Predictions, list[list[str]]]:
    grid = model.applicability.grid
    return predict_materials(model, [make_material(density, grid) for density in densities])


def untrained_spin_model(restored: TrainedModel) -> TrainedModel:
    """The same, with two channels and random parameters."""
    config = restored.config.copy_and_resolve_references()
    config.input.channels = 2
    statistics = dataclasses.replace(
        restored.statistics,
        field_mean=np.array([-2.0, 0.5, 0.0]),
        field_std=np.array([1.0, 1.0, 0.1]),
    )
    task = create_task(config, restored.specs, num_steps=1)
    size = field_size(config, restored.applicability.grid)
    state = create_train_state(task.model, task.tx, statistics.arrays(), 0, size)
    return dataclasses.replace(
        restored, config=config, statistics=statistics, state=parallel.replicate(state),
        program=members_program(task, num_views=2),
    )


def csv_of(model: TrainedModel | Model, paths: list[Path]) -> tuple[int, list[dict[str, str]]]:
    """How many files could not be read, and the rows of their table."""
    whole = model if isinstance(model, Model) else Model(Path("run"), ((model,),))
    with io.StringIO() as file:
        failed = predict_files(whole, paths, CsvTable(file, (0.9,)))
        return failed, list(csv.DictReader(io.StringIO(file.getvalue())))


def read_table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def number(row: dict[str, str]) -> float:
    """Prediction of a property, or probability of a class."""
    return float(row["probability"] or row["prediction"])


def test_source_files_give_the_predictions_of_the_run(smoke_run, folder, tmp_path):
    out = tmp_path / "out.csv"
    status = predict.main([f"--workdir={smoke_run}", f"--out={out}", str(folder / "0")])
    assert status == 0
    lines = out.read_text().splitlines()
    assert lines[0].startswith("file,formula,target,prediction,unit,warnings")
    truth = {(r["id"], r["target"]): r for r in read_table(smoke_run / "predictions.csv")}
    rows = read_table(out)
    assert len(rows) == 5 * len({target for _, target in truth})
    for row in rows:
        expected = truth[Path(row["file"]).name.split(".")[0], row["target"]]
        assert row["formula"] == expected["formula"]
        if row["probability"]:
            assert row["prediction"] == expected["prediction"]
            expected["prediction"] = max(expected["probabilities"].split(";"))
        assert number(row) == pytest.approx(float(expected["prediction"]), rel=1e-4)
        assert float(row["spread"]) == pytest.approx(float(expected["spread"]), rel=1e-2)
        assert all(w.startswith("unlike") for w in row["warnings"].split("; ") if w)


def test_files_are_seen_as_the_records_of_the_run_were(restored, folder):
    material = make_material(read_density(next((folder / "2").iterdir())), 24)
    seen = dataclasses.replace(material, record=seen_record(material.record, "charge"))
    config = restored.config.copy_and_resolve_references()
    config.input.core = "charge"
    charge = dataclasses.replace(restored, config=config)
    expected, plain = (predict_materials(restored, [own])[0].values for own in (seen, material))
    found = predict_materials(charge, [material])[0].values
    (whole,) = (a for a in answers([[charge]], [material]) if a.spec.name == "bulk_modulus")
    assert whole.values == expected["bulk_modulus"] != plain["bulk_modulus"]
    for target, values in expected.items():
        np.testing.assert_array_equal(found[target], values)


def test_training_materials_give_no_warning(restored, folder):
    densities = [read_density(path) for path in sorted((folder / "2").iterdir())]
    predictions, warnings = predict_densities(restored, densities)
    assert densities[0].formula == "Hf2S"  # whose cell is among the 1 % longest
    (cell,) = warnings[0]
    assert cell.startswith("cell too large for the stored grid")
    assert warnings[1:] == [[]] * 4
    # The embedding of a training material is the saved one.
    distances = restored.applicability.distances(predictions.embedding)
    assert distances.max() < 0.05 * restored.applicability.max_distance


def test_unreadable_file_is_reported_and_the_rest_predicted(smoke_run, folder, tmp_path, capsys):
    good = sorted((folder / "0").iterdir())[:2]
    cut, missing = tmp_path / "cut.CHGCAR.xz", tmp_path / "missing"
    cut.write_bytes(good[0].read_bytes()[:-100])
    out = tmp_path / "out.csv"
    files = [str(path) for path in (good[0], cut, good[1], missing)]
    assert predict.main([f"--workdir={smoke_run}", f"--out={out}", *files]) == 1
    assert "2 of 4 files could not be read" in capsys.readouterr().err
    rows = read_table(out)
    assert list(dict.fromkeys(row["file"] for row in rows)) == files
    for path in (cut, missing):
        (row,) = [row for row in rows if row["file"] == str(path)]
        assert row["warnings"].startswith(f"error: {path}: ")
        assert not row["prediction"] + row["formula"] + row["target"]
    assert all(np.isfinite(number(row)) for row in rows if row["file"] in map(str, good))


def test_only_unreadable_files(restored, tmp_path):
    failed, rows = csv_of(restored, [tmp_path / "no"])
    assert failed == len(rows) == 1


def test_batches_do_not_change_predictions(restored, folder):
    """More files than a batch, the last batch padded: same numbers, one compilation."""
    paths = sorted((folder / "0").iterdir())
    config = restored.config.copy_and_resolve_references()
    config.train.batch_size = 2
    compiled = []
    task = create_task(config, restored.specs, 1)

    class Spy(PredictMembers):
        def __call__(self, members, batch):
            compiled.append({k: v.shape for k, v in batch.items()})
            return super().__call__(members, batch)

    spy = Spy(task, config.view.evaluation_views, quick=False, at_once=False)
    spied = dataclasses.replace(restored, config=config, program=spy)
    small, large = (csv_of(model, paths)[1] for model in (spied, restored))
    assert len(compiled) == 3
    assert all(shapes == compiled[0] for shapes in compiled)
    for a, b in zip(small, large, strict=True):
        assert (a["file"], a["target"]) == (b["file"], b["target"])
        assert number(a) == pytest.approx(number(b), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=nowhere", "x"], "nowhere is not the directory of a finished run"),
        (["--workdir={run}", "{empty}"], "no file with the name of a density"),
        (["--workdir={run}", "--out={empty}/no/out.csv", "x"], "cannot be written"),
        (["--workdir={started}", "x"], "has no checkpoint"),
        (["--workdir={untrained}", "x"], "has no checkpoints/best"),
    ],
)
def test_one_line_when_nothing_can_be_done(smoke_run, tmp_path, capsys, arguments, message):
    places = {"run": smoke_run, "empty": tmp_path / "empty", "started": tmp_path / "started",
              "untrained": tmp_path / "untrained"}
    places["empty"].mkdir()
    places["untrained"].mkdir()
    (places["started"] / "checkpoints/best").mkdir(parents=True)
    for name in ("config.json", "targets.json", "statistics.json", "applicability.npz"):
        for folder in ("started", "untrained"):
            (places[folder] / name).write_bytes((smoke_run / name).read_bytes())
    given = [argument.format(**places) for argument in arguments]
    with pytest.raises(SystemExit) as ended:
        command_line.run(lambda: predict.main(given), failure=2)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["config.json", "statistics.json", "run.json", "targets.json", "applicability.npz"]
)
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"a": ', b"\xff\xfe\x00"])
def test_a_damaged_file_of_the_run_is_named(smoke_run, tmp_path, name, content):
    for path in smoke_run.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content)
    if (name, content) == ("run.json", b"{}"):
        return  # states no groups, which is all that a prediction wants to know
    with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
        predict.main([f"--workdir={tmp_path}", "x"])


def test_cut_archive_is_named(smoke_run, tmp_path):
    for path in smoke_run.iterdir():
        (tmp_path / path.name).symlink_to(path)
    whole = (smoke_run / "applicability.npz").read_bytes()
    (tmp_path / "applicability.npz").unlink()
    for size in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "applicability.npz").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"applicability\.npz is damaged"):
            restore_run(tmp_path)


def test_the_table_takes_no_input_s_place(smoke_run, folder, tmp_path):
    """By its name, another name, a link, as a file of a folder; nor the place of a run's file."""
    file = tmp_path / "a.CHGCAR.xz"
    file.write_bytes(next((folder / "0").iterdir()).read_bytes())
    content = file.read_bytes()
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    for out, given in (
        (file, file), (tmp_path / "no" / ".." / file.name, file), (tmp_path / "link", file),
        (tmp_path / "hard", file), (file, tmp_path), (file, tmp_path / "link"),
        (tmp_path / "absent", tmp_path / "absent"), (smoke_run / "predictions.csv", file),
    ):
        with pytest.raises(UserError, match="is an input"):
            predict.main([f"--workdir={smoke_run}", f"--out={out}", str(given)])
    assert file.read_bytes() == content
    assert not (tmp_path / "absent").exists()


def test_a_table_is_whole_or_not_there(smoke_run, folder, tmp_path, monkeypatch):
    """An error on the way leaves the table that was there, and no rest."""
    out = tmp_path / "out.csv"
    out.write_text("before")

    def fail(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr(reading, "read_material", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        predict.main([f"--workdir={smoke_run}", f"--out={out}", str(folder / "0")])
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


def test_a_pipe_is_written_to_and_stays(smoke_run, tmp_path):
    """A device or pipe is not replaced by a file."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert predict.main([f"--workdir={smoke_run}", f"--out={pipe}", "nowhere"]) == 1
    reader.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert read[0].startswith("file,formula")


def test_what_one_file_costs_is_that_file_s_row(restored, folder, monkeypatch):
    """Too little memory, a name that cannot be one, an I/O error: the others are predicted."""
    good = sorted((folder / "0").iterdir())[0]
    errors = {"big": MemoryError(), "disk": OSError(5, "Input/output error")}

    def read(path):
        if path.name in errors:
            raise errors[path.name]
        return read_density(path)

    monkeypatch.setattr(materials, "read_density", read)
    paths = [Path("big"), Path("disk"), Path("a\0b"), Path("n" * 300), good]
    failed, rows = csv_of(restored, paths)
    assert failed == 4
    reasons = [row["warnings"] for row in rows if row["warnings"].startswith("error: ")]
    parts = ("too little memory", "Input/output", "NUL", "name")
    assert all(part in reason for part, reason in zip(parts, reasons, strict=True))
    assert len([row for row in rows if row["file"] == str(good)]) == len(restored.specs)


def test_help_names_the_exit_status():
    command = [sys.executable, "-m", "densityjax.predict", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Exit status" in result.stdout


def test_density_without_spin_for_a_model_with(restored, folder):
    densities = [read_density(path) for path in sorted((folder / "2").iterdir())]
    spin = [density.magnetization is not None for density in densities]
    assert set(spin) == {True, False}
    model = untrained_spin_model(restored)
    predictions, warnings = predict_densities(model, densities)
    assert [not any("no magnetisation" in w for w in found) for found in warnings] == spin
    # The magnetisation is used where there is one.
    bare = [dataclasses.replace(density, magnetization=None) for density in densities]
    without, _ = predict_densities(model, bare)
    changed = predictions.values["bulk_modulus"] != without.values["bulk_modulus"]
    assert changed.tolist() == spin
    # None is as good as one of zeros.
    zero = [dataclasses.replace(d, magnetization=np.zeros(d.values.shape)) for d in densities]
    same, warnings = predict_densities(model, zero)
    assert not any("no magnetisation" in warning for found in warnings for warning in found)
    for target, values in same.values.items():
        np.testing.assert_array_equal(values, without.values[target])


def test_classes_are_written_by_name(restored, folder):
    failed, rows = csv_of(restored, sorted((folder / "2").iterdir()))
    assert failed == 0
    classes = [row for row in rows if row["target"] == "is_metal"]
    assert {row["unit"] for row in classes} == {"class"}
    assert {row["prediction"] for row in classes} <= {"metal", "insulator"}
    assert all(0.5 <= float(row["probability"]) <= 1 for row in classes)
    assert {row["unit"] for row in rows if row["target"] == "volume"} == {"Å³"}


def double(density: Density) -> Density:
    """The 1x1x2 supercell."""
    low = density.positions * [1, 1, 0.5]
    high = low + np.array([0, 0, 0.5])
    return dataclasses.replace(
        density,
        values=np.tile(density.values, (1, 1, 2)),
        magnetization=None,
        lattice=density.lattice * [[1], [1], [2]],
        species=np.tile(density.species, 2),
        positions=np.concatenate([low, high]),
    )


def test_supercell_leaves_intensive_predictions_and_doubles_extensive_ones(restored, folder):
    """Within the spread over views, that of one crystal seen from 64 origins and directions.

    The origins are fractions of the cell, so a supercell is seen from other points than its cell,
    and its stored grid is coarser along the doubled axis. Measured here: differences of 0.00 to
    0.26 spreads; with the default targets and 16 materials: median 0.11, mean 0.16, largest 0.52.
    Two independent means over 64 views would differ by 0.14 on average, so what the coarser grid
    adds to that is small.
    """
    task = create_task(restored.config, restored.specs, num_steps=1)
    program = members_program(task, num_views=64)
    many = dataclasses.replace(restored, program=program)
    densities = [read_density(path) for path in sorted((folder / "0").iterdir())]
    densities = [d for d in densities if np.linalg.norm(d.lattice[2]) < 4.5]  # 0.4 Å a point
    assert len(densities) >= 2
    once, _ = predict_densities(many, densities)
    twice, warnings = predict_densities(many, [double(density) for density in densities])
    assert {spec.per for spec in restored.specs} == {None, "electron"}
    for spec in restored.specs:
        factor = 1 if spec.per is None else 2
        difference = np.abs(twice.values[spec.name] - factor * once.values[spec.name])
        difference = difference.reshape(len(densities), -1).max(1)  # of classes, [n, K]
        assert (difference < factor * once.spread[spec.name]).all(), spec.name
    assert not any("electrons" in warning for found in warnings for warning in found)


def test_a_config_of_too_many_views_is_refused(smoke_run, tmp_path):
    """Of a stranger's run: it would take days, and no message came."""
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    config = json.loads((run / "config.json").read_text())
    config["view"]["evaluation_views"] = 100_000
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json: view\.evaluation_views=100000"):
        restore_run(run)


def test_a_part_of_the_density_is_named_by_its_cause(smoke_run, tmp_path):
    """One spin: the table says so, as `inspect` does."""
    path = tmp_path / "SPIN_UP.vasp"
    path.write_text(silicon(4.0))
    _, rows = csv_of(open_model(smoke_run), [path])
    assert len(rows) == 5
    assert all("one spin" in row["warnings"] for row in rows)
