"""Gaussian-process regression on blocks of features, set by leave-one-out on the training rows.

A block b of standardised features has the kernel K_b = exp(-g_b d_b), d_b being the mean absolute
difference of the features ('laplacian') or the mean squared one ('rbf'). Several blocks are joined
by prod_b (1 + s_b K_b): the sum of the blocks' kernels and of their products (the ANOVA kernel,
Stitson et al., in Advances in Kernel Methods, 1999; additive Gaussian processes, Duvenaud et al.,
NeurIPS 2011), so that a large block does not drown a small one.

g_b, s_b and the noise r are chosen from a grid by the leave-one-out error, which is closed-form:
y_i - f_-i(x_i) = a_i / [(K + r I)^-1]_ii with a = (K + r I)^-1 y (Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, eq. 5.12). No other rows are looked at.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

KINDS = ("laplacian", "rbf")
_SCALES = {"laplacian": (0.15, 0.3, 0.6, 1.2), "rbf": (0.05, 0.15, 0.5, 1.5)}  # g_b
_SHARES = (0.5, 2.0, 8.0)  # s_b
_NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)  # r, of a kernel that is 1 on the diagonal

Blocks = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What leave-one-out chose for one target.

    Attributes:
        scales: {block: g_b}.
        shares: {block: s_b}; empty for a single block, whose kernel stands alone.
        noise: r.
        error: mean squared leave-one-out error over the variance of the labels.
    """

    scales: Mapping[str, float]
    shares: Mapping[str, float]
    noise: float
    error: float


@dataclasses.dataclass(frozen=True)
class GaussianProcess:
    """The mean of a process: kernel with the rows it was fitted on, times coefficients.

    Attributes:
        kind: 'laplacian' or 'rbf'.
        settings: of the kernel.
        coefficients: [n, C] (K + r I)^-1 (y - mean).
        mean: [C] of the fitted labels.
    """

    kind: str
    settings: Settings
    coefficients: np.ndarray
    mean: np.ndarray

    def predict(self, apart: Blocks) -> np.ndarray:
        """[m, C] of {block: [m, n] `distances` to the fitted rows}."""
        kernel = _joint(apart, self.settings.scales, self.settings.shares)
        return kernel @ self.coefficients + self.mean


def distances(kind: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over the features of |a - b| ('laplacian') or (a - b)^2 ('rbf'), [m, n]."""
    width = max(a.shape[1], 1)
    if kind == "laplacian":
        return cdist(a, b, "cityblock") / width
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2.0 * (a @ b.T)
    return np.maximum(squares.astype(np.float64), 0) / width


def _joint(
    apart: Blocks, scales: Mapping[str, float], shares: Mapping[str, float]
) -> np.ndarray:
    """Kernel of the blocks' distances, 1 for the same features."""
    kernels = {name: np.exp(-scales[name] * apart[name]) for name in scales}
    if not shares:
        (kernel,) = kernels.values()
        return kernel
    factors = [(1 + shares[name] * kernel) / (1 + shares[name]) for name, kernel in kernels.items()]
    return np.prod(factors, axis=0)


def leave_one_out(kernel: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Leave-one-out errors [noises, n, C] of centred labels [n, C], for each noise of the grid.

    The mean that was taken off is that of all rows.
    """
    # Single precision takes half the time, and its error is far below the smallest noise.
    values, vectors = scipy.linalg.eigh(
        kernel.astype(np.float32), check_finite=False, overwrite_a=True, driver="evd"
    )
    labels = labels.astype(np.float32)
    projected, squares = vectors.T @ labels, np.square(vectors)
    errors = []
    for noise in _NOISES:
        inverse = 1 / (np.maximum(values, 0) + noise)
        errors.append(vectors @ (inverse[:, None] * projected) / (squares @ inverse)[:, None])
    return np.stack(errors)


def choose(
    apart: Blocks, kind: str, targets: Sequence[np.ndarray],
    combinations: Iterable[tuple[str, ...]],
) -> dict[tuple[str, ...], list[Settings]]:
    """Settings of each target by leave-one-out; the scale of each block as if it stood alone.

    Args:
        apart: {block: [n, n] `distances`}; float32 is enough, for r is far above its rounding.
        kind: 'laplacian' or 'rbf'.
        targets: [n, C] each, all rows labelled; the columns of one share their settings.
        combinations: blocks to join, of each joint kernel.

    Returns:
        {combination: settings of each target}.
    """
    alone = {
        name: _best([({name: scale}, {}) for scale in _SCALES[kind]], {name: values}, targets)
        for name, values in apart.items()
    }
    return {
        names: alone[names[0]] if len(names) == 1 else _choose_shares(
            {name: apart[name] for name in names},
            [{name: alone[name][t].scales[name] for name in names} for t in range(len(targets))],
            targets,
        )
        for names in combinations
    }


def _choose_shares(
    apart: Blocks, scales: Sequence[dict[str, float]], targets: Sequence[np.ndarray]
) -> list[Settings]:
    """Settings of a joint kernel, whose scales are given for each target."""
    chosen: list[Settings | None] = [None] * len(targets)
    grid = [dict(zip(apart, s)) for s in itertools.product(_SHARES, repeat=len(apart))]
    for scale in {tuple(s.items()): s for s in scales}.values():
        members = [t for t, s in enumerate(scales) if s == scale]
        found = _best([(scale, s) for s in grid], apart, [targets[t] for t in members])
        for target, settings in zip(members, found, strict=True):
            chosen[target] = settings
    return chosen


def _best(
    candidates: Sequence[tuple[dict, dict]], apart: Blocks, targets: Sequence[np.ndarray]
) -> list[Settings]:
    """Of candidates (scales, shares) and the noises, the best of each target."""
    dtype = next(iter(apart.values())).dtype
    scaled = [
        (y - y.mean(axis=0)) / np.sqrt(max(y.var(axis=0).sum(), 1e-30)) for y in targets
    ]
    labels = np.concatenate(scaled, axis=1).astype(dtype)  # [n, all C]
    ends = np.cumsum([y.shape[1] for y in targets])[:-1]
    best: list[Settings | None] = [None] * len(targets)
    for scales, shares in candidates:
        errors = leave_one_out(_joint(apart, scales, shares), labels)
        squares = np.square(errors).mean(axis=1)  # [noises, all C]
        for target, error in enumerate(np.split(squares, ends, axis=1)):
            relative = error.sum(axis=1)
            noise = int(relative.argmin())
            if best[target] is None or relative[noise] < best[target].error:
                best[target] = Settings(scales, shares, _NOISES[noise], float(relative[noise]))
    return best


def fit_process(
    kind: str, settings: Settings, apart: Blocks, labels: np.ndarray
) -> GaussianProcess:
    """The process of labelled rows, with `distances` {block: [n, n]} and labels [n, C]."""
    kernel = _joint(apart, settings.scales, settings.shares).astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += settings.noise
    mean = labels.mean(axis=0)
    solved = scipy.linalg.solve(kernel, labels - mean, assume_a="pos", check_finite=False)
    return GaussianProcess(kind, settings, solved, mean)


def leave_groups_out(
    process: GaussianProcess, apart: Blocks, groups: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Errors [g, C] of the labels of each group by the process of all other rows.

    Closed form, as for single rows: y_G - f_-G(x_G) = [A_GG]^-1 a_G with A = (K + r I)^-1 and the
    coefficients a; settings and the mean that was taken off are those of all rows.

    Args:
        apart: {block: [n, n] distances} of the fitted rows.
        groups: int [g] rows each.
    """
    kernel = _joint(apart, process.settings.scales, process.settings.shares).astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += process.settings.noise
    inverse = scipy.linalg.inv(kernel, overwrite_a=True, check_finite=False)
    return [
        np.linalg.solve(inverse[np.ix_(rows, rows)], process.coefficients[rows]) for rows in groups
    ]
