"""Five files, whole, the same each time."""

import json

import pandas as pd
import pytest

from densityjax.ablation.write import write_comparison

FILES = ["table.md", "table.csv", "table.tex", "comparison.png", "comparison.json"]
FACTS = {"title": "Made up", "hardware": "2 cores | no accelerator"}


@pytest.fixture(scope="module")
def folder(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison") / "docs" / "table"
    paths = write_comparison(folder, comparison, FACTS)
    assert [path.name for path in paths] == FILES
    return folder


def test_no_partial_files_stay(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_json(comparison, folder):
    content = json.loads((folder / "comparison.json").read_text())
    assert content["comparison"] == json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert content["facts"] == FACTS


def test_csv(comparison, folder):
    table = pd.read_csv(folder / "table.csv").set_index(["variant", "reference", "target"])
    for contrast in comparison.contrasts:
        for row in contrast.rows:
            line = table.loc[contrast.variant, contrast.reference, row.target]
            assert line["difference"] == pytest.approx(row.value)
            assert line["verdict"] == row.verdict


def test_same_comparison_gives_the_same_files(comparison, folder, tmp_path):
    for path in write_comparison(tmp_path, comparison, FACTS):
        assert path.read_bytes() == (folder / path.name).read_bytes()
