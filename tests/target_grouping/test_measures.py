import itertools

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import cdist

from densityjax.target_grouping.columns import Column, GroupingError
from densityjax.target_grouping.label_similarity import compare_labels
from densityjax.target_grouping.measures import MEASURES, get_measure, mutual_information
from tests.target_grouping.labels import BULK, SHEAR, SYSTEM, real_columns, value


@pytest.fixture(scope="module")
def real() -> list[Column]:
    return real_columns()


def shared(a: Column, b: Column) -> tuple[np.ndarray, np.ndarray]:
    rows = a.labelled & b.labelled
    return a.values[rows], b.values[rows]


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


def test_mutual_information_of_normal_variables_is_their_correlation():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 2))
    y = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    found = value(Column(BULK, x[:, 0]), Column(SHEAR, y), "mutual_information")
    assert found == pytest.approx(0.8, abs=0.03)


def test_mutual_information_of_classes_that_values_give_is_their_entropy():
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], [300, 200, 100])
    values = 100.0 * classes + rng.uniform(size=600)
    entropy = -sum(p * np.log(p) for p in (1 / 2, 1 / 3, 1 / 6))
    expected = np.sqrt(1 - np.exp(-2 * entropy))
    found = value(Column(SYSTEM, classes), Column(BULK, values), "mutual_information")
    assert found == pytest.approx(expected, abs=1e-3)  # digamma(n) in place of log(n)
    same = value(Column(SYSTEM, classes), Column(SYSTEM, classes), "mutual_information")
    assert same == pytest.approx(expected, abs=1e-12)


def test_mutual_information_of_few_materials():
    """Fewer others than neighbours asked for; classes of one material each."""
    order = np.arange(5)[None]
    x = Column(BULK, np.array([0.1, 0.5, 0.2, 0.9, 0.4]))
    for b in (Column(SHEAR, x.values**2), Column(SHEAR, -x.values)):
        assert np.isfinite(mutual_information(x, b, order, 100, 0)).all()
    assert mutual_information(Column(SYSTEM, np.arange(5)), x, order, 3, 0) == [0.0]
    classes = Column(SYSTEM, np.array([0, 1, 1, 2, 1]))
    assert np.isfinite(mutual_information(classes, x, order, 3, 0)).all()


@pytest.mark.parametrize("name", MEASURES)
def test_orders_are_those_of_the_second_column(real, name):
    """A measure in an order is the measure of labels that were put in this order before."""
    rows = np.flatnonzero(np.all([c.labelled for c in real], axis=0))[:60]
    rng = np.random.default_rng(1)
    columns = [
        # Without equal labels, whose order in mutual information is of chance.
        c.take(rows) if c.is_class
        else Column(c.spec, c.values[rows] + 1e-3 * np.std(c.values[rows]) * rng.random(60))
        for c in real
    ]
    orders = rng.permuted(np.tile(np.arange(60), (5, 1)), axis=1)
    measure = get_measure(name, 3, 0)
    for i, j in itertools.combinations(range(len(columns)), 2):
        a, b = (columns[j], columns[i]) if columns[j].is_class else (columns[i], columns[j])
        together = measure(a, b, orders)
        alone = [measure(a, b.take(order), np.arange(60)[None])[0] for order in orders]
        # scikit-learn's distances within classes of few materials have few digits.
        tolerance = 2e-2 if name == "mutual_information" else 1e-9
        np.testing.assert_allclose(together, alone, atol=tolerance)


def test_unknown_measure():
    with pytest.raises(GroupingError, match="unknown similarity 'kendall'; of labels: pearson"):
        get_measure("kendall", 3, 0)
