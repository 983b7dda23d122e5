"""A bootstrap over chemical systems, seeds and members of pools; intervals and p from it.

docs/statistics.md says why the intervals are basic ones and why n - 1 of n seeds are drawn.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse, stats

LEVEL = 0.95  # of the intervals
POWER = 0.8
# Smallest difference detected with this power, in standard errors: z_0.975 + z_0.8 = 2.80.
DETECTABLE = float(stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(POWER))

_SYSTEMS, _SEEDS, _MEMBERS = range(3)  # streams of random numbers


class Draws:
    """How often each system, seed and member of a pool is drawn in every replicate.

    Row 0 is the data itself, so that estimates and replicates are one array.

    Attributes:
        num_replicates: R.
        num_strata: groups of splits that have no chemical system in common.
    """

    def __init__(self, systems: Mapping[str, np.ndarray], num_replicates: int, seed: int):
        """Prepares the draws.

        Args:
            systems: split -> [n] chemical system of each material.
            num_replicates: R.
            seed: of the random numbers.
        """
        self.num_replicates, self._seed = num_replicates, seed
        self._splits = list(systems)
        self._cache: dict[Any, np.ndarray] = {}
        texts = [np.asarray(values).astype(str) for values in systems.values()]
        names, index = np.unique(np.concatenate(texts), return_inverse=True)
        ends = np.cumsum([len(values) for values in texts])[:-1]
        self._index = dict(zip(systems, np.split(index, ends), strict=True))  # [n] each
        present = np.zeros((len(texts), len(names)), int)  # [splits, systems]
        for row, found in enumerate(self._index.values()):
            present[row, found] = 1
        graph = sparse.csr_matrix(present @ present.T)
        self.num_strata, self._stratum = sparse.csgraph.connected_components(graph, directed=False)
        self._present = present

    def group(self, split: str) -> np.ndarray:
        """[m, n] which material belongs to which system of the split."""
        systems, index = np.unique(self._index[split], return_inverse=True)
        return (np.arange(len(systems))[:, None] == index).astype(np.float64)

    def systems(self, split: str) -> np.ndarray:
        """[R + 1, m] how often each system of the split, in order of names, is drawn."""
        place = self._splits.index(split)
        stratum = self._stratum[place]
        union = np.flatnonzero(self._present[self._stratum == stratum].any(0))
        if ("stratum", stratum) not in self._cache:
            rng = np.random.default_rng([self._seed, _SYSTEMS, stratum])
            size = len(union)
            draws = rng.multinomial(size, np.full(size, 1 / size), size=self.num_replicates)
            self._cache["stratum", stratum] = np.vstack([np.ones(size), draws])
        return self._cache["stratum", stratum][:, self._present[place, union] == 1]

    def seeds(self, split: str, seeds: tuple[int, ...]) -> np.ndarray:
        """[len(seeds), R + 1] weights that sum to 1."""
        stream = (_SEEDS, self._splits.index(split), *(abs(s) for s in seeds))
        return self._weights(stream, len(seeds))

    def members(self, members: Sequence[str]) -> np.ndarray:
        """[len(members), R + 1] weights that sum to 1."""
        return self._weights((_MEMBERS, len(members)), len(members))

    def _weights(self, stream: tuple[int, ...], count: int) -> np.ndarray:
        if stream not in self._cache:
            rng = np.random.default_rng([self._seed, *stream])
            whole = np.full((1, count), 1 / count)
            if count == 1:
                draws = np.ones((self.num_replicates, 1))
            else:
                draws = rng.multinomial(count - 1, whole[0], size=self.num_replicates) / (count - 1)
            self._cache[stream] = np.vstack([whole, draws]).T.copy()
        return self._cache[stream]


def estimate(values: np.ndarray) -> dict[str, Any]:
    """Value, basic interval, standard error and number of undefined replicates of [R + 1].

    There is no interval where more than half of the replicates are undefined.
    """
    replicates = values[1:]
    defined = replicates[np.isfinite(replicates)]
    result = dict.fromkeys(("value", "low", "high", "se"))
    result["undefined"] = int(replicates.size - defined.size)
    if np.isfinite(values[0]):
        result["value"] = float(values[0])
        if defined.size > max(1, replicates.size / 2):
            tail = (1 - LEVEL) / 2
            low, high = 2 * values[0] - np.quantile(defined, [1 - tail, tail])
            result |= {"low": float(low), "high": float(high), "se": float(defined.std(ddof=1))}
    return result


def two_sided_p(values: np.ndarray) -> float:
    """Two-sided p of [R + 1] values: 1 less the level at which the basic interval touches 0."""
    replicates = values[1:][np.isfinite(values[1:])]
    reflected = 2 * values[0] - replicates
    # The data count as one replicate (Davison & Hinkley 1997), so p is never 0.
    tails = [np.sum(reflected <= 0) + 1, np.sum(reflected >= 0) + 1]
    return float(min(1.0, 2 * min(tails) / (replicates.size + 1)))
