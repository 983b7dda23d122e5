"""Boosted trees of benchmarks/ecd.py: on components of latents, on composition, on both."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from benchmarks.ecd_data import FOLDS, Materials
from benchmarks.ecd_protocol import Protocol
from densityjax.features.standardiser import Standardiser

COMPONENTS = 512  # of the flattened latent, as in the paper; no more than rows to fit them on
# Blocks of features of each row of the table.
INPUTS = {
    "composition": ("composition",),
    "latent": ("latent",),
    "latent and composition": ("latent", "composition"),
    "pooled latent": ("pooled",),
    "pooled latent and composition": ("pooled", "composition"),
}
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def pooled(latents: np.ndarray) -> np.ndarray:
    """What no choice of origin by whole voxels of the latent changes: [n, F].

    Means, quantiles and covariances of the channels over the voxels of [n, g, g, g, L]. The
    flattened latent, which the paper takes, depends on the origin and the axes of the cell.
    """
    voxels = latents.reshape(len(latents), -1, latents.shape[-1]).astype(np.float64)  # [n, V, L]
    mean = voxels.mean(axis=1)  # [n, L]
    quantiles = np.quantile(voxels, _QUANTILES, axis=1)  # [Q, n, L]
    centred = voxels - mean[:, None]
    covariance = np.einsum("nvi,nvj->nij", centred, centred) / voxels.shape[1]
    upper = np.triu_indices(latents.shape[-1])
    return np.concatenate([mean, *quantiles, covariance[:, upper[0], upper[1]]], axis=1)


def components(latents: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """Principal components [n, at most 512] of standardised flattened latents.

    Args:
        fitted_on: rows that scaler and components are fitted on.
    """
    flat = latents.reshape(len(latents), -1)
    scaled = Standardiser.fit(flat[fitted_on])(flat)
    count = min(COMPONENTS, len(fitted_on) - 1, scaled.shape[1])
    return PCA(count, svd_solver="full").fit(scaled[fitted_on]).transform(scaled)


def fit_trees(features: np.ndarray, labels: np.ndarray) -> HistGradientBoostingRegressor:
    """Settings are fixed beforehand, for all rows of the table: none was tried on these data."""
    return HistGradientBoostingRegressor(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=10, max_bins=32,
        max_features=0.25, random_state=0,
    ).fit(features, labels)


def predict(materials: Materials, protocol: Protocol, name: str) -> dict[str, np.ndarray]:
    """Predictions {target: [n]} of every material by trees that were not fitted on it.

    NaN where the autoencoder that it takes is not there.

    Args:
        name: of `INPUTS`.
    """
    part, encoder = protocol.part(materials), protocol.encoders(materials)
    if name == "composition":  # which no autoencoder changes
        encoder = np.full_like(encoder, "")
    labels = protocol.labels(materials)
    said = {target: np.full(len(part), np.nan) for target in labels}
    # Threads gain nothing on tables this small, and wait for each other on a busy machine.
    with threadpool_limits(1):
        _judge(materials, protocol, name, part, encoder, labels, said)
    return said


def _judge(
    materials: Materials, protocol: Protocol, name: str, part: np.ndarray, encoder: np.ndarray,
    labels: dict[str, np.ndarray], said: dict[str, np.ndarray],
) -> None:
    """Fills `said`."""
    for number in FOLDS:
        for source in {*encoder[part == number]} & {*materials.encoded, ""}:
            features = _features(materials, protocol, name, source, np.flatnonzero(part != number))
            judged = (part == number) & (encoder == source)
            for target, values in labels.items():
                known = (part != number) & np.isfinite(values)
                trees = fit_trees(features[known], values[known])
                said[target][judged] = trees.predict(features[judged])


def _features(
    materials: Materials, protocol: Protocol, name: str, source: str, training: np.ndarray
) -> np.ndarray:
    fitted_on = np.arange(len(materials.fold)) if protocol.leaky_fit_on_all_rows else training
    found = []
    for block in INPUTS[name]:
        if block == "composition":
            found.append(materials.magpie)
        elif block == "pooled":
            found.append(pooled(materials.latents(source)))
        else:
            found.append(components(materials.latents(source), fitted_on))
    return np.concatenate(found, axis=1)
