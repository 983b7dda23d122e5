import csv
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import cdist
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score, r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from densityjax.target_grouping import similarity
from densityjax.target_grouping.similarity import (
    Column,
    GroupingError,
    compare_labels,
    compare_resamples,
)
from densityjax.targets import CRYSTAL_SYSTEMS, get_specs

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
BULK, SHEAR, METAL, SYSTEM = get_specs(
    ["bulk_modulus", "shear_modulus", "is_metal", "crystal_system"]
)


def shipped_columns(names, folds=(2, 3, 4)) -> tuple[list[Column], np.ndarray]:
    """(labels of these targets as shipped, chemical systems) of the materials of some folds."""
    with tarfile.open(SHIPPED) as archive:
        rows = csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines())
        rows = [row for row in rows if int(row["fold"]) in folds]
    columns = []
    for spec in get_specs(names):
        if spec.name == "crystal_system":
            values = np.array([CRYSTAL_SYSTEMS.index(row[spec.name]) for row in rows])
        elif spec.kind == "classification":
            values = np.array([int(row[spec.name] or -1) for row in rows])
        else:
            values = np.array([float(row[spec.name] or "nan") for row in rows])
        columns.append(Column(spec, values))
    return columns, np.array([row["chemical_system"] for row in rows])


@pytest.fixture(scope="module")
def real() -> list[Column]:
    """Values with ties and gaps (Debye temperature), two and seven classes; 491 materials."""
    names = ["bulk_modulus", "band_gap", "debye_temperature", "is_metal", "crystal_system"]
    return shipped_columns(names)[0]


def shared(a: Column, b: Column) -> tuple[np.ndarray, np.ndarray]:
    rows = a.labelled & b.labelled
    return a.values[rows], b.values[rows]


def value(a: Column, b: Column, measure: str, seed: int = 0, **options) -> float:
    return compare_labels([a, b], measure, permutations=0, seed=seed, **options).values[0, 1]


def nats(a: Column, b: Column, **options) -> float:
    """Mutual information, from the similarity made of it."""
    return -np.log1p(-(value(a, b, "mutual_information", **options) ** 2)) / 2


def correlation_ratio(classes, values):
    """Square root of the F test's between-group share of the variance."""
    groups = [values[classes == k] for k in np.unique(classes)]
    f = scipy.stats.f_oneway(*groups).statistic
    between, within = len(groups) - 1, len(values) - len(groups)
    return np.sqrt(f * between / (f * between + within))


def test_correlations_of_values_against_scipy(real):
    bulk, gap, debye = real[:3]
    for a, b in itertools.combinations((bulk, gap, debye), 2):
        x, y = shared(a, b)
        expected = scipy.stats.pearsonr(x, y).statistic
        assert value(a, b, "pearson") == pytest.approx(abs(expected), abs=1e-12)
        expected = scipy.stats.spearmanr(x, y).statistic
        assert value(a, b, "spearman") == pytest.approx(abs(expected), abs=1e-12)
        signed = compare_labels([a, b], "spearman", permutations=0, seed=0).signed
        assert signed[0, 1] == signed[1, 0] == pytest.approx(expected)


@pytest.mark.parametrize("number", [3, 4])
def test_class_and_value_against_scipy(real, number):
    for column in real[:3]:
        classes, values = shared(real[number], column)
        expected = correlation_ratio(classes, values)
        assert value(real[number], column, "pearson") == pytest.approx(expected)
        assert value(column, real[number], "pearson") == pytest.approx(expected)
        h = scipy.stats.kruskal(*(values[classes == k] for k in np.unique(classes))).statistic
        expected = np.sqrt(h / (len(values) - 1))
        assert value(column, real[number], "spearman") == pytest.approx(expected)


def test_cramers_v_is_bergsmas(real):
    a, b = shared(real[3], real[4])
    table = scipy.stats.contingency.crosstab(a, b).count
    chi2, n, (r, c) = scipy.stats.chi2_contingency(table, correction=False)[0], len(a), table.shape
    phi2 = max(0, chi2 / n - (r - 1) * (c - 1) / (n - 1))
    r, c = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    for measure in ("pearson", "spearman"):
        expected = np.sqrt(phi2 / (min(r, c) - 1))
        assert value(real[3], real[4], measure) == pytest.approx(expected)
    assert value(real[3], real[3], "pearson") == pytest.approx(1, abs=1e-3)


def u_centred(d):
    n = len(d)
    centred = d - d.sum(0) / (n - 2) - d.sum(1)[:, None] / (n - 2) + d.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return centred


def test_distance_correlation_by_centred_matrices(real):
    for a, b in itertools.combinations(real, 2):
        d = [
            cdist(v[:, None], v[:, None], "hamming" if c.is_class else "cityblock")
            for c, v in zip((a, b), shared(a, b), strict=True)
        ]
        x, y = map(u_centred, d)
        expected = np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y))
        assert value(a, b, "distance_correlation") == pytest.approx(np.sqrt(max(0, expected)))


def test_distance_correlation_of_normal_variables():
    """Székely (2007), theorem 7: the population value for correlation 0.5."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 2))
    y = 0.5 * x[:, 0] + np.sqrt(0.75) * x[:, 1]
    r = 0.5
    square = (
        r * np.arcsin(r) + np.sqrt(1 - r**2) - r * np.arcsin(r / 2) - np.sqrt(4 - r**2) + 1
    ) / (1 + np.pi / 3 - np.sqrt(3))
    found = value(Column(BULK, x[:, 0]), Column(SHEAR, y), "distance_correlation")
    assert found == pytest.approx(np.sqrt(square), abs=0.04)
    independent = value(Column(BULK, x[:, 0]), Column(SHEAR, x[:, 1]), "distance_correlation")
    assert independent < 0.05


def test_mutual_information_against_sklearn(real):
    for a, b in itertools.combinations(real, 2):
        x, y = shared(a, b)
        if a.is_class:
            assert nats(a, b) == pytest.approx(mutual_info_score(x, y))
            continue
        sklearn = mutual_info_classif if b.is_class else mutual_info_regression
        # Equal labels are ordered by seeded noise: where there are many, compare means.
        values = (x,) if b.is_class else (x, y)
        ties = any(len(np.unique(v)) < 0.9 * len(v) for v in values)
        for k in (3, 6):
            seeds = range(5 if ties else 1)
            expected = [sklearn(x[:, None], y, n_neighbors=k, random_state=s)[0] for s in seeds]
            found = [nats(a, b, neighbours=k, seed=s) for s in seeds]
            tolerance = 0.03 if ties else 2e-3  # some labels are equal in the others too
            assert np.mean(found) == pytest.approx(np.mean(expected), abs=tolerance), (a, b)


def test_mutual_information_of_normal_variables_is_their_correlation():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 2))
    y = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    found = value(Column(BULK, x[:, 0]), Column(SHEAR, y), "mutual_information")
    assert found == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("measure", similarity.MEASURES)
def test_p_values_are_those_of_a_slow_permutation_test(real, measure):
    """Each permuted value must be what permuting the labels and comparing anew gives."""
    rows = np.flatnonzero(np.all([c.labelled for c in real], axis=0))[:60]
    columns = [c.take(rows) for c in real]
    for i, j in itertools.combinations(range(len(columns)), 2):
        pair, _ = similarity._pair(columns, i, j, measure, 0, 3, 2000)
        orders = np.random.default_rng(1).permuted(np.tile(np.arange(60), (5, 1)), axis=1)
        fast = [pair.similarity(raw) for raw in pair.permuted(orders)]
        second = j if columns[i].is_class or not columns[j].is_class else i
        slow = []
        for order in orders:
            moved = list(columns)
            moved[second] = moved[second].take(order)
            slow.append(value(moved[min(i, j)], moved[max(i, j)], measure))
        if measure == "mutual_information" and 1 in (i, j):
            continue  # band gaps of 0 are ordered by noise, which differs between the two
        np.testing.assert_allclose(np.square(fast), np.square(slow), atol=1e-6)


@pytest.mark.parametrize("measure", similarity.MEASURES)
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


def test_adjusted_p_values_by_hand():
    p = np.array([[0, 0.01, 0.04], [0.01, 0, 0.03], [0.04, 0.03, 0]])
    expected = np.array([[0, 0.03, 0.04], [0.03, 0, 0.04], [0.04, 0.04, 0]])
    np.testing.assert_allclose(similarity.adjust(p), expected)
    np.testing.assert_array_equal(similarity.adjust(np.zeros((1, 1))), [[0]])


@pytest.mark.parametrize("measure", similarity.MEASURES)
def test_resample_is_the_comparison_of_its_rows(real, measure):
    columns, systems = shipped_columns(["bulk_modulus", "density", "is_metal", "crystal_system"])
    half = measure in similarity.HALF_SAMPLED
    counts = similarity.resample_systems(systems, 3, 7, half)
    result = compare_resamples(columns, measure, counts, seed=0)
    for number, count in enumerate(counts):
        rows = np.repeat(np.arange(len(count)), count)
        moved = [c.take(rows) for c in columns]
        expected = compare_labels(moved, measure, permutations=0, seed=0).values
        # The noise that orders equal labels differs between the two.
        tolerance = 1e-3 if measure == "mutual_information" else 1e-9
        np.testing.assert_allclose(result[number] ** 2, expected**2, atol=tolerance)
    if half:
        with pytest.raises(ValueError, match="copy"):
            compare_resamples(columns, measure, counts * 2, seed=0)


def test_resamples_move_systems_as_a_whole():
    systems = np.array(["A", "B", "B", "C", "D", "D", "E"])
    for half in (True, False):
        counts = similarity.resample_systems(systems, 500, 0, half)
        assert np.all(counts[:, 1] == counts[:, 2])
        assert np.all(counts[:, 4] == counts[:, 5])
        drawn = counts[:, [0, 1, 3, 4, 6]].sum(1)
        assert set(drawn) == {2 if half else 5}
        assert counts.max() == (1 if half else counts.max())
    assert counts[:, 0].mean() == pytest.approx(1, abs=0.15)


def test_large_pairs_are_drawn_with_a_seed():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(3000)
    columns = [Column(BULK, x), Column(SHEAR, x + rng.standard_normal(3000))]
    options = dict(permutations=0, max_materials=300)
    for measure in similarity.HALF_SAMPLED:
        a, b, other = (
            compare_labels(columns, measure, seed=s, **options).values[0, 1] for s in (0, 0, 1)
        )
        assert a == b != other
        assert a == pytest.approx(0.69, abs=0.12)


def test_overlap_counts_and_flags():
    x = np.arange(100.0)
    a, b, c = x.copy(), x.copy(), x.copy()
    a[80:], b[:20], c[:60] = np.nan, np.nan, np.nan
    overlap = similarity.find_overlap([Column(BULK, a), Column(SHEAR, b), Column(BULK, c)])
    np.testing.assert_array_equal(overlap.shared, [[80, 60, 20], [60, 80, 40], [20, 40, 40]])
    assert overlap.fraction[0, 1] == pytest.approx(0.6)
    assert overlap.fraction[0, 2] == pytest.approx(0.2)
    assert np.argwhere(overlap.low).tolist() == [[0, 2], [2, 0]]


def test_errors_name_targets_and_remedy():
    x = np.arange(40.0)
    few = np.where(x < 19, x, np.nan)
    match = "'bulk_modulus' and 'shear_modulus' share 19 labelled materials .* needs 20: leave one"
    with pytest.raises(GroupingError, match=match):
        compare_labels([Column(BULK, x), Column(SHEAR, few)], "pearson", permutations=9, seed=0)
    with pytest.raises(GroupingError, match="'is_metal' has 40 labels and no two different"):
        similarity.find_overlap([Column(BULK, x), Column(METAL, np.ones(40, int))])
    part = np.where(x < 25, x, np.nan)
    metal = (x >= 30).astype(int)
    match = "'is_metal' has no two different labels among the 25 materials .* with 'bulk_modulus'"
    with pytest.raises(GroupingError, match=match):
        similarity.find_overlap([Column(BULK, part), Column(METAL, metal)])
    with pytest.raises(GroupingError, match="unknown similarity 'kendall'"):
        compare_labels([Column(BULK, x), Column(SHEAR, x)], "kendall", permutations=0, seed=0)


@pytest.mark.parametrize("name", ["bulk_modulus", "is_metal", "crystal_system"])
def test_transfer_is_sklearns_leave_one_out(name):
    column = shipped_columns([name])[0][0].take(np.arange(120))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((120, 4)) * [1, 100, 0.01, 1] + 5
    features[:, 0] += 2 * column.values / np.std(column.values)
    column.values[:7] = -1 if column.is_class else np.nan
    found = similarity.transfer(features, column, 5)
    model = KNeighborsClassifier(5) if column.is_class else KNeighborsRegressor(5)
    x, y = features[7:], column.values[7:]
    # The scaler sees all rows, as the function's does.
    x = StandardScaler().fit_transform(x)
    predicted = cross_val_predict(make_pipeline(model), x, y, cv=LeaveOneOut())
    if column.is_class:
        expected = max(0, balanced_accuracy_score(y, predicted, adjusted=True))
    else:
        expected = max(0, r2_score(y, predicted))
    assert found.skill() == pytest.approx(expected)
    assert found.skill() > 0.05
    counts = rng.integers(0, 3, 113)
    rows = np.repeat(np.arange(113), counts)
    if column.is_class:
        expected = max(0, balanced_accuracy_score(y[rows], predicted[rows], adjusted=True))
    else:
        expected = max(0, r2_score(y[rows], predicted[rows]))
    assert found.skill(counts) == pytest.approx(expected)


def test_transfer_matrix_has_a_direction():
    """Features of the first target hold both labels, those of the second only its own."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 200))
    columns = [Column(BULK, x), Column(SHEAR, y), Column(METAL, (x > 0).astype(int))]
    features = {
        "bulk_modulus": np.stack([x, y], 1), "shear_modulus": y[:, None],
        "is_metal": rng.standard_normal((200, 2)),
    }
    counts = np.ones((2, 200), int)
    result, resampled = similarity.compare_transfer(
        features, columns, permutations=99, seed=0, counts=counts
    )
    assert result.directed[0, 1] > 0.8
    assert result.directed[1, 0] < 0.1
    assert result.values[0, 1] == pytest.approx((result.directed[0, 1] + result.directed[1, 0]) / 2)
    np.testing.assert_allclose(resampled, [result.values] * 2)
    assert result.p[0, 1] == result.p[0, 2] == 0.01
    assert result.p[1, 2] > 0.03
    with pytest.raises(GroupingError, match="the same for all materials"):
        similarity.transfer(np.ones((200, 3)), columns[0])


def test_series_by_hand():
    series = np.zeros((4, 2, 2))
    series[:, 0, 0], series[:, 1, 1] = 0.2, 0.4
    series[:, 0, 1] = [0.1, 0.2, 0.3, 0.2]  # effect of steps on the first on the second's loss
    series[:, 1, 0] = 0.1
    result = similarity.compare_series(series, scale_columns=True, permutations=999, seed=0)
    np.testing.assert_allclose(result.directed, [[1, 0.5], [0.5, 1]])
    assert result.values[0, 1] == pytest.approx(0.5)
    assert result.p[0, 1] == 1 / 16  # of all 2^4 flips only the observed one
    worse = similarity.compare_series(-series, scale_columns=True, permutations=999, seed=0)
    assert worse.values[0, 1] == 0
    assert worse.signed[0, 1] == pytest.approx(-0.5)
    assert worse.p[0, 1] == 1
    long = similarity.compare_series(
        np.tile(series, (10, 1, 1)), scale_columns=False, permutations=199, seed=0
    )
    assert long.p[0, 1] == 1 / 200
    assert long.values[0, 1] == pytest.approx(0.15)
