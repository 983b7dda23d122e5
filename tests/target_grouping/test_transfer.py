import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from densityjax.target_grouping.columns import Column, GroupingError
from densityjax.target_grouping.transfer import compare_transfer, transfer
from tests.target_grouping.labels import BULK, METAL, SHEAR, shipped_columns


@pytest.mark.parametrize("name", ["bulk_modulus", "is_metal", "crystal_system"])
def test_transfer_is_sklearns_leave_one_out(name):
    column = shipped_columns([name])[0][0].take(np.arange(120))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((120, 4)) * [1, 100, 0.01, 1] + 5
    features[:, 0] += 2 * column.values / np.std(column.values)
    column.values[:7] = -1 if column.is_class else np.nan
    found = transfer(features, column, 5)
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
    result, resampled = compare_transfer(
        features, columns, permutations=99, seed=0, counts=counts
    )
    assert result.directed[0, 1] > 0.8
    assert result.directed[1, 0] < 0.1
    assert result.values[0, 1] == pytest.approx((result.directed[0, 1] + result.directed[1, 0]) / 2)
    np.testing.assert_allclose(resampled, [result.values] * 2)
    assert result.p[0, 1] == result.p[0, 2] == 0.01
    assert result.p[1, 2] > 0.03
    with pytest.raises(GroupingError, match="the same for all materials"):
        transfer(np.ones((200, 3)), columns[0])
