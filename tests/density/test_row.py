import numpy as np
import pytest

from densityjax.density.reader import DensityFormatError, density_from_row

GRID = (2, 3, 4)


def row(**changes):
    """A row of LeMat-Rho's columns, the density counting up in C order."""
    return {
        "charge_density": (1.0 + np.arange(24)).astype(np.float32),
        "charge_density_grid_shape": list(GRID),
        "lattice_vectors": [[4.0, 0, 0], [1, 5, 0], [0, 0.5, 6]],
        "cartesian_site_positions": [[2.0, 0, 0], [0, -0.5, -6]],
        "species_at_sites": ["O", "Fe"],
    } | changes


def test_a_row_becomes_a_density():
    density = density_from_row(row(), "shard.parquet row 3")
    values = (1.0 + np.arange(24)).reshape(GRID) / (4 * 5 * 6)
    np.testing.assert_allclose(density.values, values, rtol=1e-12)
    assert density.num_electrons == pytest.approx(12.5)
    np.testing.assert_allclose(density.positions, [[0.5, 0, 0], [0, 0, 0]], atol=1e-12)
    assert (density.formula, density.source) == ("FeO", "shard.parquet row 3")


def test_lists_and_read_only_arrays_are_taken_and_left_alone():
    flat = row()["charge_density"]
    flat.flags.writeable = False
    nested = flat.reshape(GRID).tolist()
    for given in (flat, flat.tolist(), nested):
        np.testing.assert_array_equal(
            density_from_row(row(charge_density=given), "x").values,
            density_from_row(row(), "x").values,
        )
    assert flat[0] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charge_density": None}, "column 'charge_density' is absent or null"),
        ({"charge_density": "abc"}, "column 'charge_density': expected N numbers"),
        ({"charge_density": [1.0] * 23}, "expected 24 numbers for a grid of (2, 3, 4), found"),
        ({"charge_density": [float("nan")] * 24}, "holds NaN or infinity"),
        ({"charge_density": [-1.0] * 24}, "expected a positive number"),
        ({"charge_density_grid_shape": [2, 3]}, "expected 3 numbers"),
        ({"charge_density_grid_shape": [2, 3, 4.5]}, "expected three whole numbers"),
        ({"charge_density_grid_shape": [2, -3, -4]}, "three positive grid dimensions"),
        ({"charge_density_grid_shape": [2**20] * 3}, "the limit of this reader"),
        ({"lattice_vectors": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "three independent cell vectors"),
        ({"lattice_vectors": [[1, 0, 0], [2, 0]]}, "expected 3 x 3 numbers"),
        ({"cartesian_site_positions": [[0, 0, float("inf")]] * 2}, "three finite numbers"),
        ({"species_at_sites": ["O"]}, "expected 2 element symbols"),
        ({"species_at_sites": ["O", "Zz"]}, "expected element symbols"),
    ],
)
def test_a_bad_row_is_named_with_its_column(changes, message):
    with pytest.raises(DensityFormatError) as error:
        density_from_row(row(**changes), "shard.parquet row 3")
    assert str(error.value).startswith("shard.parquet row 3")
    assert message in str(error.value)
