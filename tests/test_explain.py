"""The door: files of a map, maps of a run's page, and what a user may get wrong."""

import csv
import json
import shutil

import pytest

from densityjax import explain
from densityjax.report.page import write_report
from densityjax.runtime.errors import UserError
from tests.tfds_builders.test_folder_tables import silicon


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--workdir=x"], "name one FILE, or --report"),
        (["f", "--report", "--workdir=x"], "name one FILE, or --report"),
        (["f", "--workdir=x"], "--target is missing"),
        (["--report"], "name it with --workdir"),
    ],
)
def test_what_is_missing_is_named(arguments, text):
    with pytest.raises(UserError, match=text):
        explain.main(arguments)


@pytest.mark.slow
def test_a_file_and_a_run_are_explained(smoke_run, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(smoke_run, workdir)
    file = tmp_path / "CHGCAR"
    file.write_text(silicon())
    out = tmp_path / "map"
    common = [f"--workdir={workdir}", "--steps=3", "--views=2"]
    explain.main([
        str(file), "--target=fermi_energy", "--reference=atoms", "--orders=1", f"--out={out}",
        *common,
    ])
    said = capsys.readouterr().out
    assert "The network alone answers fermi_energy." in said
    facts = json.loads((out / "fermi_energy.json").read_text())
    assert facts["reference"] == "atoms"
    assert (workdir / "average_atoms.npz").exists()
    rows = list(csv.DictReader((out / "fermi_energy_atoms.csv").open()))
    answer = sum(float(row["answer_share"]) for row in rows)
    assert answer == pytest.approx(facts["answer"] - facts["answer_to_reference"], rel=1e-3)

    explain.main(["--report", "--target=is_metal", *common])
    maps = json.loads((workdir / "maps/maps.json").read_text())
    assert [entry["kind"] for entry in maps] == ["best", "worst"]
    assert (workdir / "maps/worst/CHGCAR_is_metal").exists()
    assert "Where predictions come from" in (workdir / "report.html").read_text()
    with pytest.raises(UserError, match="no target with a network's answer"):
        explain.main(["--report", "--target=volume", *common])
    (workdir / "maps/best/is_metal.png").unlink()
    with pytest.raises(UserError, match="run densityjax explain --report again"):
        write_report(workdir)
