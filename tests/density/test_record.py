import dataclasses

import numpy as np
import pytest

from densityjax.density.reader import Density, DensityFormatError
from densityjax.density.record import check_electrons, make_record


@pytest.fixture
def density() -> Density:
    """A Gaussian of 2 electrons in an oblique cell, with a magnetisation of 1 μB."""
    lattice = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 0.5, 6.0]])
    axes = [np.arange(n) / n for n in (20, 24, 30)]
    fractional = np.stack(np.meshgrid(*axes, indexing="ij"), -1)  # [X, Y, Z, 3]
    offset = (fractional - np.array([0.3, 0.5, 0.9]) + 0.5) % 1 - 0.5
    values = np.exp(-np.square(offset @ lattice).sum(-1) / 1.2)
    values *= 2 / (values.mean() * abs(np.linalg.det(lattice)))
    return Density(
        values=values, magnetization=values / 2, lattice=lattice, species=np.array([2]),
        positions=np.array([[0.3, 0.5, 0.9]]), code="unknown", source="he.CHGCAR",
    )


def test_record_keeps_electrons_and_moment(density):
    record = make_record(density, 12)
    assert record["density"].shape == (12, 12, 12, 2)
    assert record["density"].dtype == np.float32
    volume = abs(np.linalg.det(record["lattice"].astype(float)))
    charge, moment = record["density"].mean((0, 1, 2), dtype=np.float64) * volume
    assert charge == pytest.approx(2, rel=1e-6)
    assert moment == pytest.approx(1, rel=1e-6)
    assert record["formula"] == "He"
    np.testing.assert_array_equal(record["native_grid"], [20, 24, 30])
    without_spin = make_record(dataclasses.replace(density, magnetization=None), 12)
    np.testing.assert_array_equal(without_spin["density"], record["density"][..., :1])


def test_electron_counts_that_differ_are_refused():
    check_electrons("x", 10.0001, 10.0, 2e-5)
    with pytest.raises(DensityFormatError, match=r"x: holds 10\.0.* expected 10\.1"):
        check_electrons("x", 10.0, 10.1, 2e-5)
