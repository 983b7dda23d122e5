"""Cells and names that cannot be compared are refused by name."""

import dataclasses

import numpy as np
import pytest

from densityjax.ablation.compare import compare
from densityjax.ablation.results import ComparisonError
from tests.ablation.designs import SPECS, change, change_targets


def _broken(cells, **fields):
    return [*cells[:-1], dataclasses.replace(cells[-1], **fields)]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda c: [], "no cells"),
        (lambda c: [*c, c[0]], "'single', fold0, seed 0 is there twice"),
        (lambda c: _broken(c, ids=c[-1].ids[::-1]), "'random 2', fold1, seed 2 has other ids"),
        (lambda c: _broken(c, systems=c[0].systems), "has other systems"),
        (lambda c: _broken(c, prediction={}), "predicts nothing"),
        (lambda c: _broken(c, truth={}), "predictions without labels"),
        (
            lambda c: _broken(c, truth=c[-1].truth | {"density": c[0].truth["density"]}),
            "other labels of 'density'",
        ),
        (lambda c: [*c[:-1], change(c[-1], density=np.full(40, np.nan))], "not finite"),
        (lambda c: [*c[:-1], change(c[-1], density=np.ones(39))], "shape"),
        (lambda c: [change(x, band_gap=np.ones(40)) for x in c], "'band_gap', which has no spec"),
        (lambda c: [dataclasses.replace(x, systems=np.full(40, "O")) for x in c], "1 chemical"),
        (lambda c: [change_targets(x) for x in c], "no variant predicts crystal_system"),
    ],
)
def test_bad_cells(cells, fault, message):
    with pytest.raises(ComparisonError, match=message):
        compare(fault(cells), SPECS, "single", replicates=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(reference="alone"), "reference 'alone' has no cells"),
        (dict(pools={"all": ("single",)}), "name of a variant"),
        (dict(pools={"p": ("random 0", "random 9")}), "members without cells: random 9"),
        (dict(pools={"p": ()}), "must name variants"),
        (dict(contrasts=[("all", "none")]), "contrast with 'none'"),
        (dict(replicates=0), "replicates=0"),
    ],
)
def test_bad_arguments(cells, arguments, message):
    with pytest.raises(ComparisonError, match=message):
        compare(cells, SPECS, **({"reference": "single", "replicates": 5} | arguments))
