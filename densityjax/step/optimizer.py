"""Learning-rate schedule and gradient transformation."""

import functools

import jax
import optax
from ml_collections import ConfigDict, FrozenConfigDict


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
        heads: modules of the model that are not of its trunk, whose updates, decay included, are
          `trunk_rate` times those that the learning rate gives.
    """
    return _create(FrozenConfigDict(config), num_steps, () if config.trunk_rate == 1 else heads)


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
    return tx if config.trunk_rate == 1 else _with_trunk_rate(tx, config.trunk_rate, heads)


def _with_trunk_rate(
    tx: optax.GradientTransformation, rate: float, heads: tuple[str, ...]
) -> optax.GradientTransformation:
    """`tx` with the same state, and with updates of the trunk times `rate`."""

    def update(updates, state, params=None):
        updates, state = tx.update(updates, state, params)
        model = {
            name: module if name in heads else jax.tree.map(lambda leaf: rate * leaf, module)
            for name, module in updates["model"].items()
        }
        return {**updates, "model": model}, state

    return optax.GradientTransformation(tx.init, update)
