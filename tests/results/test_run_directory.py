"""Files of a run: named in one place, and each damage is one error with the file and a remedy."""

import json
import re

import numpy as np
import pytest

from densityjax.results.predictions_table import TargetPredictions, write_table
from densityjax.results.run_directory import RunDirectory, RunDirectoryError, field_value
from densityjax.runtime.errors import UserError
from densityjax.targets import get_specs, specs_to_json

SPECS = get_specs(("bulk_modulus", "is_metal"))
JSON_READERS = {
    "config.json": RunDirectory.read_config,
    "metrics.json": RunDirectory.read_metrics,
    "run.json": RunDirectory.read_facts,
}


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    ids, formulas = ("a", "b", "c"), ("Si", "Ge", "Sn")
    write_table(run.predictions(), [
        TargetPredictions(
            SPECS[0], ids, formulas, np.array([1.0, np.nan, 3.0]), np.ones(3), np.zeros(3)
        ),
        TargetPredictions(
            SPECS[1], ids, formulas, np.array([1, 0, -1]), np.full((3, 2), 0.5), np.zeros(3)
        ),
    ])
    run.metrics.write_text(json.dumps({"test": {"bulk_modulus": {"n": 2}, "is_metal": {"n": 2}}}))
    run.targets.write_text(json.dumps(specs_to_json(SPECS)))
    run.config.write_text('{"train": {"epochs": 3}}')
    run.facts.write_text('{"seed": 1}')
    run.history.write_text('{"step": 1, "split": "train", "loss": 0.5}\n')
    return run


def test_it_names_every_file_that_training_leaves(smoke_run):
    run = RunDirectory(smoke_run)
    named = {*run.files, run.checkpoints, run.tensorboard, run.report_folder}
    assert {path for path in smoke_run.iterdir() if not path.name.startswith(".")} <= named
    assert run.read_config("train.epochs")["seed"] == 0
    specs = run.read_specs(run.read_config()["targets"])
    for split in ("test", "validation"):
        tables = run.read_predictions(specs, split)
        assert list(tables) == [spec.name for spec in specs]
    assert {line["split"] for line in run.read_history()} == {"train", "validation"}
    assert run.members() == run.groups() == run.tree() == (run,)


def test_whole_files_are_read(run):
    assert run.read_config("train.epochs") == {"train": {"epochs": 3}}
    assert run.read_facts("seed") == {"seed": 1}
    assert run.read_history() == [{"step": 1, "split": "train", "loss": 0.5}]
    assert run.read_specs(["is_metal"]) == SPECS[1:]
    assert run.read_predictions(SPECS)["is_metal"].truth.tolist() == [1, 0, -1]


@pytest.mark.parametrize("name", JSON_READERS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"), (b" \n", "is empty"), (b'{"a": 1', "is not valid JSON"),
        (b"[1]", "holds list, expected a mapping"), (b"1", "holds int"),
        (b"{}", "has no field 'a'"), (b'{"a": 1}', "has no field 'a.b'"),
        (b"\xff\xfe", "is not text"), (None, "is missing"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(run, name, content, message):
    path = run.path / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=re.escape(f"{path} {message}")) as error:
        JSON_READERS[name](run, "a.b")
    assert "train it first" in str(error.value) or "run the training command" in str(error.value)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[{}]", '[{"name": 3}]', "{"])
def test_damaged_targets(run, content):
    run.targets.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(run.path))):
        run.read_specs(["is_metal"])


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"step"', "is not valid JSON"), ("[1]", "holds list"), ('{"step": 2}', "no field 'split'")],
)
def test_a_damaged_line_of_the_history(run, line, message):
    run.history.write_text(run.history.read_text() + line + "\n")
    with pytest.raises(RunDirectoryError, match=rf"metrics\.jsonl line 2.* {message}"):
        run.read_history()


def test_rows_are_counted(run):
    """A table cut between two lines is a whole table, but not that of the metrics."""
    lines = run.predictions().read_bytes().splitlines(keepends=True)
    assert run.read_predictions(SPECS)
    for kept in range(1, len(lines)):
        run.predictions().write_bytes(b"".join(lines[:kept]))
        with pytest.raises(RunDirectoryError, match=r"predictions\.csv has .* cut"):
            run.read_predictions(SPECS)
    run.predictions().unlink()
    with pytest.raises(RunDirectoryError, match=r"predictions\.csv is missing"):
        run.read_predictions(SPECS)


@pytest.mark.parametrize("content", ["{}", '{"test": 1}', '{"test": {"is_metal": {}}}'])
def test_metrics_that_count_nothing(run, content):
    run.metrics.write_text(content)
    with pytest.raises(RunDirectoryError, match=r"metrics\.json"):
        run.read_predictions(SPECS)


@pytest.mark.parametrize("kind", ["groups", "members"])
def test_runs_that_are_joined(run, kind):
    run.facts.write_text(json.dumps({kind: [{"directory": "g0"}, {"directory": "../x"}]}))
    read = getattr(run, kind)
    assert [own.path for own in read()] == [run.path / "g0", run.path / "../x"]
    for damage in (1, ["g0"], [{}]):
        run.facts.write_text(json.dumps({kind: damage}))
        with pytest.raises(RunDirectoryError, match=rf"run\.json: '{kind}' is damaged"):
            read()


def test_the_tree_of_an_ensemble_of_groups(run):
    run.facts.write_text(json.dumps({"members": [{"directory": "m0"}, {"directory": "m1"}]}))
    grouped = run.path / "m1"
    grouped.mkdir()
    RunDirectory(grouped).facts.write_text(json.dumps({"groups": [{"directory": "g0"}]}))
    expected = [run.path, run.path / "m0", grouped, grouped / "g0"]
    assert [own.path for own in run.tree()] == expected


def test_field_value():
    assert field_value({"a": {"b": None}}, "x.json", "a.b") is None
    with pytest.raises(RunDirectoryError, match=r"x\.json has no field 'a\.c'"):
        field_value({"a": {"b": 1}}, "x.json", "a.c.d")
