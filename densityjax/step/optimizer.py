"""Learning-rate schedule and gradient transformation."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from densityjax.model.layers import ADAPTER


def create_schedule(config: ConfigDict, num_steps: int) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then a cosine to zero over the remaining steps."""
    warmup = max(1, round(config.warmup_fraction * num_steps))
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(num_steps, warmup + 1)
    )


def create_optimizer(
    config: ConfigDict, num_steps: int, heads: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """AdamW behind clipping by global norm; matrices and kernels decay, biases and gains do not.

    Equal settings give the same object, so that tasks made from them are equal: runs of a process
    that differ in their seed alone share their compiled steps.

    Args:
        heads: modules of the model that are not of its trunk. Updates of the trunk, decay
          included, are `trunk_rate` times those that the learning rate gives, and none in the
          first `head_first` of the steps, in which adapters (`model.layers.Adapter`) rest, too.
    """
    plain = config.trunk_rate == 1 and config.head_first == 0
    return _create(FrozenConfigDict(config), num_steps, () if plain else heads)


@functools.lru_cache(maxsize=64)
def _create(
    config: FrozenConfigDict, num_steps: int, heads: tuple[str, ...]
) -> optax.GradientTransformation:
    tx = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            create_schedule(config, num_steps),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )
    if config.trunk_rate == 1 and config.head_first == 0:
        return tx
    return _with_rates(tx, config.trunk_rate, round(config.head_first * num_steps), heads)


def _with_rates(
    tx: optax.GradientTransformation, trunk_rate: float, first: int, heads: tuple[str, ...]
) -> optax.GradientTransformation:
    """`tx` with the same state, and with updates times the rate of the part that they are of.

    Args:
        first: steps in which the heads learn alone.
    """

    def update(updates, state, params=None):
        clipped, (adam, *_) = state
        del clipped
        # The number of updates that Adam has made.
        later = jnp.where(adam.count < first, 0.0, 1.0) if first else 1.0
        updates, state = tx.update(updates, state, params)
        model = {
            name: module if name in heads else {
                part: _times(later if part == ADAPTER else later * trunk_rate, leaves)
                for part, leaves in module.items()
            }
            for name, module in updates["model"].items()
        }
        return {**updates, "model": model}, state

    return optax.GradientTransformation(tx.init, update)


def _times(rate: float | jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: rate * leaf, tree)
