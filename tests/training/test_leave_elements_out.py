"""Left out in closed form is left out."""

import numpy as np

from densityjax.results import gaussian_process as gp


def test_groups_left_out_are_predicted_by_the_process_of_the_others():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    labels -= labels.mean()
    settings = gp.Settings({"a": 0.6}, {}, 0.1, 0.0)
    apart = {"a": gp.distances("laplacian", features, features)}
    process = gp.fit_process("laplacian", settings, apart, labels)
    groups = [np.array([3]), np.arange(5, 17)]
    for rows, errors in zip(groups, gp.leave_groups_out(process, apart, groups), strict=True):
        rest = np.setdiff1d(np.arange(40), rows)
        kernel = np.exp(-0.6 * apart["a"])
        known = kernel[np.ix_(rest, rest)] + 0.1 * np.eye(len(rest))
        said = kernel[np.ix_(rows, rest)] @ np.linalg.solve(known, labels[rest])
        np.testing.assert_allclose(errors, labels[rows] - said, rtol=1e-5, atol=1e-7)
