"""The arrays say what scikit-learn's trees say, in float32."""

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from densityjax.results.forest import Forest, fit_forest


def test_the_arrays_say_what_scikit_learn_says():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(80, 6)).astype(np.float32)
    labels, weights = columns[:, 0] ** 2 + rng.normal(size=80), rng.uniform(0.2, 1, 80)
    forest = fit_forest(columns, labels, weights, trees=7, seed=3)
    known = ExtraTreesRegressor(7, min_samples_leaf=5, max_features=0.4, random_state=3)
    known.fit(columns, labels, sample_weight=weights)
    other = rng.normal(size=(30, 6)).astype(np.float32)
    again = Forest.from_arrays(forest.arrays())
    np.testing.assert_allclose(again.predict(other), known.predict(other), rtol=1e-6)
