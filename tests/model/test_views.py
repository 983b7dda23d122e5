import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model import views
from densityjax.model.lattice_features import lattice_features

LATTICE = np.array([[4.0, 0.3, -0.2], [-1.1, 5.0, 0.4], [0.7, 1.3, 6.0]])  # Å
CELL = jnp.asarray(LATTICE, jnp.float32)
# cos(2π h·f + phase), one term per row; a constant keeps the density positive.
WAVES = np.array([[1, 0, 0], [0, 1, 1], [1, -1, 0], [0, 0, 1]])
PHASES = np.array([0.3, 1.1, 2.0, 0.7])
FRACTIONAL = views.ViewConfig("fractional", 0, 0.0, True, True, False, True)
CARTESIAN = views.ViewConfig("cartesian", 6, 0.4, True, False, True, True)


def rho(fraction):
    """A smooth periodic density, by fractional coordinates [..., 3]."""
    return 5 + np.cos(2 * np.pi * fraction @ WAVES.T + PHASES).sum(-1)


def grid_points(size):
    return np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)  # [G, G, G, 3]


def stored(size):
    return jnp.asarray(rho(grid_points(size) / size)[..., None], jnp.float32)


@jax.jit
def transform(density, lattice, operation, shift):
    return views.transform_grid(density, lattice, operation, shift)


@pytest.mark.parametrize("operation", range(48))
def test_an_operation_moves_grid_and_lattice_together(operation):
    size, shift = 7, np.array([2, 0, 5])
    values, lattice = transform(stored(size), CELL, operation, shift)
    position = grid_points(size) / size @ np.asarray(lattice, float)  # Å from the new origin
    expected = rho(position @ np.linalg.inv(LATTICE) + shift / size)
    np.testing.assert_allclose(values[..., 0], expected, atol=1e-5)
    lattices = jnp.stack([CELL, lattice])
    before, after = lattice_features(lattices, jnp.full(2, 9.0), "metric")
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_the_48_operations_differ_and_the_first_is_the_identity():
    density, lattice = stored(5), CELL
    results = jax.vmap(lambda op: transform(density, lattice, op, jnp.zeros(3, int)))(
        jnp.arange(48)
    )
    assert len({np.asarray(values).tobytes() for values in results[0]}) == 48
    assert len({np.asarray(rows).tobytes() for rows in results[1]}) == 48
    np.testing.assert_array_equal(results[0][views.IDENTITY_OPERATION], density)
    np.testing.assert_array_equal(results[1][views.IDENTITY_OPERATION], lattice)


def test_shift_is_a_roll_of_all_channels():
    density = np.random.default_rng(0).normal(size=(5, 5, 5, 2)).astype(np.float32)
    values, _ = transform(density, CELL, views.IDENTITY_OPERATION, np.array([1, 4, 2]))
    np.testing.assert_array_equal(values, np.roll(density, (-1, -4, -2), axis=(0, 1, 2)))


def rotation(angles=(0.4, 1.0, -0.7)):
    """A product of three plain rotations and a mirror image, in float64."""
    result = np.diag([1.0, 1.0, -1.0])
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [a for a in range(3) if a != axis]
        turn[[i, j, i, j], [i, j, j, i]] = [np.cos(angle)] * 2 + [np.sin(angle), -np.sin(angle)]
        result = result @ turn
    return result


def cube(size, origin, turn, edge=9, spacing=0.83, lattice=LATTICE):
    return np.asarray(
        views.sample_cube(
            jnp.asarray(stored(size)), jnp.asarray(lattice, jnp.float32),
            jnp.asarray(origin, jnp.float32), jnp.asarray(turn, jnp.float32), edge, spacing,
        )
    )


def test_cube_samples_the_density_where_it_lies():
    """Against the formula; the error of linear interpolation falls with the square of the grid."""
    origin, turn = np.array([0.13, 0.71, 0.4]), rotation()
    steps = (grid_points(9) - 4) * 0.83  # [9, 9, 9, 3] Å along the cube's axes
    expected = rho(steps @ turn @ np.linalg.inv(LATTICE) + origin)
    errors = [np.abs(cube(size, origin, turn)[..., 0] - expected).max() for size in (16, 32, 64)]
    assert errors[-1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


def test_cube_on_grid_points_is_the_grid():
    values = cube(8, [0.5, 0.5, 0.5], np.eye(3), edge=9, spacing=0.6, lattice=np.eye(3) * 4.8)
    expected = np.pad(stored(8), ((0, 1),) * 3 + ((0, 0),), mode="wrap")
    np.testing.assert_allclose(values, expected, atol=1e-4)


def test_cube_is_periodic_in_its_origin():
    first = cube(24, [0.2, 0.9, 0.4], rotation())
    moved = cube(24, [1.2, -1.1, 0.4], rotation())
    np.testing.assert_allclose(first, moved, atol=2e-4)


def test_cube_does_not_depend_on_the_choice_of_cell():
    """A 1x1x2 supercell holds the same crystal."""
    single, double = stored(32), jnp.concatenate([stored(32)] * 2, axis=2)[:, :, ::2]
    supercell = LATTICE * [[1], [1], [2]]
    turn = jnp.asarray(rotation(), jnp.float32)
    a = views.sample_cube(single, CELL, jnp.zeros(3), turn, 9, 0.83)
    b = views.sample_cube(double, jnp.asarray(supercell), jnp.zeros(3), turn, 9, 0.83)
    np.testing.assert_allclose(a, b, atol=0.05)  # the coarser grid along the third axis


def test_random_rotations_are_orthogonal_and_uniform():
    draws = np.asarray(jax.vmap(views.random_rotation)(jax.random.split(jax.random.key(0), 4000)))
    products = draws @ draws.transpose(0, 2, 1)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-5)
    assert (np.linalg.det(draws) > 0).mean() == pytest.approx(0.5, abs=0.03)
    # Haar measure: <R_ij> = 0, <R_ij^2> = 1/3, <R_ij^4> = 1/5, <tr R> = 0, <(tr R)^2> = 1.
    np.testing.assert_allclose(draws.mean(0), 0, atol=0.04)
    np.testing.assert_allclose((draws**2).mean(0), 1 / 3, atol=0.02)
    np.testing.assert_allclose((draws**4).mean(0), 1 / 5, atol=0.02)
    trace = np.trace(draws, axis1=1, axis2=2)
    assert trace.mean() == pytest.approx(0, abs=0.06)
    assert (trace**2).mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("config", [FRACTIONAL, CARTESIAN])
def test_spin_flip_touches_the_second_channel_alone(config):
    density = jnp.concatenate([stored(6), 0.1 * stored(6)], axis=-1)
    plain = views.ViewConfig(**{**config.__dict__, "flip_spin": False})
    make = jax.jit(jax.vmap(lambda key, c: views.training_view(c, density, CELL, key)[0],
                            in_axes=(0, None)), static_argnums=1)
    keys = jax.random.split(jax.random.key(0), 40)
    flipped, original = make(keys, config), make(keys, plain)
    np.testing.assert_array_equal(flipped[..., 0], original[..., 0])
    signs = np.asarray(flipped[:, 0, 0, 0, 1] / original[:, 0, 0, 0, 1])
    assert set(signs) == {1.0, -1.0}
    np.testing.assert_array_equal(flipped[..., 1], signs[:, None, None, None] * original[..., 1])
    single = views.training_view(config, density[..., :1], LATTICE, keys[0])[0]
    np.testing.assert_allclose(single, original[0, ..., :1], atol=1e-6)


def test_training_views_are_drawn_as_configured():
    density, keys = stored(6), jax.random.split(jax.random.key(1), 400)
    still = views.ViewConfig("fractional", 0, 0.0, False, False, False, False)
    values, lattice = views.training_view(still, density, CELL, keys[0])
    np.testing.assert_array_equal(values, density)
    np.testing.assert_allclose(lattice, LATTICE, rtol=1e-6)

    make = jax.jit(jax.vmap(lambda key: views.training_view(FRACTIONAL, density, CELL, key)))
    drawn, lattices = make(keys)
    assert len({np.asarray(rows).tobytes() for rows in lattices}) == 48
    assert len({np.asarray(field).tobytes() for field in drawn}) > 380
    np.testing.assert_array_equal(make(keys)[0], drawn)

    fixed = views.ViewConfig("cartesian", 5, 0.4, False, False, False, False)
    a, b = (views.training_view(fixed, density, CELL, key)[0] for key in keys[:2])
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("config", [FRACTIONAL, CARTESIAN])
def test_evaluation_views_are_fixed_and_differ(config):
    density = stored(12)
    make = jax.jit(lambda view: views.evaluation_view(config, density, CELL, view)[0])
    fields = [np.asarray(make(view)) for view in range(6)]
    np.testing.assert_array_equal(fields[3], make(3))
    for a, b in itertools.combinations(fields, 2):
        assert np.abs(a - b).max() > 0.1
    if config.kind == "fractional":
        np.testing.assert_array_equal(fields[0], density)
        assert all(np.isclose(np.sort(f, None), np.sort(density, None)).all() for f in fields)
    else:
        assert fields[0].shape == (6, 6, 6, 1)
