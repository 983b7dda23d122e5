"""Shares of the atoms in what everything that answers says.

A coalition of atoms has the density about its atoms and the reference about the others. An atom's
share is the mean, over orders in which the atoms come, of what its coming changes (Shapley, 1953):
the shares add up to f(x) - f(x0) whatever f is, jumps included, so that kernels on invariants and
elements that the density tells are explained as networks are.
"""

import itertools

import numpy as np

from densityjax.attribution.copies import answers_to_copies
from densityjax.attribution.question import Question
from densityjax.attribution.references import with_electrons

EXACT = 4  # so many atoms have 16 coalitions at most: all orders are looked at


def shapley_shares(
    question: Question, reference: np.ndarray, weights: np.ndarray, orders: int, seed: int = 0
) -> tuple[np.ndarray, float, float]:
    """Shares of the atoms.

    Args:
        reference: [G, G, G, C] e/Å^3.
        weights: [N, G, G, G], see `partition.atom_weights`.
        orders: that are drawn, each with its reverse, where there are too many to take all.

    Returns:
        (shares [N] in the unit of the question, answer f(x), answer to the reference f(x0)).
    """
    density = question.material.record["density"]
    chosen = _orders(len(weights), orders, seed)
    coalitions = {
        frozenset(order[:size]) for order in chosen for size in range(len(order) + 1)
    }
    coalitions = sorted(coalitions, key=sorted)
    said = answers_to_copies(
        question, [coalition_density(density, reference, weights, own) for own in coalitions]
    )
    value = dict(zip(coalitions, said.tolist(), strict=True))
    shares = np.zeros(len(weights))
    for order in chosen:
        for size, atom in enumerate(order):
            before = frozenset(order[:size])
            shares[atom] += (value[before | {atom}] - value[before]) / len(chosen)
    return shares, value[frozenset(range(len(weights)))], value[frozenset()]


def coalition_density(
    density: np.ndarray, reference: np.ndarray, weights: np.ndarray, atoms: frozenset[int]
) -> np.ndarray:
    """[G, G, G, C] the density about some atoms, the reference elsewhere, with all electrons."""
    if len(atoms) == len(weights):
        return density
    own = weights[sorted(atoms)].sum(0)[..., None]  # [G, G, G, 1]
    found = own * density.astype(np.float64) + (1 - own) * reference
    found[..., 0] = with_electrons(found[..., 0], density[..., 0].mean(dtype=np.float64))
    return found.astype(np.float32)


def _orders(count: int, drawn: int, seed: int) -> list[tuple[int, ...]]:
    if count <= EXACT:
        return list(itertools.permutations(range(count)))
    rng, found = np.random.default_rng(seed), []
    for _ in range(max(drawn // 2, 1)):
        order = tuple(rng.permutation(count).tolist())
        found += [order, order[::-1]]
    return found
