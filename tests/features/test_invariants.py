"""What must not change the invariants does not, on shipped densities; analytic ones are met."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf

from densityjax.density.density import Density
from densityjax.density.reader import read_density_bytes
from densityjax.density.record import make_record
from densityjax.features.field import make_field
from densityjax.features.harmonics import real_harmonics
from densityjax.features.histogram import soft_histogram
from densityjax.features.invariants import BLOCKS, NAMES, invariants, record_invariants

ARCHIVE = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
GRID = 16
# Of numbers that are logarithms, shares or of order 1; float32 sums over 4,096 points.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def densities() -> list[Density]:
    """Real ones: cubic, hexagonal, monoclinic, orthorhombic and magnetic."""
    with tarfile.open(ARCHIVE) as archive:
        text = archive.extractfile("labels.csv").read().decode()
        rows = list(csv.DictReader(io.StringIO(text)))
        chosen = [
            next(row for row in rows if row["crystal_system"] == system and int(row["nsites"]) > 1)
            for system in ("cubic", "hexagonal", "monoclinic", "orthorhombic")
        ]
        chosen.append(next(row for row in rows if float(row["magnetic_moment"]) > 1))
        data = [(archive.extractfile(row["file"]).read(), row["file"]) for row in chosen]
    return [read_density_bytes(*pair) for pair in data]


@pytest.fixture(scope="module")
def records(densities) -> list[dict]:
    return [make_record(density, GRID) for density in densities]


def _same(found: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    assert found.dtype == np.float32
    difference = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    worst = int(difference.argmax())
    assert difference[worst] < tolerance, (NAMES[worst], found[worst], expected[worst])


def test_names_and_length_are_the_same_for_every_material(records):
    assert len(NAMES) == len(set(NAMES)) == sum(map(len, BLOCKS.values()))
    found = np.stack([record_invariants(record) for record in records])
    assert found.shape == (len(records), len(NAMES))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    # They tell these materials apart, by much more than the tolerance of the tests below.
    apart = np.abs(found[:, None] - found[None])[~np.eye(len(records), dtype=bool)]
    assert (apart.max(axis=1) > 100 * TOLERANCE).all()


@pytest.mark.parametrize("steps", [(3, 0, 0), (5, -7, 2)])
def test_another_origin_on_the_grid(records, steps):
    for record in records:
        moved = np.roll(record["density"], steps, axis=(0, 1, 2))
        positions = record["positions"] + np.array(steps) / GRID
        _same(invariants(moved, record["lattice"], positions), record_invariants(record))


def test_another_origin_between_the_points(densities):
    """Where the points fall matters to quantiles and histograms, as in any sampling: little."""
    size = 32
    k = np.fft.fftfreq(size, 1 / size)
    shift = np.array([0.3, 0.5, 0.2]) / size
    phase = np.exp(-2j * np.pi * sum(np.ix_(*(k * s for s in shift))))
    for density in densities:
        record = make_record(density, size)
        spectrum = np.fft.fftn(record["density"], axes=(0, 1, 2))
        spectrum[size // 2], spectrum[:, size // 2], spectrum[:, :, size // 2] = 0, 0, 0
        still = np.fft.ifftn(spectrum, axes=(0, 1, 2)).real
        moved = np.fft.ifftn(spectrum * phase[..., None], axes=(0, 1, 2)).real
        before = invariants(still, record["lattice"], record["positions"])
        after = invariants(moved, record["lattice"], record["positions"] + shift)
        difference = np.abs(after - before) / np.maximum(1, np.abs(before))
        assert np.median(difference) < 1e-5
        assert np.quantile(difference, 0.95) < 0.03
        assert np.quantile(difference, 0.99) < 0.1


@pytest.mark.parametrize("handedness", [1, -1])
def test_a_rotated_or_mirrored_crystal(records, handedness):
    matrix, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    matrix *= handedness * np.sign(np.linalg.det(matrix))
    for record in records:
        lattice = record["lattice"].astype(np.float64) @ matrix
        found = invariants(record["density"], lattice, record["positions"])
        _same(found, record_invariants(record))


def _tiled(record: dict, times: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    copies = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), -1).reshape(-1, 3)
    positions = (record["positions"] + copies[:, None]).reshape(-1, 3) / times
    lattice = record["lattice"] * np.array(times)[:, None]
    return np.tile(record["density"], (*times, 1)), lattice, positions


@pytest.mark.parametrize("times", [(2, 2, 2), (1, 1, 3), (2, 1, 1)])
def test_a_supercell(records, times):
    for record in records[:4]:
        _same(invariants(*_tiled(record, times)), record_invariants(record))


@pytest.mark.parametrize(
    "basis",
    [[[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
     [[2, 1, 0], [1, 1, 0], [3, -2, 1]], [[-1, 0, 0], [0, 1, 0], [1, 0, 1]]],
)
def test_other_vectors_that_span_the_cell(records, basis):
    basis = np.array(basis)
    assert abs(round(np.linalg.det(basis))) == 1
    points = np.stack(np.meshgrid(*[np.arange(GRID)] * 3, indexing="ij"), -1)
    i, j, k = np.moveaxis(points @ basis % GRID, -1, 0)  # the same points of space
    for record in records:
        lattice = basis @ record["lattice"].astype(np.float64)
        positions = record["positions"].astype(np.float64) @ np.linalg.inv(basis)
        found = invariants(record["density"][i, j, k], lattice, positions)
        _same(found, record_invariants(record))


def test_atoms_in_another_order_or_cell(records):
    for record in records:
        positions = record["positions"][::-1] + np.array([1.0, -2.0, 0.0])
        found = invariants(record["density"], record["lattice"], positions)
        _same(found, record_invariants(record))


def test_without_atoms_the_other_blocks_stand(records):
    record = records[0]
    found = invariants(record["density"], record["lattice"], np.zeros((0, 3)))
    atoms = len(BLOCKS["atoms"])
    assert np.isnan(found[-atoms:]).all()
    _same(found[:-atoms], record_invariants(record)[:-atoms])


def test_spin_is_seen_and_its_sign_is_not(records):
    magnetic = records[-1]
    assert magnetic["density"].shape[-1] == 2
    found = record_invariants(magnetic)
    flipped = magnetic["density"] * np.array([1, -1], np.float32)
    np.testing.assert_array_equal(
        invariants(flipped, magnetic["lattice"], magnetic["positions"]), found
    )
    names = list(NAMES)
    place = names.index("|integral m| per electron [μB/e]")
    moment = abs(magnetic["density"][..., 1].mean() / magnetic["density"][..., 0].mean())
    assert found[place] == pytest.approx(moment, rel=1e-5)
    assert record_invariants(records[0])[place] == 0


# Analytic: one Gaussian of N electrons, rho = N (a / pi)^(3/2) exp(-a r^2), in a cube of L.
N, A, L = 60.0, 1.6, 9.0
MADELUNG = 2.837297  # of point charges in a cube, each with its background


@pytest.fixture(scope="module")
def gaussian() -> dict[str, float]:
    size = 40
    x = np.arange(size) / size * L
    x = np.minimum(x, L - x)
    line = np.exp(-A * x**2)
    rho = N * (A / np.pi) ** 1.5 * np.einsum("i,j,k->ijk", line, line, line)
    found = invariants(rho[..., None], np.eye(3) * L, np.zeros((1, 3)))
    return dict(zip(NAMES, found.astype(float), strict=True))


def test_energies_of_a_gaussian(gaussian):
    volume = L**3
    hartree = 14.399645 / 2 * N * (
        np.sqrt(2 * A / np.pi) - MADELUNG / L + 2 * np.pi / (A * volume)
    )
    assert gaussian["ln(Hartree energy per electron) [eV]"] == pytest.approx(
        np.log(hartree), abs=1e-3
    )
    weizsaecker = 7.619964 / 8 * 6 * A
    assert gaussian["ln(Weizsaecker energy per electron) [eV]"] == pytest.approx(
        np.log(weizsaecker), abs=5e-3
    )
    assert gaussian["ln(V / N) [Å^3/e]"] == pytest.approx(np.log(volume / N), abs=1e-5)
    moment = N * (A / (2 * np.pi)) ** 1.5
    assert gaussian["ln(<rho^2> / <rho>)"] == pytest.approx(np.log(moment), abs=1e-4)


def test_surroundings_of_a_gaussian(gaussian):
    peak = N * (A / np.pi) ** 1.5
    for r in (0.0, 0.6, 1.4):
        name = f"mean over atoms of ln mean of rho at {r:.1f} Å [e/Å^3]"
        assert gaussian[name] == pytest.approx(np.log(peak) - A * r**2, abs=1e-3)
    for r in (0.4, 1.0, 2.0):
        root = np.sqrt(A) * r
        charge = N * (erf(root) - 2 / np.sqrt(np.pi) * root * np.exp(-(root**2)))
        name = f"maximum over atoms of ln charge within {r:.1f} Å [e]"
        assert gaussian[name] == pytest.approx(np.log(charge), abs=1e-3)
    potential = 14.399645 * N * (2 * np.sqrt(A / np.pi) - MADELUNG / L + np.pi / (A * L**3))
    assert gaussian["mean over atoms of potential at 0.0 Å [eV]"] == pytest.approx(
        potential, rel=1e-4
    )
    # A sphere sees no direction: spread and angular power are at their floor.
    assert gaussian["mean over atoms of ln U_1 at 0.6 Å [e/Å^3]"] == pytest.approx(
        np.log(1e-3), abs=0.3
    )


def test_angular_power_and_gradient_of_one_wave():
    """rho = 1 + b cos(k r): every degree above 0 sees the wave alone."""
    size, length, b = 24, 5.0, 0.3
    lattice = np.array([[length, 0, 0], [1.0, 4.0, 0], [0.5, 0.7, 6.0]])
    index = np.array([1, -1, 2])
    points = np.stack(np.meshgrid(*[np.arange(size) / size] * 3, indexing="ij"), -1)
    rho = 1 + b * np.cos(2 * np.pi * points @ index)
    k = np.linalg.norm(2 * np.pi * np.linalg.inv(lattice) @ index)
    place = np.array([[0.1, 0.25, 0.6]])
    found = dict(zip(NAMES, invariants(rho[..., None], lattice, place), strict=True))
    phase = 2 * np.pi * place[0] @ index
    for width in (0.4, 0.9):
        scaled = k * width
        for degree in (1, 2, 3):
            part = np.sin(phase) if degree % 2 else np.cos(phase)
            expected = abs(b * scaled**degree * np.exp(-(scaled**2) / 2) * part)
            name = f"mean over atoms of ln U_{degree} at {width} Å [e/Å^3]"
            assert found[name] == pytest.approx(np.log(expected + 1e-3), abs=1e-3)
    field = make_field(rho, lattice)
    *gradient, laplacian = field.derivatives()
    slope = np.linalg.norm(gradient, axis=0)
    assert slope.max() == pytest.approx(b * k, rel=1e-3)
    assert np.abs(laplacian).max() == pytest.approx(b * k**2, rel=1e-3)
    shells = [v for n, v in found.items() if n.startswith("ln(power")]
    assert np.exp(shells).sum() == pytest.approx(b**2 / 2, rel=1e-3)  # the variance of rho


def test_harmonics_are_the_legendre_kernel():
    """sum_m Y_lm(a) Y_lm(b) = P_l(a . b), which has no preferred axis."""
    vectors = np.random.default_rng(0).normal(size=(3, 20))
    vectors /= np.linalg.norm(vectors, axis=0)
    cosine = vectors.T @ vectors
    for degree in range(4):
        values = real_harmonics(degree, vectors)
        legendre = np.polynomial.legendre.Legendre.basis(degree)(cosine)
        np.testing.assert_allclose(values.T @ values, legendre, atol=1e-12)


def test_soft_histogram_shares_a_point_between_its_neighbours():
    nodes = np.linspace(0.0, 4.0, 5)
    shares = soft_histogram(np.array([1.25, 9.0, -3.0]), nodes, np.array([2.0, 1.0, 1.0]))
    np.testing.assert_allclose(shares, [0.25, 0.375, 0.125, 0, 0.25], atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        invariants(np.ones(shape), np.eye(3), np.zeros((1, 3)))
