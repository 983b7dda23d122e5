"""The only place that maps over devices and places arrays on them."""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from densityjax.model.ops import onednn
from densityjax.runtime import compile_cache, distributed
from densityjax.step import objective_steps, steps
from densityjax.step.compiler_options import (
    COMPILE_FAST,
    COMPILE_LESS,
    KEEP_BARRIERS,
    OLD_EMITTERS,
    Options,
    compiled,
    on_cpu,
)
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState

PyTree = Any
Devices = tuple[jax.Device, ...] | None  # None: all of this host


class TrainStep:
    """`steps.train_step` over devices: (state, batch [D, A, b, ...]) -> (state, metrics).

    The state has no device axis: it is the same everywhere, and its buffers are donated.

    Where convolutions are oneDNN's, the gradient and the update are two programs with the same
    result: XLA cannot store a program with such a call, so only the update, half of the work of the
    compiler, comes from the compilation cache.
    """

    def __init__(self, task: Task, devices: Devices = None, split: bool | None = None):
        """Maps; `split` into two programs where oneDNN is available, unless given."""
        self._split = onednn.available() if split is None else split
        if self._split:
            # Every device makes the same update: nothing is mapped.
            update = jax.jit(
                functools.partial(steps.update_step, task=task), donate_argnums=(0,),
                out_shardings=_sharding(devices),
            )
            self._programs = (
                _gradient_program(without_optimizer(task), devices),
                _Program(update, on_cpu(COMPILE_LESS)),
            )
        else:
            mapped = jax.pmap(
                functools.partial(steps.train_step, task=task), axis_name=steps.AXIS,
                in_axes=(None, 0), out_axes=(None, None), devices=devices, donate_argnums=(0,),
            )
            self._programs = (_Program(mapped, on_cpu(COMPILE_LESS, _barriers(task))),)

    def __call__(self, state: TrainState, batch: PyTree) -> tuple[TrainState, dict]:
        if not self._split:
            return self._programs[0](state, batch)
        gradient, metrics = self._programs[0](_read_by_gradient(state), batch)
        state, more = self._programs[1](state, gradient, metrics["loss"])
        return state, metrics | more

    def compile(self, state: PyTree, batch: PyTree) -> list[jax.stages.Compiled]:
        """Compiles for these shapes, so that the first call with them does not; in any thread.

        Args:
            state, batch: like those of a call, or `jax.ShapeDtypeStruct` leaves, see `shapes`.

        Returns:
            The compiled programs, which know the memory that they need.
        """
        if not self._split:
            return [self._programs[0].compile(state, batch)]
        gradient = self._programs[0].compile(_read_by_gradient(state), batch)
        loss = jax.ShapeDtypeStruct((), np.float32, sharding=state.step.sharding)
        return [gradient, self._programs[1].compile(state, state.params, loss)]


class _Program:
    """A function over devices with the compiler's options, of which jax.pmap takes none.

    Among several processes it has none: a program that is compiled by itself takes the arrays of
    all of them as one.

    Args:
        written: whether the compilation cache may keep it.
    """

    def __init__(self, mapped: Callable, options: Options, written: bool = True):
        self._mapped, self._options = mapped, {} if distributed.several() else options
        self._compiled: dict[Any, jax.stages.Compiled] = {}  # with options; JAX keeps the others
        self._cache = contextlib.nullcontext if written else compile_cache.unwritten

    def __call__(self, *arguments: PyTree) -> PyTree:
        with self._cache():
            if not self._options or _traced(arguments):
                return self._mapped(*arguments)
            return self.compile(*arguments)(*arguments)

    def compile(self, *arguments: PyTree) -> jax.stages.Compiled:
        """For arguments of these shapes, which may be `jax.ShapeDtypeStruct` leaves."""
        with self._cache():
            if not self._options:
                return self._mapped.lower(*arguments).compile()
            leaves, tree = jax.tree.flatten(arguments)
            key = (tree, *((leaf.shape, leaf.dtype) for leaf in leaves))
            if key not in self._compiled:
                self._compiled[key] = compiled(self._mapped.lower(*arguments), self._options)
            return self._compiled[key]


def _traced(arguments: PyTree) -> bool:
    """Whether they are of a transformation, which takes no program that is compiled already."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))


def _read_by_gradient(state: TrainState) -> TrainState:
    return state.replace(opt_state=(), ema_params=())


# Runs of one process that differ in data and seed alone share what has been compiled.
_cached = functools.lru_cache(maxsize=64)


@_cached
def _gradient_program(task: Task, devices: Devices) -> _Program:
    """Of a split step, see `TrainStep`."""
    mapped = jax.pmap(
        functools.partial(steps.gradient_step, task=task), axis_name=steps.AXIS,
        in_axes=(None, 0), out_axes=(None, None), devices=devices,
    )
    return _Program(mapped, on_cpu(COMPILE_LESS, OLD_EMITTERS, _barriers(task)), written=False)


def _barriers(task: Task) -> Options:
    return KEEP_BARRIERS if getattr(task.model, "remat", False) else {}


@_cached
def mapped_train_step(task: Task, devices: Devices = None) -> TrainStep:
    """`steps.train_step` over devices, see `TrainStep`; the same object for equal arguments."""
    return TrainStep(task, devices)


def mapped_predict_step(task: Task, num_views: int) -> Callable:
    """`steps.predict_step` over all devices: (state, batch [D, b, ...]) -> leaves [D, b, ...]."""
    return _predict_program(without_optimizer(task), num_views)


def map_prediction(
    step: Callable, in_axes: tuple[int | None, ...] = (None, 0), quick: bool = False
) -> _Program:
    """A step over all devices that changes nothing: its results are [b, ...] of each.

    Args:
        in_axes: of its arguments, 0 for what is spread over the devices; by default (state, batch).
        quick: for few calls, which are over before a program that runs fast is compiled.
    """
    mapped = jax.pmap(step, axis_name=steps.AXIS, in_axes=in_axes, out_axes=0)
    options = on_cpu(COMPILE_FAST if quick else COMPILE_LESS, OLD_EMITTERS)
    return _Program(mapped, options, written=not onednn.available())  # see TrainStep


def mapped_objective_step(task: Task, num_views: int, trivial: bool = False) -> Callable:
    """`objective_steps.evaluate_objectives` over all devices, as `mapped_predict_step`.

    Args:
        trivial: `trivial_objectives` in its place.
    """
    return _objective_program(without_optimizer(task), num_views, trivial)


def without_optimizer(task: Task) -> Task:
    """The task as far as gradients and predictions go: equal for runs of other length or rate."""
    return dataclasses.replace(task, tx=None, ema_decay=0.0)


@_cached
def _objective_program(task: Task, num_views: int, trivial: bool) -> Callable:
    step = objective_steps.trivial_objectives if trivial else objective_steps.evaluate_objectives
    return map_prediction(functools.partial(step, task=task, num_views=num_views))


@_cached
def _predict_program(task: Task, num_views: int) -> Callable:
    return map_prediction(functools.partial(steps.predict_step, task=task, num_views=num_views))


def replicate(state: PyTree, devices: Devices = None) -> PyTree:
    """Places a state on every device the way the mapped step returns it.

    A state placed otherwise, fresh or restored, would cost a second compilation; one that is bound
    to a single device of several is refused.
    """
    return jax.device_put(state, _sharding(devices))


def spread(tree: PyTree, devices: Devices = None) -> PyTree:
    """Places leaves [D, ...], of each device its own."""
    return jax.device_put(tree, _sharding(devices, steps.AXIS))


def spread_shapes(tree: PyTree) -> PyTree:
    """Leaves with shape [D, ...] and dtype as those that `spread` places."""
    return _placed_shapes(tree, _sharding(None, steps.AXIS))


def _placed_shapes(tree: PyTree, sharding: jax.sharding.NamedSharding) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def _sharding(devices: Devices, *axes: str) -> jax.sharding.NamedSharding:
    """Of leaves that lie on devices along these axes; without any, whole on every one."""
    mesh = jax.sharding.Mesh(np.asarray(devices or jax.local_devices()), (steps.AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def to_global(state: TrainState) -> TrainState:
    """The state as arrays of all processes, as Orbax wants to have what each holds whole.

    A copy; of one process alone, which needs none, the state itself.
    """
    if not distributed.several():
        return state
    sharding = _sharding(tuple(jax.devices()))

    def place(leaf: jax.Array) -> jax.Array:
        value = np.array(leaf)  # the buffers of the state are donated to the next step
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(place, state)


def gather_rows(tree: PyTree) -> PyTree:
    """Host arrays [n, ...] of each process -> [P * n, ...] in every one, in their order."""
    if not distributed.several():
        return tree
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(tree, tiled=True))


def shapes(state: PyTree, batch: PyTree, accumulation_steps: int) -> tuple[PyTree, PyTree]:
    """Shapes as a training step meets them: of a replicated state and of a split batch, placed.

    Args:
        state: leaves with shape and dtype.
        batch: leaves [B, ...] with shape and dtype.
    """

    def split(leaf):
        lead = (jax.local_device_count(), accumulation_steps)
        share = leaf.shape[0] // (lead[0] * lead[1])
        return jax.ShapeDtypeStruct((*lead, share, *leaf.shape[1:]), leaf.dtype)

    return _placed_shapes(state, _sharding(None)), spread_shapes(jax.tree.map(split, batch))


def split_batch(
    batch: dict[str, np.ndarray], accumulation_steps: int, devices: Devices = None
) -> dict[str, np.ndarray]:
    """[B, ...] -> [D, A, b, ...], B being this host's share of the global batch."""
    lead = (len(devices or jax.local_devices()), accumulation_steps)
    return {
        name: leaf.reshape(*lead, len(leaf) // (lead[0] * lead[1]), *leaf.shape[1:])
        for name, leaf in batch.items()
    }


def place_ahead(
    batches: Iterable[dict[str, np.ndarray]], accumulation_steps: int, devices: Devices = None,
    ahead: int = 1,
) -> Iterator[dict[str, jax.Array]]:
    """Split batches in the same order, on the devices before they are asked for.

    A copy to a device starts without waiting for its end, so the copy of the next batches goes on
    while the devices work on this one.

    Args:
        batches: of this host, [B, ...].
        ahead: batches on the devices beside the one in use.
    """
    placed: collections.deque = collections.deque()
    for batch in batches:
        placed.append(spread(split_batch(batch, accumulation_steps, devices), devices))
        if len(placed) > ahead:
            yield placed.popleft()
    yield from placed


def predict_batch(
    mapped: Callable, state: TrainState, batch: dict[str, np.ndarray], min_size: int = 0
) -> PyTree:
    """Runs a mapped predict step on a host batch of any size and returns host arrays [B, ...].

    Rows are padded to `min_size`, so that batches up to it share one compilation, and on to a
    multiple of the devices, with copies of the first; the copies are dropped.
    """
    devices = jax.local_device_count()
    size = len(next(iter(batch.values())))
    padded_size = max(size, min_size)
    padding = padded_size + -padded_size % devices - size
    padded = {
        name: np.concatenate([leaf, np.repeat(leaf[:1], padding, axis=0)]).reshape(
            devices, (size + padding) // devices, *leaf.shape[1:]
        )
        for name, leaf in batch.items()
    }
    result = mapped(state, padded)
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[:size], result)
