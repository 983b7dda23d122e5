"""Signed integrated gradients, complete with the path through descriptors.

Along the straight line x(a) = x0 + a (x - x0) from a reference density x0 the gradient is added up
(Sundararajan et al., arXiv 1703.01365). A network may also see descriptors d of the same density,
made by code that has no gradients, and some of them jump (which elements the density is of). So the
line is walked in turns: within a step the density moves and d stays, which the gradient integrates
voxel by voxel; between two steps d moves and the density stays, which is a difference of two
predictions. What is left of f(x) - f(x0) is the quadrature's error.
"""

import numpy as np

from densityjax.attribution.question import NetworkPart, Question
from densityjax.attribution.result import Attribution


def integrated_gradients(question: Question, reference: np.ndarray, steps: int) -> Attribution:
    """The map of the mean of the networks.

    Args:
        reference: [G, G, G, C] e/Å^3, see `references.reference_density`.
        steps: nodes of the Gauss-Legendre rule.
    """
    density, start = question.density.astype(np.float64), question.see(reference)
    start = start.astype(np.float64)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    nodes, weights = (nodes + 1) / 2, weights / 2  # of [0, 1]
    # Step k of the walk is as long as the weight of its node, which lies in it.
    edges = np.concatenate([[0.0], np.cumsum(weights[:-1]), [1.0]])
    change = density - start

    def at(places: np.ndarray) -> np.ndarray:
        line = start + places.reshape(-1, 1, 1, 1, 1) * change
        return line.astype(np.float32)  # [n, G, G, G, C]

    inner = at(nodes)
    described = question.descriptors([start.astype(np.float32), *inner, density.astype(np.float32)])
    maps, through, ends = [], 0.0, np.zeros(2)
    for part, own in zip(question.parts, described, strict=True):
        found = question.network_gradient(part, inner, own[1:-1], weights) * change
        maps.append(found * part.share)  # [V, G, G, G, C]
        through += part.share * _through(question, part, at(edges), own)
        both = question.network_values(part, at(np.array([0.0, 1.0])), own[[0, -1]])
        ends += part.share * both.mean(0)
    by_part = np.stack(maps)  # [P, V, G, G, G, C]
    shares = np.array([part.share for part in question.parts]).reshape(-1, 1, 1, 1, 1)
    return Attribution(
        "integrated_gradients", by_part.mean(1).sum((0, -1)),
        (by_part.sum(-1) / shares).reshape(-1, *density.shape[:3]),
        float(ends[1]), float(ends[0]), through,
        float(by_part[..., 1:].sum() / question.num_views), adds_up=True,
    )


def _through(
    question: Question, part: NetworkPart, densities: np.ndarray, descriptors: np.ndarray
) -> float:
    """Sum over edges of what a prediction changes by as the descriptors take their next value.

    Args:
        densities: [K + 1, G, G, G, C] at the edges.
        descriptors: [K + 2, D] of the reference, the nodes and the density.
    """
    if not descriptors.shape[1]:
        return 0.0
    before = question.network_values(part, densities, descriptors[:-1])
    after = question.network_values(part, densities, descriptors[1:])
    return float((after - before).mean(0).sum())
