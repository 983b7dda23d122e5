"""Pure steps of what is learned without labels; `steps` has those of targets."""

import dataclasses

import jax
import jax.numpy as jnp

from densityjax.model import views
from densityjax.model.corruption import interpolate
from densityjax.model.field import standardised_view
from densityjax.model.objectives import channels, corrupted, last_scale, objective_losses
from densityjax.step.task import Task
from densityjax.step.train_state import PyTree, TrainState

_EVALUATION_SEED = 2011  # draws what is hidden in evaluation


def view_losses(
    params: PyTree, state: TrainState, batch: dict[str, jax.Array], field: jax.Array,
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
    plain = dataclasses.replace(task.view, flip_spin=False)
    view = jax.vmap(lambda *args: views.training_view(plain, *args)[0])
    voxels = _voxels(field, batch, lambda v: view(v, batch["lattice"], keys[:, 0]))
    hiding = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys[:, 1])  # not that of dropout
    field = standardised_view(
        field, lattice, task.field_transform, task.log_clamp, state.statistics
    )
    seen, hidden = corrupted(task.objectives, field, hiding)
    predicted = _predicted(task, params, state, seen)
    return objective_losses(
        task.objectives, predicted, field, hidden, voxels, batch["view"], task.loss
    )


def evaluate_objectives(
    state: TrainState, batch: dict[str, jax.Array], *, task: Task, num_views: int, trivial: bool
) -> dict[str, jax.Array]:
    """Losses of the averaged parameters on the fixed views, with the same hidden every time.

    Args:
        batch: leaves [b, ...]: density, lattice, index, voxels, view.
        trivial: with the losses of predictors that learned nothing: the training 'mean', and
          'interpolation': of the field, what is hidden from what is seen, else what is seen as it
          is; NaN where there is none.

    Returns:
        {'loss', and if trivial 'mean' and 'interpolation': [b, V, O]}.
    """
    objectives = task.objectives
    plain = dataclasses.replace(task.view, flip_spin=False)
    key = jax.random.key(_EVALUATION_SEED)
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])  # [b]

    def one_view(number: jax.Array) -> dict[str, jax.Array]:
        def seen_as(config: views.ViewConfig, values: jax.Array) -> tuple[jax.Array, jax.Array]:
            make = jax.vmap(lambda *args: views.evaluation_view(config, *args, number))
            return make(values, batch["lattice"])

        field, lattice = seen_as(task.view, batch["density"])
        voxels = _voxels(field, batch, lambda v: seen_as(plain, v)[0])
        field = standardised_view(
            field, lattice, task.field_transform, task.log_clamp, state.statistics
        )
        own = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        seen, hidden = corrupted(objectives, field, own)

        def losses(predicted: dict[str, jax.Array]) -> jax.Array:
            return objective_losses(
                objectives, predicted, field, hidden, voxels, batch["view"], task.loss
            )

        found = {"loss": losses(_predicted(task, state.ema_params, state, seen))}
        if trivial:
            width = channels(objectives.names, field.shape[-1])
            zeros = {"voxels": jnp.zeros((*field.shape[:4], width)), "view": 0.0 * batch["view"]}
            found["mean"] = losses(zeros)
            found["interpolation"] = jnp.full_like(found["mean"], jnp.nan)
            if objectives.corrupts:
                filled = interpolate(
                    seen, hidden, task.view.kind == "fractional", objectives.block
                )
                rest = zeros["voxels"][..., field.shape[-1] :]
                by_eye = losses(zeros | {"voxels": jnp.concatenate([filled, rest], axis=-1)})
                of_field = jnp.asarray([n in ("masked", "denoising") for n in objectives.names])
                found["interpolation"] = jnp.where(of_field, by_eye, jnp.nan)
        return found

    found = jax.lax.map(one_view, jnp.arange(num_views))
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), found)


def _voxels(field: jax.Array, batch: dict[str, jax.Array], view) -> jax.Array:
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
