import itertools
import tracemalloc

import numpy as np
import pytest

from densityjax.density.grid import negative_fraction, resample

SHAPES = [
    ((12, 12, 12), (12, 12, 12)),
    ((12, 12, 12), (24, 24, 24)),  # up
    ((24, 24, 24), (12, 12, 12)),  # down
    ((15, 15, 15), (9, 9, 9)),  # odd
    ((9, 11, 13), (14, 9, 24)),  # odd to even and odd, up and down at once
    ((10, 12, 98), (16, 16, 16)),  # anisotropic
    ((16, 16, 16), (11, 18, 40)),
]


def points(shape):
    """Fractional coordinates of a grid's points, [X, Y, Z, 3]."""
    return np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)


def waves(shape, limit, rng):
    """Random plane waves of frequency at most `limit` along each axis, evaluated directly."""
    frequencies = np.array(list(itertools.product(*(range(-n, n + 1) for n in limit))))
    frequencies = frequencies[rng.choice(len(frequencies), 20)]
    amplitudes, phases = rng.normal(size=(2, 20))
    angles = 2 * np.pi * (points(shape) @ frequencies.T + phases)
    return (amplitudes * np.cos(angles)).sum(-1) + 3.0


def gaussian(shape, width, center):
    """Periodic Gaussian on a cell of edge 1: the sum over images, which factors into axes."""
    offsets = points(shape)[..., None] - np.array(center)[:, None] - np.arange(-4, 5)
    return np.exp(-(offsets**2) / (2 * width**2)).sum(-1).prod(-1)


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_plane_waves_are_exact(old, new):
    limit = [(min(a, b) - 1) // 2 for a, b in zip(old, new)]  # below both Nyquist frequencies
    before = waves(old, limit, np.random.default_rng(0))
    after = waves(new, limit, np.random.default_rng(0))
    np.testing.assert_allclose(resample(before, new), after, atol=1e-12)


@pytest.mark.parametrize(("old", "new"), [(40, 32), (41, 48), (48, 33), ((40, 50, 90), 36)])
def test_periodic_gaussians(old, new):
    old, new = np.broadcast_to(old, 3), np.broadcast_to(new, 3)
    charge, spin = (
        [
            gaussian(shape, 0.08, (0.1, 0.5, 0.97)) + sign * gaussian(shape, 0.1, (0.6, 0.2, 0.3))
            for shape in (old, new)
        ]
        for sign in (1, -1)
    )
    np.testing.assert_allclose(resample(charge[0], tuple(new)), charge[1], atol=1e-6)
    np.testing.assert_allclose(resample(spin[0], tuple(new)), spin[1], atol=1e-6)


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_mean_is_conserved_whatever_the_field(old, new):
    values = np.random.default_rng(1).exponential(size=old) ** 4  # far from band-limited
    assert resample(values, new).mean() == pytest.approx(values.mean(), rel=1e-13)


@pytest.mark.parametrize(("old", "new"), [((16, 12, 18), (9, 7, 11)), ((9, 8, 7), (15, 8, 9))])
def test_truncation_agrees_with_a_three_dimensional_sum(old, new):
    """Noise, cut to the frequencies below both Nyquist ones, summed wave by wave."""
    values = np.random.default_rng(2).normal(size=old)
    spectrum = np.fft.fftn(values) / values.size
    frequencies = [np.fft.fftfreq(n, 1 / n).astype(int) for n in old]
    expected = np.zeros(new, complex)
    for index in np.ndindex(*old):
        k = [f[i] for f, i in zip(frequencies, index)]
        if all(2 * abs(ki) < m or n == m for ki, n, m in zip(k, old, new)):
            # An even old grid's own Nyquist wave stands for a cosine.
            phases = [
                np.cos(np.pi * n * np.arange(m) / m) if 2 * abs(ki) == n
                else np.exp(2j * np.pi * ki * np.arange(m) / m)
                for ki, n, m in zip(k, old, new)
            ]
            expected += spectrum[index] * np.einsum("i,j,k->ijk", *phases)
    assert abs(expected.imag).max() < 1e-12
    np.testing.assert_allclose(resample(values, new), expected.real, atol=1e-12)


@pytest.mark.parametrize("new", [6, 8, 9, 12, 24])
def test_the_nyquist_wave_stays_a_cosine(new):
    wave = np.cos(2 * np.pi * 4 * np.arange(8) / 8)  # frequency 4 on 8 points: +1, -1, ...
    expected = np.cos(2 * np.pi * 4 * np.arange(new) / new) if new >= 8 else np.zeros(new)
    after = resample(np.tile(wave, (3, 2, 1)), (3, 2, new))
    np.testing.assert_allclose(after, np.broadcast_to(expected, (3, 2, new)), atol=1e-13)
    # and from a finer grid down to 8 points, where it is the Nyquist wave
    fine = np.cos(2 * np.pi * 4 * np.arange(20) / 20)
    coarse = resample(fine[:, None, None], (8, 1, 1))
    np.testing.assert_allclose(coarse[:, 0, 0], wave, atol=1e-13)


@pytest.mark.parametrize(("old", "new"), [((7, 8, 9), (12, 9, 20)), ((8, 8, 8), (16, 9, 8))])
def test_up_and_down_again_is_the_identity(old, new):
    values = np.random.default_rng(3).normal(size=old)
    np.testing.assert_allclose(resample(resample(values, new), old), values, atol=1e-12)


def test_axes_and_origin_are_treated_alike():
    values = np.random.default_rng(4).normal(size=(12, 12, 12))
    after = resample(values, 6)
    np.testing.assert_allclose(resample(values.transpose(2, 0, 1), 6), after.transpose(2, 0, 1))
    np.testing.assert_allclose(resample(np.roll(values, 4, 1), 6), np.roll(after, 2, 1), atol=1e-13)


def test_ringing_is_measured():
    spike = np.zeros((24, 24, 24))
    spike[3, 4, 5] = 1.0
    assert negative_fraction(spike) == 0
    assert 0.2 < negative_fraction(resample(spike, 9)) < 0.6
    assert negative_fraction(np.array([-1.0, 0.0, 1.0, 2.0])) == 0.25


@pytest.mark.parametrize("shape", [0, -3, 2.5, (8, 8), (8, 8, 0)])
def test_bad_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="one or three positive integers"):
        resample(np.ones((4, 4, 4)), shape)


def test_fields_that_are_not_grids_are_refused():
    with pytest.raises(ValueError, match=r"must have shape \[X, Y, Z\], got \[4, 4\]"):
        resample(np.ones((4, 4)), 8)


def test_a_thin_grid_takes_memory_as_its_numbers_do():
    """16 old^2 bytes would be 16 GB."""
    values = np.ones((1, 1, 31_621))
    values[..., ::2] = 3.0
    tracemalloc.start()
    found = resample(values, (1, 1, 16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.mean() == pytest.approx(values.mean(), rel=1e-12)
    assert peak < 20 * values.nbytes
