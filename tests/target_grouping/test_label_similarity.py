import numpy as np
import pytest

from densityjax.target_grouping.columns import Column, GroupingError, resample_systems
from densityjax.target_grouping.label_similarity import compare_labels, compare_resamples
from densityjax.target_grouping.measures import HALF_SAMPLED, MEASURES
from tests.target_grouping.labels import BULK, METAL, SHEAR, SYSTEM, shipped_columns


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES)
def test_p_values_tell_dependence_from_none(measure):
    rng = np.random.default_rng(3)
    x = rng.standard_normal(150)
    classes = np.digitize(x + 0.5 * rng.standard_normal(150), [-0.7, 0.0, 0.7])
    columns = [
        Column(BULK, x), Column(SHEAR, x + rng.standard_normal(150)), Column(SYSTEM, classes),
        Column(METAL, (x > 0).astype(int)), Column(BULK, rng.standard_normal(150)),
        Column(METAL, rng.integers(0, 2, 150)),
    ]
    result = compare_labels(columns, measure, permutations=99, seed=0)
    assert np.all(result.p[:4, :4] <= 0.01 + 1e-12)
    assert np.all(result.p[:4, 4:] > 0.03)
    assert np.all(result.p[np.triu_indices(6, 1)] >= 0.01 - 1e-12)  # (1 + 0) / (1 + 99) at least
    again = compare_labels(columns, measure, permutations=99, seed=0)
    np.testing.assert_array_equal(result.p, again.p)
    np.testing.assert_array_equal(result.values, again.values)
    np.testing.assert_array_equal(result.values, result.values.T)
    assert np.all((result.values >= 0) & (result.values <= 1))


def test_p_values_are_uniform_without_dependence():
    """A valid test rejects at most as often as it says: 200 pairs of unrelated labels."""
    rng = np.random.default_rng(4)
    p = []
    for _ in range(200):
        columns = [Column(METAL, rng.integers(0, 2, 30)), Column(METAL, rng.integers(0, 2, 30))]
        p.append(compare_labels(columns, "pearson", permutations=39, seed=0).p[0, 1])
    assert np.mean(np.array(p) <= 0.05) <= 0.09
    assert np.mean(np.array(p) <= 0.5) <= 0.6


def test_unrelated_labels_have_no_information_and_no_small_p():
    """The estimate is 0, and so is that of half of the permutations: nothing speaks for one."""
    rng = np.random.default_rng(6)
    columns = [Column(BULK, rng.standard_normal(200)) for _ in range(5)]
    result = compare_labels(columns, "mutual_information", permutations=99, seed=0)
    nothing = result.values == 0
    assert nothing.any()
    assert np.all(result.p[nothing] == 1)


@pytest.mark.parametrize("measure", MEASURES)
def test_resample_is_the_comparison_of_its_rows(measure):
    columns, systems = shipped_columns(["bulk_modulus", "density", "is_metal", "crystal_system"])
    half = measure in HALF_SAMPLED
    counts = resample_systems(systems, 3, 7, half)
    result = compare_resamples(columns, measure, counts, seed=0)
    for number, count in enumerate(counts):
        rows = np.repeat(np.arange(len(count)), count)
        moved = [c.take(rows) for c in columns]
        expected = compare_labels(moved, measure, permutations=0, seed=0).values
        np.testing.assert_allclose(result[number] ** 2, expected**2, atol=1e-9)
    if half:
        with pytest.raises(ValueError, match="copy"):
            compare_resamples(columns, measure, counts * 2, seed=0)


def test_large_pairs_are_drawn_with_a_seed():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(3000)
    columns = [Column(BULK, x), Column(SHEAR, x + rng.standard_normal(3000))]
    options = dict(permutations=0, max_materials=300)
    for measure in HALF_SAMPLED:
        a, b, other = (
            compare_labels(columns, measure, seed=s, **options).values[0, 1] for s in (0, 0, 1)
        )
        assert a == b != other
        assert a == pytest.approx(0.69, abs=0.12)


def test_errors():
    x = np.arange(40.0)
    few = Column(SHEAR, np.where(x < 19, x, np.nan))
    with pytest.raises(GroupingError, match="share 19 labelled materials"):
        compare_labels([Column(BULK, x), few], "pearson", permutations=9, seed=0)
    with pytest.raises(GroupingError, match="unknown similarity 'kendall'"):
        compare_labels([Column(BULK, x), Column(SHEAR, x)], "kendall", permutations=0, seed=0)
