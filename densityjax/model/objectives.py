"""Objectives: what is learned of a density without labels, as losses of a view.

Each is a column of the losses beside the targets': the mean over an example's voxels, or over the
numbers of its view, of the loss in standard deviations. A prediction of the training mean has a
loss of about 1 in each.

The field is predicted where it was hidden (`masked`), where it was not but has noise
(`denoising`), or everywhere from itself (`reconstruction`, for networks with a bottleneck). What a
stored density tells of itself for nothing is predicted from the same view: row, column and
electronegativity of the nearest nucleus (`nearest_element`), density minus average atoms
(`deformation`), principal components of its invariants (`invariants`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from densityjax.features.voxel_targets import VOXEL, voxel_width
from densityjax.model import corruption
from densityjax.model.losses import LossConfig, regression_loss
from densityjax.targets import TargetSpec

# In the order of the losses: those of the field, those of other numbers of a voxel, of a view.
FIELD = ("masked", "denoising", "reconstruction")
VIEW = ("invariants",)
NAMES = (*FIELD, *VOXEL, *VIEW)


@dataclasses.dataclass(frozen=True)
class Objectives:
    """Static description of what is learned without labels.

    Attributes:
        names: of `NAMES`, in their order.
        decoder: of the last scale, see `model.decoder`; its outputs are those of `channels`.
        hidden: share of the blocks that 'masked' hides.
        block: voxels along an edge of a block.
        noise: that 'denoising' adds, in standard deviations of the field.
    """

    names: tuple[str, ...]
    decoder: nn.Module
    hidden: float
    block: int
    noise: float

    @property
    def corrupts(self) -> bool:
        """Whether the network sees less than the view."""
        return "masked" in self.names or "denoising" in self.names

    @property
    def specs(self) -> tuple[TargetSpec, ...]:
        """The columns of the losses, as targets have them."""
        return tuple(TargetSpec(name, "regression", "", name) for name in self.names)


def last_scale(
    model: nn.Module, modules: Mapping[str, Any], field: jax.Array, features: jax.Array
) -> jax.Array:
    """[B, g, g, g, W] the last scale of the trunk of a model, which it sows.

    Args:
        modules: its parameters.
        field: [B, S, S, S, C] as the network takes it.
        features: [B, F] beside the trunk, which does not depend on them.
    """
    _, found = model.apply({"params": modules}, field, features, mutable=["intermediates"])
    return found["intermediates"]["last_scale"][0]


def channels(names: tuple[str, ...], fields: int) -> int:
    """Numbers per voxel that a decoder gives: those of the field, then of `VOXEL`."""
    return fields * any(name in FIELD for name in names) + voxel_width(names)


def corrupted(
    objectives: Objectives, field: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the network sees of a view.

    Args:
        field: [B, S, S, S, C] standardised.
        keys: [B] random keys.

    Returns:
        (the same shape, hidden [B, S, S, S] 1 where nothing is seen).
    """
    size = field.shape[1]
    pairs = jax.vmap(jax.random.split)(keys)  # [B, 2]
    hidden, noise = None, None
    if "masked" in objectives.names:
        hidden = jax.vmap(
            lambda key: corruption.hidden_blocks(
                key, size, objectives.block, objectives.hidden
            )
        )(pairs[:, 0])
    if "denoising" in objectives.names:
        draw = jax.vmap(lambda key: jax.random.normal(key, field.shape[1:], field.dtype))
        noise = objectives.noise * draw(pairs[:, 1])
    seen = corruption.corrupt(field, hidden, noise)
    return seen, jnp.zeros(field.shape[:4]) if hidden is None else hidden


def objective_losses(
    objectives: Objectives, predicted: Mapping[str, jax.Array], field: jax.Array,
    hidden: jax.Array, voxels: jax.Array, view: jax.Array, config: LossConfig,
) -> jax.Array:
    """Loss of every objective.

    Args:
        predicted: what the decoder gives, or something as trivial as zeros.
        field: [B, S, S, S, C] standardised and whole.
        hidden: [B, S, S, S] 1 where hidden.
        voxels: [B, S, S, S, K] standardised numbers per voxel, of `VOXEL` in its order.
        view: [B, D] standardised numbers of the view's material.

    Returns:
        [B, O] float32.
    """
    columns, start = [], 0
    if any(name in FIELD for name in objectives.names):
        start = field.shape[-1]
        of_field = regression_loss(predicted["voxels"][..., :start], field, config).mean(-1)
    place = 0
    for name in objectives.names:
        if name == "masked":
            columns.append(_mean_where(of_field, hidden))
        elif name in FIELD:
            columns.append(_mean_where(of_field, 1 - hidden))
        elif name in VOXEL:
            more = place + VOXEL[name]
            found = predicted["voxels"][..., start + place : start + more]
            loss = regression_loss(found, voxels[..., place:more], config)
            columns.append(loss.mean((1, 2, 3, 4)))
            place = more
        else:
            columns.append(regression_loss(predicted["view"], view, config).mean(-1))
    return jnp.stack(columns, axis=1)


def _mean_where(values: jax.Array, where: jax.Array) -> jax.Array:
    """[B] means of [B, S, S, S] where another array is 1."""
    return (values * where).sum((1, 2, 3)) / jnp.maximum(where.sum((1, 2, 3)), 1.0)
