"""Pure steps of what is learned without labels; `steps` has those of targets."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax.model import views
from densityjax.model.corruption import interpolate
from densityjax.model.field import standardised_view
from densityjax.model.objectives import (
    FIELD,
    channels,
    corrupted,
    last_scale,
    objective_losses,
)
from densityjax.step.task import Task
from densityjax.step.train_state import PyTree, TrainState

DeviceBatch = dict[str, jax.Array]
_EVALUATION_SEED = 2011  # draws what is hidden in evaluation


def view_losses(
    params: PyTree, state: TrainState, batch: DeviceBatch, field: jax.Array,
    lattice: jax.Array, keys: jax.Array, *, task: Task,
) -> jax.Array:
    """Losses of the objectives of training views.

    Args:
        batch: leaves [b, ...], see `steps.gradient_step`.
        field, lattice: the views, [b, S, S, S, C] and [b, 3, 3].
        keys: [b, 2], of the views and of dropout.

    Returns:
        [b, O].
    """
    view = jax.vmap(lambda *args: views.training_view(_plain(task), *args)[0])
    voxels = _voxels(field, batch, lambda v: view(v, batch["lattice"], keys[:, 0]))
    hiding = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys[:, 1])  # not that of dropout
    one = _view(task, state, field, lattice, voxels, hiding)
    return _losses(task, one, _predicted(task, params, state, one.seen), batch)


def evaluate_objectives(
    state: TrainState, batch: DeviceBatch, *, task: Task, num_views: int
) -> dict[str, jax.Array]:
    """Losses of the averaged parameters on the fixed views, with the same hidden every time.

    Args:
        batch: leaves [b, ...]: density, lattice, index, voxels, view.

    Returns:
        {'loss': [b, V, O]}.
    """

    def losses(one: _View) -> dict[str, jax.Array]:
        predicted = _predicted(task, state.ema_params, state, one.seen)
        return {"loss": _losses(task, one, predicted, batch)}

    return _over_views(losses, state, batch, task, num_views)


def trivial_objectives(
    state: TrainState, batch: DeviceBatch, *, task: Task, num_views: int
) -> dict[str, jax.Array]:
    """Losses of predictors that learned nothing, on the views of `evaluate_objectives`.

    Returns:
        {'mean', 'interpolation': [b, V, O]}: of the mean of the training rows; of the field, what
        is hidden from what is seen, and what is seen as it is, NaN for what is not of the field.
    """
    objectives = task.objectives
    of_field = jnp.asarray([name in FIELD and objectives.corrupts for name in objectives.names])

    def losses(one: _View) -> dict[str, jax.Array]:
        fields = one.field.shape[-1]
        width = channels(objectives.names, fields)
        zeros = {"voxels": jnp.zeros((*one.field.shape[:4], width)), "view": 0.0 * batch["view"]}
        mean = _losses(task, one, zeros, batch)
        if not objectives.corrupts:
            return {"mean": mean, "interpolation": jnp.full_like(mean, jnp.nan)}
        periodic = task.view.kind == "fractional"
        filled = interpolate(one.seen, one.hidden, periodic, objectives.block)
        filled = jnp.concatenate([filled, zeros["voxels"][..., fields:]], axis=-1)
        by_eye = _losses(task, one, zeros | {"voxels": filled}, batch)
        return {"mean": mean, "interpolation": jnp.where(of_field, by_eye, jnp.nan)}

    return _over_views(losses, state, batch, task, num_views)


class _View(NamedTuple):
    """One view of each example of a batch.

    Attributes:
        field: [b, S, S, S, C] standardised and whole; `seen` is what a network gets of it.
        hidden: [b, S, S, S] 1 where nothing is seen.
        voxels: [b, S, S, S, K] numbers of the voxels.
    """

    field: jax.Array
    seen: jax.Array
    hidden: jax.Array
    voxels: jax.Array


def _over_views(
    losses: Callable[[_View], dict[str, jax.Array]], state: TrainState, batch: DeviceBatch,
    task: Task, num_views: int,
) -> dict[str, jax.Array]:
    """{kind: [b, V, O]} losses of the fixed views, one view at a time."""
    key = jax.random.key(_EVALUATION_SEED)
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])  # [b]

    def one_view(number: jax.Array) -> dict[str, jax.Array]:
        def seen_as(config: views.ViewConfig, values: jax.Array) -> tuple[jax.Array, jax.Array]:
            make = jax.vmap(lambda *args: views.evaluation_view(config, *args, number))
            return make(values, batch["lattice"])

        field, lattice = seen_as(task.view, batch["density"])
        voxels = _voxels(field, batch, lambda v: seen_as(_plain(task), v)[0])
        own = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        return losses(_view(task, state, field, lattice, voxels, own))

    found = jax.lax.map(one_view, jnp.arange(num_views))
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), found)


def _view(
    task: Task, state: TrainState, field: jax.Array, lattice: jax.Array, voxels: jax.Array,
    keys: jax.Array,
) -> _View:
    """Standardised and corrupted; keys [b]."""
    field = standardised_view(
        field, lattice, task.field_transform, task.log_clamp, state.statistics
    )
    seen, hidden = corrupted(task.objectives, field, keys)
    return _View(field, seen, hidden, voxels)


def _plain(task: Task) -> views.ViewConfig:
    """The view of numbers that have no spin: of two channels, the second has a sign as well."""
    return dataclasses.replace(task.view, flip_spin=False)


def _voxels(
    field: jax.Array, batch: DeviceBatch, view: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """[b, S, S, S, K] numbers of the voxels of the views; K may be 0."""
    if not batch["voxels"].shape[-1]:
        return jnp.zeros((*field.shape[:4], 0))
    return view(batch["voxels"])


def _predicted(
    task: Task, params: PyTree, state: TrainState, seen: jax.Array
) -> dict[str, jax.Array]:
    features = jnp.zeros((seen.shape[0], *state.statistics["feature_mean"].shape))  # [b, F]
    scale = last_scale(task.model, params["model"], seen, features)
    return task.objectives.decoder.apply({"params": params["decoder"]}, scale, seen.shape[1])


def _losses(
    task: Task, one: _View, predicted: Mapping[str, jax.Array], batch: DeviceBatch
) -> jax.Array:
    return objective_losses(
        task.objectives, predicted, one.field, one.hidden, one.voxels, batch["view"], task.loss
    )
