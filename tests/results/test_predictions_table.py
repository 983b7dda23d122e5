"""The table of predictions: bytes as written by hand, every damage named, joins in order."""

import csv
import dataclasses

import numpy as np
import pytest

from densityjax.results.predictions_table import (
    PredictionsTableError,
    TargetPredictions,
    join_tables,
    read_table,
    write_table,
)
from densityjax.targets import get_specs

BULK, METAL, VOLUME = get_specs(("bulk_modulus", "is_metal", "volume"))
IDS, FORMULAS = ("mp-1", "=1+1"), ("Si", "Mg2Si")
TABLES = [
    TargetPredictions(
        BULK, IDS, FORMULAS, np.array([0.1 + 0.2, np.nan]), np.array([-1.5, 2e-300]),
        np.array([0.0, 1.0]),
    ),
    TargetPredictions(
        METAL, IDS, FORMULAS, np.array([-1, 1]), np.array([[0.75, 0.25], [1 / 3, 2 / 3]]),
        np.array([0.5, 0.25]),
    ),
]
TEXT = (
    "id,formula,target,truth,prediction,spread,probabilities\r\n"
    "mp-1,Si,bulk_modulus,0.30000000000000004,-1.5,0.0,\r\n"
    "'=1+1,Mg2Si,bulk_modulus,,2e-300,1.0,\r\n"
    "mp-1,Si,is_metal,,insulator,0.5,0.75;0.25\r\n"
    "'=1+1,Mg2Si,is_metal,metal,metal,0.25,0.3333333333333333;0.6666666666666666\r\n"
)


@pytest.fixture
def path(tmp_path):
    write_table(tmp_path / "predictions.csv", TABLES)
    return tmp_path / "predictions.csv"


def test_bytes(path):
    assert path.read_bytes().decode() == TEXT
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_written_is_read(path):
    found = read_table(path, (METAL, BULK))
    assert list(found) == ["bulk_modulus", "is_metal"]  # in the order of the file
    for table, again in zip(TABLES, found.values()):
        assert (again.spec, again.ids, again.formulas) == (table.spec, IDS, FORMULAS)
        for name in ("truth", "prediction", "spread"):
            np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    assert found["bulk_modulus"].labelled.tolist() == [True, False]
    assert found["is_metal"].labelled.tolist() == [False, True]


def test_a_class_that_looks_like_a_formula(tmp_path):
    spec = dataclasses.replace(METAL, classes=("-no", "+yes"))
    write_table(tmp_path / "t.csv", [dataclasses.replace(TABLES[1], spec=spec)])
    row = list(csv.DictReader((tmp_path / "t.csv").open(newline="")))[1]
    assert (row["truth"], row["prediction"]) == ("'+yes", "'+yes")
    assert read_table(tmp_path / "t.csv", [spec])["is_metal"].truth.tolist() == [-1, 1]


def test_joined_as_written_together(path, tmp_path):
    parts = []
    for table in TABLES:
        write_table(tmp_path / "part.csv", [table])
        parts.append(read_table(tmp_path / "part.csv", [table.spec]))
    write_table(tmp_path / "joined.csv", join_tables(parts[::-1], ("bulk_modulus", "is_metal")))
    assert (tmp_path / "joined.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TEXT, "", "is empty"),
        ("6666\r\n", "66", "ends in the middle of a line"),
        ("spread", "width", r"lacks the columns \['spread'\]"),
        ("mp-1,Si,is", "mp-1,is", "line 4 has 6 cells, not 7"),
        ("2e-300", "much", "'bulk_modulus' that is no number"),
        ("0.75;0.25", "0.75", "'is_metal' that is no number"),
        (",metal,metal", ",gas,metal", "line 5 has the class 'gas'"),
        ("is_metal", "volume", "line 4 has the target 'volume'"),
    ],
)
def test_damage_is_named(path, old, new, message):
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(PredictionsTableError, match=rf"predictions\.csv.* {message}"):
        read_table(path, (BULK, METAL))


def test_every_cut_but_at_a_line_is_found(path):
    """A cut between lines only the counts of metrics.json show, see `RunDirectory`."""
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if not whole[:size].endswith(b"\n"):
            with pytest.raises(PredictionsTableError):
                read_table(path, (BULK, METAL))
