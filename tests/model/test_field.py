import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model.field import num_fields, transform_field


def test_log_takes_the_charge_alone_and_clamps_it():
    field = np.array([[-0.2, -0.3], [0.0, 0.5], [2.0, 0.0]], np.float32)
    result = transform_field(field, "log", 1e-3, 7.0)
    expected = [[np.log(1e-3), -0.3], [np.log(1e-3), 0.5], [np.log(2.0), 0.0]]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("transform", ["linear", "times_volume", "log", "log_and_linear"])
@pytest.mark.parametrize("channels", [1, 2])
def test_number_of_fields(transform, channels):
    field = jnp.ones((2, 3, 3, 3, channels))
    assert transform_field(field, transform, 1e-3, 7.0).shape[-1] == num_fields(channels, transform)


def test_linear_is_the_field_itself():
    field = np.array([[-0.2, -0.3]], np.float32)
    assert transform_field(field, "linear", 1e-3, 7.0) is field


def test_both_put_the_logarithm_first():
    field = np.array([[-0.2, -0.3], [2.0, 0.0]], np.float32)
    result = transform_field(field, "log_and_linear", 1e-3, 7.0)
    np.testing.assert_array_equal(result[:, :1], transform_field(field[:, :1], "log", 1e-3, 7.0))
    np.testing.assert_array_equal(result[:, 1:], field)


def test_times_volume_has_the_number_of_electrons_as_its_mean():
    field = np.random.default_rng(0).random((2, 4, 4, 4, 2)).astype(np.float32)  # e/Å^3
    volume = np.array([20.0, 50.0], np.float32)[:, None, None, None, None]  # Å^3
    electrons = field.astype(np.float64).mean((1, 2, 3)) * [[20.0], [50.0]]  # [2, C] its integral
    mean = transform_field(field, "times_volume", 1e-3, volume).mean((1, 2, 3))
    np.testing.assert_allclose(mean, electrons, rtol=1e-6)
