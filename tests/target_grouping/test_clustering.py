import itertools

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

from densityjax.runtime.errors import ConfigError
from densityjax.target_grouping.clustering import cluster, measure_stability
from densityjax.target_grouping.columns import GroupingError

BLOCKS = np.array(
    [
        [1.0, 0.2, 0.9, 0.1, 0.2],
        [0.2, 1.0, 0.1, 0.8, 0.7],
        [0.9, 0.1, 1.0, 0.2, 0.1],
        [0.1, 0.8, 0.2, 1.0, 0.75],
        [0.2, 0.7, 0.1, 0.75, 1.0],
    ]
)


def random_similarity(seed: int, size: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((size, size))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1)
    return values


def as_groups(labels) -> tuple:
    return tuple(sorted(tuple(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)))


def test_blocks_are_found():
    result = cluster(BLOCKS)
    assert result.groups == ((0, 2), (1, 3, 4))
    assert set(result.silhouettes) == {2, 3, 4}
    assert result.linkage.shape == (4, 4)
    assert result.linkage[0, 2] == pytest.approx(0.1)  # height of the first merge: 1 - 0.9
    # Average linkage: the mean of the six distances between the groups.
    expected = 1 - np.mean([BLOCKS[i, j] for i, j in itertools.product((0, 2), (1, 3, 4))])
    assert result.linkage[-1, 2] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_every_cut_against_sklearn(seed):
    similarity = random_similarity(seed, 8)
    distance = 1 - similarity
    scores = {}
    for k in range(2, 8):
        model = AgglomerativeClustering(k, metric="precomputed", linkage="average")
        labels = model.fit_predict(distance)
        assert cluster(similarity, k).groups == as_groups(labels)
        scores[k] = silhouette_score(distance, labels, metric="precomputed")
    result = cluster(similarity)
    assert result.silhouettes == pytest.approx(scores)
    assert len(result.groups) == max(scores, key=scores.get)


def test_ends_and_small_numbers():
    assert cluster(BLOCKS, 1).groups == ((0, 1, 2, 3, 4),)
    assert cluster(BLOCKS, 5).groups == ((0,), (1,), (2,), (3,), (4,))
    assert cluster(np.ones((1, 1))).groups == ((0,),)
    pair = np.array([[1, 0.1], [0.1, 1]])
    assert cluster(pair).groups == ((0, 1),)
    assert cluster(pair, 2).groups == ((0,), (1,))


def test_ties_are_broken_by_order_and_towards_fewer_groups():
    equal = np.full((6, 6), 0.5)
    np.fill_diagonal(equal, 1)
    result = cluster(equal)
    assert set(result.silhouettes.values()) == {0.0}
    assert len(result.groups) == 2
    for k in range(1, 7):  # merges of equal height are still cut into as many as asked
        assert len(cluster(equal, k).groups) == k
    rng = np.random.default_rng(0)
    for _ in range(20):  # noise of the last digits changes nothing
        noise = rng.uniform(-1e-14, 1e-14, (6, 6))
        noisy = np.where(np.eye(6), 1, equal + noise + noise.T)
        assert cluster(noisy).groups == result.groups


def test_bad_input():
    with pytest.raises(ConfigError, match="num_groups=6 for 5 targets"):
        cluster(BLOCKS, 6)
    with pytest.raises(GroupingError, match="square"):
        cluster(BLOCKS[:3])
    for wrong in (np.nan, 1.1, -0.1):
        broken = BLOCKS.copy()
        broken[0, 1] = broken[1, 0] = wrong
        with pytest.raises(GroupingError, match="from 0 to 1"):
            cluster(broken)
    with pytest.raises(GroupingError, match="at least one resample"):
        measure_stability(((0,),), [])


def test_stability_by_hand():
    other = np.eye(5)
    other[0, 1] = other[1, 0] = other[3, 4] = other[4, 3] = 0.9
    assert cluster(other, 3).groups == ((0, 1), (2,), (3, 4))
    groups = cluster(BLOCKS).groups  # (0, 2), (1, 3, 4)
    result = measure_stability(groups, [BLOCKS, BLOCKS, BLOCKS, other])
    assert cluster(other).groups == ((0, 1), (2,), (3, 4))
    np.testing.assert_allclose(result.jaccard, [(3 + 1 / 2) / 4, (3 + 2 / 3) / 4])
    np.testing.assert_allclose(result.recovered, [0.75, 0.75])
    assert result.together[0, 2] == 0.75
    assert result.together[0, 1] == 0.25
    assert result.together[3, 4] == 1
    assert result.together[2, 3] == 0
    np.testing.assert_array_equal(np.diag(result.together), 1)
    assert result.num_groups == {2: 0.75, 3: 0.25}
    fixed = measure_stability(groups, [other], num_groups=2)
    assert fixed.num_groups == {2: 1.0}
