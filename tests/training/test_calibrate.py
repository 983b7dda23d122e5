"""A single run is calibrated on its validation fold, afterwards if need be."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from densityjax import calibrate, predict
from densityjax.results.calibration import read_calibration
from densityjax.results.run_directory import RunDirectory
from tests.tfds_builders.test_folder_tables import silicon


def _predicted(run: RunDirectory, density: Path, out: Path) -> list[dict[str, str]]:
    assert predict.main(["--workdir", str(run.path), "--out", str(out), str(density)]) == 0
    return list(csv.DictReader(out.open()))


def test_a_single_run_calibrates_on_its_validation_fold(
    smoke_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    run, density = RunDirectory(tmp_path / "run"), tmp_path / "Si.vasp"
    density.write_text(silicon(8.0))
    shutil.copytree(smoke_run, run.path)
    assert read_calibration(run) is None
    rows = _predicted(run, density, tmp_path / "before.csv")
    assert {row[name] for row in rows for name in ("lower", "upper", "set")} == {""}
    assert f"python -m densityjax.calibrate --workdir={run.path}" in capsys.readouterr().err
    assert calibrate.main(["--workdir", str(run.path)]) == 0
    assert "Calibrated on validation fold 1, whose labels also chose" in capsys.readouterr().out
    found = read_calibration(run)
    metrics = json.loads(run.metrics.read_text())["validation"]
    specs = run.read_specs(list(metrics))
    table = run.read_predictions(specs, "validation")["fermi_energy"]
    own = found.targets["fermi_energy"]
    assert len(own.scores) == metrics["fermi_energy"]["n"]
    assert own.num_systems == found.facts["fermi_energy"]["systems"] < len(own.scores)
    error = (table.truth - table.prediction)[table.labelled]
    sigma = error / own.scores
    assert (sigma > 0).all()
    assert np.ptp(sigma) > 0 or own.scale.kind == "constant"
    after = {row["target"]: row for row in _predicted(run, density, tmp_path / "after.csv")}
    assert set(after["is_metal"]["set"].split(";")) <= {"insulator", "metal"}
    for row in after.values():
        if row["target"] != "is_metal":
            assert float(row["lower"]) < float(row["prediction"]) < float(row["upper"])
