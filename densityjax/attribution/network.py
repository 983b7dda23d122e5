"""The network's prediction and its gradient with respect to the stored density.

Pure functions of one device; the prediction is in the target's unit and, unlike what a table of
predictions says, not clamped to the target's minimum, so that it changes with the density always.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from densityjax.model import views
from densityjax.step.steps import apply_model
from densityjax.step.task import Task
from densityjax.targets import TargetSpec

Part = dict[str, Any]  # params, statistics, choice (see `choose`)
Cell = dict[str, jax.Array]  # lattice [3, 3] Å, num_electrons []
_STATIC = ("task", "num_views")
_LINEAR, _LOG, _CLASS = range(3)


def choose(
    task: Task, spec: TargetSpec, which: int, label_mean: float, label_std: float
) -> dict[str, Any]:
    """Which of a network's outputs is meant; arrays, so that all targets share one program.

    Args:
        which: class whose probability is meant; of no use for a regression target.
        label_mean, label_std: of the labels as trained.

    Returns:
        own: [W] of all outputs, one target after the other, those of the target; pick: [W] the one;
        kind, label_mean, label_std: []; per: [3] one-hot of 1, electrons, volume.
    """
    own, pick = [], []
    for other in task.specs:
        mine = other.name == spec.name
        own += [mine] * other.num_outputs
        pick += [mine and number == which for number in range(other.num_outputs)]
    kind = _CLASS if spec.kind == "classification" else _LOG if spec.transform == "log" else _LINEAR
    return {
        "own": np.array(own), "pick": np.array(pick, np.float32), "kind": np.int32(kind),
        "per": np.array([spec.per == per for per in (None, "electron", "volume")], np.float32),
        "label_mean": np.float32(label_mean), "label_std": np.float32(label_std),
    }


def _in_unit(
    task: Task, outputs: dict[str, jax.Array], choice: dict[str, jax.Array], cell: Cell
) -> jax.Array:
    """[B] of outputs {target: [B, width]}; of classes a probability."""
    raw = jnp.concatenate([outputs[spec.name] for spec in task.specs], axis=1)  # [B, W]
    volume = jnp.abs(jnp.linalg.det(cell["lattice"]))  # Å^3
    scale = choice["per"] @ jnp.stack([jnp.ones(()), cell["num_electrons"], volume])

    def trained(raw: jax.Array) -> jax.Array:
        return raw @ choice["pick"] * choice["label_std"] + choice["label_mean"]

    return jax.lax.switch(choice["kind"], (
        lambda raw: trained(raw) * scale,
        lambda raw: jnp.exp(trained(raw)) * scale,
        lambda raw: jax.nn.softmax(jnp.where(choice["own"], raw, -jnp.inf), -1) @ choice["pick"],
    ), raw)


def _fields(
    task: Task, cell: Cell, density: jax.Array, view: jax.Array
) -> tuple[jax.Array, jax.Array]:
    make = jax.vmap(lambda one: views.evaluation_view(task.view, one, cell["lattice"], view))
    return make(density)


def _values_of_view(
    density: jax.Array, descriptors: jax.Array, view: jax.Array, part: Part, cell: Cell, *,
    task: Task,
) -> jax.Array:
    """[B] predictions from one view."""
    field, lattice = _fields(task, cell, density, view)
    electrons = jnp.full(len(density), cell["num_electrons"])
    outputs, _ = apply_model(
        task, part["params"], part["statistics"], field, lattice, electrons, descriptors
    )
    return _in_unit(task, outputs, part["choice"], cell)


@functools.partial(jax.jit, static_argnames=_STATIC)
def values(
    density: jax.Array, descriptors: jax.Array, part: Part, cell: Cell, *, task: Task,
    num_views: int,
) -> jax.Array:
    """Predictions of densities in one cell from every view: [V, B] in the target's unit.

    Args:
        density: [B, G, G, G, C] e/Å^3.
        descriptors: [B, D].
        num_views: V evaluation views, number 0 to V - 1.
    """
    ask = functools.partial(
        _values_of_view, density, descriptors, part=part, cell=cell, task=task
    )
    return jax.lax.map(ask, jnp.arange(num_views))


@functools.partial(jax.jit, static_argnames=_STATIC)
def weighted_gradient(
    density: jax.Array, descriptors: jax.Array, weights: jax.Array, part: Part, cell: Cell, *,
    task: Task, num_views: int,
) -> jax.Array:
    """Weighted sum over densities of the gradient of their predictions, from every view.

    Args:
        density, descriptors, num_views: see `values`.
        weights: [B].

    Returns:
        [V, G, G, G, C] in the target's unit per e/Å^3.
    """

    def total(density: jax.Array, view: jax.Array) -> jax.Array:
        found = _values_of_view(
            density, descriptors, view, part, cell, task=task
        )
        return found @ weights

    return jax.lax.map(lambda view: jax.grad(total)(density, view).sum(0), jnp.arange(num_views))


class _Watched:
    """A model whose last scale is moved by `shift`, and seen when it has been applied."""

    def __init__(self, model: Any, shift: jax.Array | None):
        self._model = model
        self._moved = {} if shift is None else {"perturbations": {"last_scale": shift}}
        self.last_scale: Any = None

    def apply(self, variables: dict, *arguments: Any) -> tuple[dict[str, jax.Array], jax.Array]:
        """As the model's."""
        found, seen = self._model.apply(
            variables | self._moved, *arguments, mutable="intermediates"
        )
        (self.last_scale,) = seen["intermediates"]["last_scale"]
        return found


@functools.partial(jax.jit, static_argnames=_STATIC)
def class_activation(
    density: jax.Array, descriptors: jax.Array, part: Part, cell: Cell, *, task: Task,
    num_views: int,
) -> tuple[jax.Array, jax.Array]:
    """Grad-CAM of the last scale of the trunk, carried back through the views.

    The channels of the last scale are added up, each times the mean over voxels of the prediction's
    gradient with respect to it (Selvaraju et al., arXiv 1610.02391, without their ReLU: the sign
    tells whether a property rises). A view is a linear map of the cell to its voxels; its transpose
    carries the activation back.

    Args:
        density: [G, G, G, C] of one material.
        descriptors: [D].

    Returns:
        (sums over views [G, G, G] of activations in the target's unit, of what each voxel of the
        cell weighs in the views).
    """
    electrons = jnp.full(1, cell["num_electrons"])

    def one_view(view: jax.Array) -> tuple[jax.Array, jax.Array]:
        (field, lattice), carry_back = jax.vjp(
            lambda one: _fields(task, cell, one[None], view), density
        )

        def ask(shift: jax.Array | None) -> tuple[jax.Array, jax.Array]:
            watched = _Watched(task.model, shift)
            outputs, _ = apply_model(
                dataclasses.replace(task, model=watched), part["params"], part["statistics"],
                field, lattice, electrons, descriptors[None],
            )
            return _in_unit(task, outputs, part["choice"], cell)[0], watched.last_scale

        shape = jax.eval_shape(lambda: ask(None))[1].shape  # [1 or 2, g, g, g, W]
        gradient, activation = jax.grad(ask, has_aux=True)(jnp.zeros(shape))
        seen = jnp.einsum("bxyzw,bw->xyz", activation, gradient.mean((1, 2, 3)))[None]
        seen = jax.image.resize(seen, field.shape[:4], "linear")  # [1, S, S, S]

        def carried(values: jax.Array) -> jax.Array:
            cotangent = jnp.zeros_like(field).at[..., 0].set(values)
            return carry_back((cotangent, jnp.zeros_like(lattice)))[0][..., 0]

        return carried(seen), carried(jnp.ones_like(seen))

    found, weight = jax.lax.map(one_view, jnp.arange(num_views))
    return found.sum(0), weight.sum(0)
