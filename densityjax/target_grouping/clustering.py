"""Groups of targets from a matrix of similarities, and how firmly they stand."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from densityjax.runtime.errors import ConfigError
from densityjax.target_grouping.columns import GroupingError

Groups = tuple[tuple[int, ...], ...]  # indices of targets, ascending, by first member


@dataclasses.dataclass(frozen=True)
class Clustering:
    """Groups and how they were found.

    Attributes:
        groups: indices of targets, ascending within a group, groups by their first member.
        linkage: [T - 1, 4] merges as scipy.cluster.hierarchy writes them, heights in
          1 - similarity.
        silhouettes: {number of groups: mean silhouette}, of 2 to T - 1 groups.
    """

    groups: Groups
    linkage: np.ndarray
    silhouettes: dict[int, float]


@dataclasses.dataclass(frozen=True)
class Stability:
    """What resamples say of G groups of T targets.

    Attributes:
        jaccard: [G] mean over resamples of the overlap (intersection over union) with the most
          similar group found there (Hennig 2007); he calls 0.75 stable, 0.5 dissolved.
        recovered: [G] fraction of resamples in which exactly this group came back.
        together: [T, T] fraction of resamples in which two targets were in one group.
        num_groups: {number of groups: fraction of resamples in which it was chosen}.
    """

    jaccard: np.ndarray
    recovered: np.ndarray
    together: np.ndarray
    num_groups: dict[int, float]


def check_num_groups(num_groups: int, size: int) -> None:
    """Refuses more groups than targets.

    Raises:
        ConfigError: `num_groups` is not from 0 to `size`.
    """
    if not 0 <= num_groups <= size:
        raise ConfigError(
            f"config.grouping.num_groups={num_groups} for {size} targets: give 1 to {size}, or 0 "
            "to choose by silhouette"
        )


def cluster(similarity: np.ndarray, num_groups: int = 0) -> Clustering:
    """Average linkage on 1 - similarity, cut into the number of groups of best mean silhouette.

    The silhouette compares a target's distance to its own group with that to the next, which takes
    two groups and one group of two: it cannot choose one group of all, nor all alone. Whether
    those are better is for the ablations to say. Of equal silhouettes the fewest groups win; of
    equal distances the pair whose targets come first merges first. One target is one group; two
    have no silhouette and go together.

    Args:
        similarity: [T, T] in [0, 1], symmetric.
        num_groups: 0: by silhouette.

    Raises:
        GroupingError: the matrix is not one of similarities.
        ConfigError: `num_groups` does not fit it.
    """
    similarity = np.asarray(similarity, np.float64)
    size = len(similarity)
    if similarity.shape != (size, size) or not size:
        raise GroupingError(f"a matrix of similarities is square, got shape {similarity.shape}")
    if not (
        np.all((similarity >= 0) & (similarity <= 1)) and np.allclose(similarity, similarity.T)
    ):
        raise GroupingError("similarities must be symmetric, finite and from 0 to 1")
    check_num_groups(num_groups, size)
    if size == 1:
        return Clustering(((0,),), np.zeros((0, 4)), {})
    # Rounded: ties must not be broken by the last digit, which differs between machines.
    distance = np.round(1 - (similarity + similarity.T) / 2, 12)
    np.fill_diagonal(distance, 0.0)
    linkage = hierarchy.linkage(squareform(distance), "average")
    # Not fcluster, which finds fewer groups than asked where merges are of equal height.
    cuts = hierarchy.cut_tree(linkage)  # [T, T], each column one merge on, from T groups to 1
    labels = {k: cuts[:, size - k] for k in range(1, size + 1)}  # [T] each
    silhouettes = {k: _silhouette(distance, labels[k]) for k in range(2, size)}
    if not num_groups:
        rounded = {k: round(value, 12) for k, value in silhouettes.items()}
        num_groups = max(rounded, key=lambda k: (rounded[k], -k)) if rounded else 1
    return Clustering(_groups(labels[num_groups]), linkage, silhouettes)


def _silhouette(distance: np.ndarray, labels: np.ndarray) -> float:
    return float(silhouette_score(distance, labels, metric="precomputed"))


def _groups(labels: np.ndarray) -> Groups:
    members = (np.flatnonzero(labels == label).tolist() for label in np.unique(labels))
    return tuple(sorted(tuple(group) for group in members))


def measure_stability(
    groups: Groups, similarities: Iterable[np.ndarray], num_groups: int = 0
) -> Stability:
    """Clusters resampled similarities in the same way and compares the groups found.

    Args:
        groups: those found in the data.
        similarities: [T, T] of each resample, at least one.
        num_groups: as the groups were found; 0: the number is chosen anew in each resample.

    Raises:
        GroupingError: no resample, or as `cluster`.
    """
    found = [cluster(similarity, num_groups).groups for similarity in similarities]
    if not found:
        raise GroupingError("stability of groups takes at least one resample")
    size = sum(len(group) for group in groups)
    together = np.zeros((size, size))
    for resample in found:
        for group in resample:
            together[np.ix_(group, group)] += 1 / len(found)
    best = np.array([[max(_jaccard(g, h) for h in resample) for g in groups] for resample in found])
    counts = [len(resample) for resample in found]
    return Stability(
        best.mean(0),
        np.mean([[group in resample for group in groups] for resample in found], axis=0),
        together,
        {k: counts.count(k) / len(found) for k in sorted(set(counts))},
    )


def _jaccard(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    return len(set(a) & set(b)) / len(set(a) | set(b))
