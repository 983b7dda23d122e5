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


def create_optimizer(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """AdamW behind clipping by global norm; matrices and kernels decay, biases and gains do not.

    Equal settings give the same object, so that tasks made from them are equal: runs of a process
    that differ in their seed alone share their compiled steps.
    """
    return _create(FrozenConfigDict(config), num_steps)


@functools.lru_cache(maxsize=64)
def _create(config: FrozenConfigDict, num_steps: int) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            create_schedule(config, num_steps),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )
