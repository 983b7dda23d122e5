"""Pure train and predict steps on one device's share of a batch.

The mapping over devices is in `densityjax.step.parallel`; here its axis is only named.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from densityjax.model import losses, views
from densityjax.model.constraints import constrain
from densityjax.model.field import standardised_view
from densityjax.model.lattice_features import lattice_features
from densityjax.step.objective_steps import view_losses
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState

AXIS = "batch"
DeviceBatch = dict[str, jax.Array]  # what reaches a device; its keys stand at `gradient_step`
StepMetrics = dict[str, jax.Array]
PyTree = Any


def apply_model(
    task: Task, params: Any, statistics: Any, field: jax.Array, lattice: jax.Array,
    num_electrons: jax.Array, descriptors: jax.Array, keys: jax.Array | None = None,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Standardises a view and runs the model, whose outputs obey the constraints of the task.

    A prediction is even in the magnetisation where it is the mean over both of its signs; a view
    then takes twice the work.

    Args:
        field: [B, S, S, S, C] e/Å^3.
        lattice: [B, 3, 3] Å.
        num_electrons: [B].
        descriptors: [B, D] of the material, see `features.reduction`; D may be 0.
        keys: [B] random keys of dropout, None in evaluation.

    Returns:
        ({target: [B, width]}, embedding [B, E]).
    """
    twice = "even_spin" in task.constraints and field.shape[-1] == 2
    field = standardised_view(field, lattice, task.field_transform, task.log_clamp, statistics)
    features = lattice_features(lattice, num_electrons, task.lattice_features)
    features = jnp.concatenate([features, descriptors], axis=1)  # [B, F + D]
    features = (features - statistics["feature_mean"]) / statistics["feature_std"]
    if twice:  # the magnetisation is the last channel, and its mean is 0 in the scalers
        other = field.at[..., -1].multiply(-1)
        field, features = jnp.concatenate([field, other]), jnp.concatenate([features, features])
        keys = None if keys is None else jnp.concatenate([keys, keys])
    outputs, embedding = task.model.apply({"params": params["model"]}, field, features, keys)
    if twice:
        outputs, embedding = jax.tree.map(_mean_of_halves, (outputs, embedding))
    if task.constraints:
        outputs = constrain(
            outputs, task.specs, task.constraints, statistics["label_mean"],
            statistics["label_std"],
        )
    return outputs, embedding


def _mean_of_halves(leaf: jax.Array) -> jax.Array:
    first, second = jnp.split(leaf, 2)
    return (first + second) / 2


def loss_sums(
    params: Any, state: TrainState, batch: DeviceBatch, *, task: Task
) -> jax.Array:
    """Sum of each target's losses over a batch seen through its random training views.

    Objectives without labels follow the targets, in a pass of their own: they may hide something.

    Args:
        params: like `state.params`; the state gives seed, step and statistics.
        batch: leaves [b, ...], see `gradient_step`.

    Returns:
        [T].
    """
    step_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    keys = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(step_key, index)))(
        batch["index"]
    )  # [b, 2]
    view = jax.vmap(lambda *args: views.training_view(task.view, *args))
    field, lattice = view(batch["density"], batch["lattice"], keys[:, 0])
    count, columns = len(task.specs), []
    if task.specs:
        outputs, _ = apply_model(
            task, params, state.statistics, field, lattice, batch["num_electrons"],
            batch["descriptors"], keys[:, 1],
        )
        labels, mask = batch["labels"], batch["mask"]
        if task.objectives is not None:
            labels, mask = labels[:, :count], mask[:, :count]
        columns.append(losses.example_losses(
            outputs, labels, mask, state.statistics["class_weights"], task.specs, task.loss
        ))
    if task.objectives is not None:
        found = view_losses(params, state, batch, field, lattice, keys, task=task)
        columns.append(jnp.where(batch["mask"][:, count:] > 0, found, 0.0))
    return columns[0].sum(0) if len(columns) == 1 else jnp.concatenate(columns, axis=1).sum(0)


def gradient_step(
    state: TrainState, batch: DeviceBatch, *, task: Task
) -> tuple[PyTree, StepMetrics]:
    """Gradient of the loss of a batch that is spread over devices and micro-batches.

    The loss of a target is its sum over all labels of the global batch divided by their number,
    so the devices' label counts are added up before gradients are formed: a mean of per-device
    means would be another number wherever labels are missing.

    Args:
        state: only `step`, `params`, `key` and `statistics` are read.
        batch: leaves [A, b, ...]: A micro-batches of b examples; keys density, lattice,
          num_electrons, descriptors, index (int id), labels and mask ([A, b, T], mask 0 for
          padding too). With objectives, whose columns come last, voxels and view, too, see
          `data.free_targets`.

    Returns:
        (gradient like `state.params`, {loss, target_sum [T], target_count [T]}), equal on every
        device.
    """
    count = jax.lax.psum(batch["mask"].sum((0, 1)), AXIS)  # [T]
    safe_count = jnp.maximum(count, 1.0)

    def micro_gradient(carry, micro):
        gradient, total = carry
        # The loss is linear in the targets' sums, so its gradient is that of the sums, weighted.
        sums, pull = jax.vjp(lambda p: loss_sums(p, state, micro, task=task), state.params)
        (more,) = pull(weights)
        return (jax.tree.map(jnp.add, gradient, more), total + sums), None

    def objective(target_means, log_variance):
        present = (count > 0).astype(jnp.float32)
        return losses.total_loss(target_means, log_variance, present, task.columns, task.loss)

    log_variance = state.params["log_variance"]
    # d loss / d (sum of a target) = (d loss / d mean) / count; the factor does not depend on means.
    weights = jax.grad(objective)(jnp.zeros_like(safe_count), log_variance) / safe_count
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    start = (zeros, jnp.zeros_like(safe_count))
    if batch["mask"].shape[0] == 1:  # spares a loop, which would hide fusions from XLA
        (gradient, sums), _ = micro_gradient(start, jax.tree.map(lambda leaf: leaf[0], batch))
    else:
        (gradient, sums), _ = jax.lax.scan(micro_gradient, start, batch)
    gradient, sums = jax.lax.psum((gradient, sums), AXIS)
    means = sums / safe_count  # [T]
    loss, of_variance = jax.value_and_grad(objective, argnums=1)(means, log_variance)
    gradient["log_variance"] = of_variance

    return gradient, {"loss": loss, "target_sum": sums, "target_count": count}


def update_step(
    state: TrainState, gradient: PyTree, loss: jax.Array, *, task: Task
) -> tuple[TrainState, StepMetrics]:
    """One update from a gradient, or none where the loss or the gradient is not finite.

    A skipped step returns the state as it was: parameters, averages, schedule and `step` wait for
    the next batch. The choice is made on the device, so the host need not look at each step.

    Args:
        loss: [] of the batch.

    Returns:
        (new state, {grad_norm, skipped: 0 or 1}).
    """
    grad_norm = optax.tree.norm(gradient)
    # A norm that overflows counts as not finite, too: clipping by it would erase the gradient.
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    updates, opt_state = task.tx.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # Early averages would remember the random start, so the decay grows with the step.
    decay = jnp.minimum(task.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema_params = jax.tree.map(
        lambda average, new: decay * average + (1 - decay) * new, state.ema_params, params
    )
    updated = state.replace(
        step=state.step + 1, params=params, ema_params=ema_params, opt_state=opt_state
    )
    state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
    return state, {"grad_norm": grad_norm, "skipped": 1 - finite.astype(jnp.int32)}


def train_step(
    state: TrainState, batch: DeviceBatch, *, task: Task
) -> tuple[TrainState, StepMetrics]:
    """One update from a batch, see `gradient_step`: (new state, the metrics of both parts)."""
    gradient, metrics = gradient_step(state, batch, task=task)
    state, more = update_step(state, gradient, metrics["loss"], task=task)
    return state, metrics | more


def predict_step(
    state: TrainState, batch: DeviceBatch, *, task: Task, num_views: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Outputs of the averaged parameters for every evaluation view.

    Args:
        batch: leaves [b, ...]: density, lattice, num_electrons, descriptors.

    Returns:
        ({target: [b, V, width]} standardised values or logits, embedding [b, E], the views' mean).
    """

    def one_view(view):
        field, lattice = see_view(batch["density"], batch["lattice"], view, task=task)
        return apply_model(
            task, state.ema_params, state.statistics, field, lattice, batch["num_electrons"],
            batch["descriptors"],
        )

    # One view at a time: V views at once would take V times the memory of a training step.
    outputs, embedding = jax.lax.map(one_view, jnp.arange(num_views))
    outputs = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), outputs)
    return outputs, embedding.mean(0)


def see_view(
    density: jax.Array, lattice: jax.Array, view: jax.Array | int, *, task: Task
) -> tuple[jax.Array, jax.Array]:
    """An evaluation view of each example.

    Args:
        density: [b, G, G, G, C] e/Å^3.
        lattice: [b, 3, 3] Å.
        view: its number.

    Returns:
        (field [b, S, S, S, C] in the unit of the density, lattice [b, 3, 3] Å).
    """
    make = jax.vmap(lambda *args: views.evaluation_view(task.view, *args, view))
    return make(density, lattice)
