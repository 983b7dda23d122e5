"""Proxies see no row of a system that they predict: against loops that leave it out."""

import numpy as np
from sklearn.kernel_ridge import KernelRidge

from densityjax.modules.proxies import (
    _OFFSET,
    cosines,
    find_proxies,
    mean_predictions,
    neighbour_predictions,
    ridge_predictions,
    without_system,
)


def _rows(rows: int = 14):
    draw = np.random.default_rng(0)
    embedding, labels = draw.normal(size=(rows, 5)), draw.normal(size=(rows, 2))
    systems = np.array(list("abcdeabcdefghi"))[:rows]
    return embedding, labels, systems


def test_neighbours_are_those_of_a_loop():
    embedding, labels, systems = _rows()
    cosine = cosines(embedding)
    found = neighbour_predictions(without_system(cosine, systems), labels, 3, 0.2)
    for row in range(len(labels)):
        others = np.flatnonzero(systems != systems[row])
        nearest = others[np.argsort(-cosine[row, others])[:3]]
        weight = np.exp(cosine[row, nearest] / 0.2)
        np.testing.assert_allclose(found[row], weight @ labels[nearest] / weight.sum())
    few = neighbour_predictions(without_system(cosine, systems), labels, 99, 0.2)
    assert np.isfinite(few).all()


def test_kernel_ridge_is_that_of_fits_without_the_system():
    embedding, labels, systems = _rows()
    cosine = cosines(embedding)
    found = ridge_predictions(cosine, systems, labels, 0.5, 0.1)
    means = mean_predictions(systems, labels)
    kernel = np.exp((cosine - 1) / 0.5) + _OFFSET
    for name in np.unique(systems):
        out, others = (np.flatnonzero(own) for own in (systems == name, systems != name))
        model = KernelRidge(alpha=0.1, kernel="precomputed")
        model.fit(kernel[np.ix_(others, others)], labels[others])
        expected = model.predict(kernel[np.ix_(out, others)])
        np.testing.assert_allclose(found[out], expected, atol=1e-9)
        np.testing.assert_allclose(means[out], np.tile(labels[others].mean(0), (len(out), 1)))


def test_the_module_that_knows_the_target_errs_least():
    draw = np.random.default_rng(1)
    hidden = draw.normal(size=(60, 3))
    labels = np.tanh(hidden[:, :1])
    embeddings = np.stack([draw.normal(size=(60, 3)), hidden])
    found = find_proxies(
        embeddings, labels, np.arange(60).astype(str), neighbours=(3, 5), temperatures=(0.2, 1.0),
        ridges=(0.1,),
    )
    for own in found.values():
        assert own.errors[1] < 0.8 * own.errors[0]
        assert own.predictions.shape == (2, 60, 1)
