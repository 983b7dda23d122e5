"""Masked multi-task losses, as sums that are divided once by the global label count."""

import dataclasses
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import optax

from densityjax.targets import TargetSpec


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Static description of the loss.

    Attributes:
        regression: 'mse' or 'huber' on standardised labels.
        huber_delta: where Huber turns linear, in standard deviations.
        weights: factor per target, in the order of the targets.
        weighting: 'fixed', or 'uncertainty': learned log-variances (arXiv 1705.07115).
    """

    regression: Literal["mse", "huber"]
    huber_delta: float
    weights: tuple[float, ...]
    weighting: Literal["fixed", "uncertainty"]


def regression_loss(predicted: jax.Array, label: jax.Array, config: LossConfig) -> jax.Array:
    """Of each number, in standard deviations; shapes are equal."""
    if config.regression == "huber":
        return optax.huber_loss(predicted, label, delta=config.huber_delta)
    return jnp.square(predicted - label)


def example_losses(
    outputs: dict[str, jax.Array],
    labels: jax.Array,
    mask: jax.Array,
    class_weights: dict[str, jax.Array],
    specs: tuple[TargetSpec, ...],
    config: LossConfig,
) -> jax.Array:
    """Loss of every label, 0 where it is missing.

    Args:
        outputs: {target: [B, width]} standardised value or logits.
        labels: [B, T] standardised value or class index.
        mask: [B, T] 1 where the label exists, else 0.
        class_weights: {target: [K]} weight per class, for class targets.

    Returns:
        [B, T] float32.
    """
    chex.assert_equal_shape([labels, mask])
    # Before any arithmetic: 0 * NaN is NaN, in the gradient too.
    labels = jnp.where(mask > 0, labels, 0.0)
    columns = []
    for column, spec in enumerate(specs):
        output, label = outputs[spec.name], labels[:, column]
        if spec.kind == "classification":
            index = label.astype(jnp.int32)
            loss = optax.softmax_cross_entropy_with_integer_labels(output, index)
            loss = loss * class_weights[spec.name][index]
        else:
            loss = regression_loss(output[:, 0], label, config)
        chex.assert_equal_shape([loss, label])
        columns.append(loss)
    return jnp.where(mask > 0, jnp.stack(columns, axis=1), 0.0)


def total_loss(
    target_means: jax.Array,
    log_variance: jax.Array,
    present: jax.Array,
    specs: tuple[TargetSpec, ...],
    config: LossConfig,
) -> jax.Array:
    """Weighted mean over targets of the mean loss of each.

    With learned uncertainty the weight of a squared error is exp(-s) / 2 and of a cross-entropy
    exp(-s), plus s / 2, s being the log-variance (arXiv 1705.07115, eq. 7 and 10).

    Args:
        target_means: [T] masked mean loss per target.
        log_variance: [T] s, ignored with fixed weights.
        present: [T] 1 where the batch has any label of the target, else 0; an absent target must
          not move its log-variance.
    """
    weights = jnp.asarray(config.weights, jnp.float32)
    weights = weights * present / jnp.sum(weights)
    if config.weighting == "fixed":
        return jnp.sum(weights * target_means)
    is_class = jnp.asarray([spec.kind == "classification" for spec in specs])
    precision = jnp.exp(-log_variance) * jnp.where(is_class, 1.0, 0.5)
    return jnp.sum(weights * (precision * target_means + log_variance / 2))
