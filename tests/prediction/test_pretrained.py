"""The model that ships: small, whole, and of the predictions that it was published with."""

import json
from pathlib import Path

import pytest

from densityjax import predict
from densityjax.prediction.export import size_of
from densityjax.prediction.model import Model, open_model
from densityjax.prediction.pretrained import DEFAULT, find_model, names
from densityjax.runtime.errors import UserError
from tests.prediction.golden import FILE, golden_files, golden_rows


@pytest.fixture(scope="module")
def shipped() -> Model:
    return open_model(find_model(DEFAULT), quick=True)


def test_the_golden_predictions(shipped, tmp_path):
    """Of three densities; to a thousandth of the width of the interval, on every JAX."""
    expected = json.loads(FILE.read_text())
    found = golden_rows(shipped, tmp_path)
    assert [len(rows) for rows in found] == [len(rows) for rows in expected] == [9] * 3
    for rows, golden in zip(found, expected, strict=True):
        for row, own in zip(rows, golden, strict=True):
            assert (row["formula"], row["target"]) == (own["formula"], own["target"])
            width = own["upper"] - own["lower"]
            for key in ("prediction", "lower", "upper"):
                assert row[key] == pytest.approx(own[key], abs=2e-3 * width), row["target"]
            assert row["lower"] <= row["prediction"] <= row["upper"]


def test_it_is_small_and_holds_no_code():
    folder = find_model(DEFAULT)
    assert size_of(folder) <= 8e6
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {".json", ".md", ".npz", ".safetensors"}


def test_a_name_that_does_not_ship():
    assert names() == ["elastic"]
    with pytest.raises(UserError, match="did you mean elastic"):
        find_model("elastics")


def test_without_a_model_the_one_that_ships_answers(tmp_path, capsys):
    (file, *_) = golden_files(tmp_path)
    assert predict.main([str(file), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert len(answer["predictions"]) == 9
    assert answer["elsewhere"] is None
    assert Path(answer["file"]) == file


VASP = """Fe, with 16 electrons
   2.87
     1.0 0.0 0.0
     0.0 1.0 0.0
     0.0 0.0 1.0
   Fe
     2
Direct
  0.0 0.0 0.0
  0.5 0.5 0.5

   4   4   4
"""


@pytest.mark.parametrize("anyway", [False, True])
def test_other_electrons_are_withheld(shipped, tmp_path, capsys, anyway):
    """Iron with its 3p shell, 28 electrons in the cell where training has 16."""
    path = tmp_path / "CHGCAR"
    path.write_text(VASP + "\n".join(["28.0 " * 4] * 16) + "\n")
    arguments = [str(path), "--json", *(["--anyway"] if anyway else [])]
    assert predict.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0].startswith(f"from elsewhere: {path}: 28 valence electrons")
    (answer,) = json.loads(out)
    told = {own["target"]: own for own in answer["predictions"]}
    assert ("prediction" in told["bulk_modulus"]) == anyway
    assert ("lower" in told["bulk_modulus"]) == anyway
    assert told["volume"]["prediction"] == pytest.approx(2.87**3, rel=1e-3)  # the file's own
