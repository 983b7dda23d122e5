"""docs/tutorial.ipynb: its cells run; a finished run stands in for the slow one and the weights."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

import densityjax
from densityjax.prediction.model import Model, open_model

NOTEBOOK = Path(__file__).parents[1] / "docs/tutorial.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def is_slow(cell: dict[str, Any]) -> bool:
    return "slow" in cell["metadata"].get("tags", ())


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_the_cells_run(smoke_run, cells, tmp_path, monkeypatch):
    restored = open_model(smoke_run)
    (model,) = restored.members[0]
    config = model.config.copy_and_resolve_references()
    config.train.batch_size = 1  # one program for all cells
    stand_in = Model(restored.path, ((dataclasses.replace(model, config=config),),))
    asked = []
    monkeypatch.setattr(densityjax, "load", lambda name: asked.append(str(name)) or stand_in)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(plt, "show", lambda: None)
    names: dict[str, Any] = {}
    try:
        for number, cell in enumerate(cells, start=1):
            code = source(cell)
            if cell["cell_type"] == "code":
                code = f"run = {str(smoke_run)!r}" if is_slow(cell) else code
                exec(compile(code, f"cell {number}", "exec"), names)
        assert len(plt.get_fignums()) == 2
    finally:
        plt.close("all")
    assert asked == ["elastic", str(smoke_run)]
    assert len(names["labels"]) == 60
    assert set(names["test"].index) == set(names["own"].index) == set(names["shipped"].index)
    # The objects are the file, and the shipped model's stand-in is the run itself.
    by_file = names["table"].groupby("target", sort=False)["prediction"].agg(list)
    np.testing.assert_allclose(*[
        [float(by_file[target][place]) for target in ("bulk_modulus", "fermi_energy")]
        for place in (0, 2)
    ], rtol=1e-3)
    assert (names["errors"].iloc[:, 1] == names["errors"].iloc[:, 2]).all()


def test_it_is_ten_cells_that_were_run(cells):
    assert len(cells) == 10
    assert sum(map(is_slow, cells)) == 1
    ran = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in ran] == list(range(1, len(ran) + 1))
    outputs = [output for cell in ran for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 2
    assert NOTEBOOK.stat().st_size < 300_000
