"""Mapped steps against one array, one device and one `jax.grad`, on real records."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from densityjax.data.batches import BatchSource, training_labels
from densityjax.data.dataset import open_dataset
from densityjax.data.records import load_records
from densityjax.model import views
from densityjax.model.losses import LossConfig
from densityjax.model.msa3dcnn import MSA3DCNN
from densityjax.step import parallel, steps
from densityjax.step.optimizer import create_optimizer
from densityjax.step.scalers import fit_statistics
from densityjax.step.task import Task
from densityjax.step.train_state import create_train_state
from densityjax.targets import get_specs

pytestmark = pytest.mark.slow  # compiles a step, or a whole run, in nearly every test

SPECS = get_specs(["bulk_modulus", "debye_temperature", "is_metal", "magnetic_moment"])
WEIGHTS = (1.0, 2.0, 0.5, 1.0)
DECAY = 0.4


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Lists what XLA compiles meanwhile."""
    found: list[str] = []

    def note(event: str, duration: float, **facts) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    batch: dict  # 16 rows, of which 3 are padding
    statistics: dict
    task: Task

    def state(self, step=5):
        """A fresh state, on the host."""
        state = fresh_state(self.task, self)
        params = state.params | {"log_variance": np.array([0.3, -0.2, 0.1, 0.5], "f4")}
        return state.replace(step=np.asarray(step, np.int32), params=params)


@functools.cache
def fresh_state(task, setup):
    return jax.device_get(create_train_state(task.model, task.tx, setup.statistics, 3, 10))


@pytest.fixture(scope="module", name="setup")
def make_setup(small_dataset):
    return build_setup(small_dataset)


@functools.cache  # for the other module that takes this fixture, too
def build_setup(small_dataset):
    builder = open_dataset("elastic_densities/grid24", str(small_dataset), build=False)
    records = load_records(
        builder, ["fold2", "fold3", "fold4"], SPECS, channels=2, spin_polarized_only=False,
        cache_in_memory=True,
    )
    statistics = fit_statistics(
        records, SPECS, field_transform="log", log_clamp=1e-3, lattice_feature_kind="metric",
        balance_classes=True,
    )
    labels, mask = training_labels(records, SPECS, statistics.label_mean, statistics.label_std)
    batch = BatchSource(records, labels, mask, 0, 16, 9, 0, 1)[0]
    rng = np.random.default_rng(0)
    batch["mask"][:, 1] *= rng.random(16) < 0.4  # uneven over devices and micro-batches
    batch["mask"][8:, 0] = 0
    batch["mask"][:3] = 0
    batch["labels"][batch["mask"] == 0] = np.nan
    task = Task(
        model=MSA3DCNN(
            tuple((s.name, s.num_outputs) for s in SPECS), (4, 8), (1, 0), attention=("channel",),
            head_width=4, dropout=0.3, padding="zero", implementation="lax",
        ),
        specs=SPECS,
        view=views.ViewConfig("cartesian", 10, 0.6, True, False, True, True),
        loss=LossConfig("mse", 1.0, WEIGHTS, "uncertainty"),
        tx=optax.sgd(0.1),  # a linear update shows the gradient as it is
        field_transform="log",
        log_clamp=1e-3,
        lattice_features="metric",
        ema_decay=DECAY,
    )
    return Setup(batch, statistics.arrays(), task)


def reference_loss(task, params, state, batch):
    """The formula of the masked loss over the whole batch at once."""
    step_key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    keys = jnp.stack(
        [jax.random.split(jax.random.fold_in(step_key, int(i))) for i in batch["index"]]
    )
    field, lattice = jax.vmap(functools.partial(views.training_view, task.view))(
        batch["density"], batch["lattice"], keys[:, 0]
    )
    outputs, _ = steps.apply_model(
        task, params, state.statistics, field, lattice, batch["num_electrons"],
        batch["descriptors"], keys[:, 1],
    )
    total = 0.0
    means = []
    for t, spec in enumerate(SPECS):
        rows = np.flatnonzero(batch["mask"][:, t])
        output, label = outputs[spec.name][rows], batch["labels"][rows, t]
        if spec.kind == "regression":
            mean, factor = ((output[:, 0] - label) ** 2).mean(), 0.5
        else:
            index = label.astype(int)
            score = jax.nn.log_softmax(output)[np.arange(len(rows)), index]
            weight = state.statistics["class_weights"][spec.name][index]
            mean, factor = -(weight * score).mean(), 1.0
        s = params["log_variance"][t]
        total += WEIGHTS[t] * (factor * jnp.exp(-s) * mean + s / 2)
        means.append(mean)
    return total / sum(WEIGHTS), jnp.stack(means)


@pytest.fixture(scope="module")
def reference(setup):
    state = setup.state()
    function = jax.value_and_grad(
        lambda params: reference_loss(setup.task, params, state, setup.batch), has_aux=True
    )
    (loss, means), gradient = jax.jit(function)(state.params)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
    return {"loss": loss, "means": means, "gradient": gradient, "params": params}


@functools.cache
def mapped_step(setup, num_devices):
    return parallel.mapped_train_step(setup.task, tuple(jax.devices()[:num_devices]))


def run(setup, num_devices, accumulation, batch=None):
    devices = jax.devices()[:num_devices]
    state = parallel.replicate(setup.state(), devices)
    shares = parallel.split_batch(batch or setup.batch, accumulation, devices)
    assert shares["mask"].shape == (num_devices, accumulation, 16 // num_devices // accumulation, 4)
    return mapped_step(setup, num_devices)(state, shares)


def assert_close(a, b, atol=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


@pytest.mark.parametrize(("num_devices", "accumulation"), [(1, 1), (8, 1), (2, 4)])
def test_devices_and_micro_batches_do_not_change_the_update(
    setup, reference, num_devices, accumulation
):
    state, metrics = run(setup, num_devices, accumulation)
    assert_close(state.params, reference["params"])
    assert metrics["loss"] == pytest.approx(float(reference["loss"]), rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(
        float(optax.tree.norm(reference["gradient"])), rel=1e-3
    )
    np.testing.assert_array_equal(metrics["target_count"], setup.batch["mask"].sum(0))
    assert_close(metrics["target_sum"] / metrics["target_count"], reference["means"])
    assert len(set(setup.batch["mask"].reshape(8, 2, 4).sum((1, 2)))) > 2  # really uneven
    assert state.step == 6
    average = jax.tree.map(  # of the step's ema_params, made with zero log-variances
        lambda old, new: DECAY * old + (1 - DECAY) * new, setup.state().ema_params, state.params
    )
    assert_close(state.ema_params, average, atol=1e-6)


@pytest.mark.parametrize("split", [True, False])
def test_recomputed_micro_batches_give_the_update_of_the_large_batch(setup, reference, split):
    task = dataclasses.replace(setup.task, model=setup.task.model.clone(remat=True))
    recomputing = dataclasses.replace(setup, task=task)
    jax.tree.map(np.testing.assert_array_equal, recomputing.state(), setup.state())
    device = tuple(jax.devices()[:1])
    step = parallel.TrainStep(task, device, split)
    shares = parallel.split_batch(setup.batch, 4, device)
    before = parallel.replicate(recomputing.state(), device)
    state, metrics = step(before, shares)
    assert_close(state.params, reference["params"])
    assert metrics["loss"] == pytest.approx(float(reference["loss"]), rel=1e-4)
    with compilations() as found:
        step(state, shares)
    assert found == []


def test_recomputation_frees_memory(setup):
    """On CPU, too, where XLA undoes a checkpoint unless told otherwise."""
    model = setup.task.model.clone(blocks=(4, 0), stem_stride=1, widths=(8, 8), attention=())
    planned = {}
    for remat in (False, True):
        task = dataclasses.replace(setup.task, model=model.clone(remat=remat))
        small = dataclasses.replace(setup, task=task)
        shares = parallel.split_batch(setup.batch, 1, jax.devices()[:1])
        step = parallel.mapped_train_step(task, tuple(jax.devices()[:1]))
        state = parallel.replicate(small.state(), jax.devices()[:1])
        planned[remat] = step.compile(state, shares)[0].memory_analysis().temp_size_in_bytes
    assert planned[True] < 0.75 * planned[False]


def test_the_order_of_examples_does_not_matter(setup, reference):
    """An example takes its random view along to whatever device it is sent."""
    order = np.random.default_rng(4).permutation(16)
    state, _ = run(setup, 8, 1, {name: leaf[order] for name, leaf in setup.batch.items()})
    assert_close(state.params, reference["params"])


def test_one_compilation_for_fresh_and_restored_states_which_are_donated(setup):
    config = ConfigDict(
        dict(learning_rate=1e-2, warmup_fraction=0.1, weight_decay=0.1, clip_norm=1.0, b1=0.9,
             b2=0.99, trunk_rate=1.0, head_first=0.0)
    )
    setup = dataclasses.replace(
        setup, task=dataclasses.replace(setup.task, tx=create_optimizer(config, 10))
    )
    step = parallel.mapped_train_step(setup.task)
    fresh = parallel.replicate(setup.state())
    shares = parallel.split_batch(setup.batch, 1)
    with compilations() as found:
        state, first = step(fresh, shares)
    assert found
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((fresh.params, fresh.opt_state)))
    saved = jax.device_get(state)
    with compilations() as found:
        state, second = step(state, shares)
        _, again = step(parallel.replicate(saved), shares)  # as after a restart
    assert found == []
    assert first["loss"] != second["loss"]  # other random views at the next step
    assert jax.device_get(again["loss"]) == jax.device_get(second["loss"])


def test_predict_batch_takes_any_size_and_compiles_once(setup):
    mapped = parallel.mapped_predict_step(setup.task, 3)
    names = ("density", "lattice", "num_electrons", "descriptors")
    state = parallel.replicate(setup.state())

    def predict(size):
        batch = {name: setup.batch[name][:size] for name in names}
        return parallel.predict_batch(mapped, state, batch, 16)

    results = {16: predict(16)}
    with compilations() as found:
        results |= {1: predict(1), 11: predict(11)}
    assert found == []
    outputs, embedding = results[11]
    assert embedding.shape == (11, 2 * 8 + 4)
    assert outputs["is_metal"].shape == (11, 3, 2)
    for size in (1, 11):
        jax.tree.map(
            lambda a, b, n=size: np.testing.assert_array_equal(a, b[:n]), results[size], results[16]
        )

    # Views by hand, of the averaged parameters and without dropout.
    @jax.jit
    def one_view(view):
        field, lattice = jax.vmap(lambda *x: views.evaluation_view(setup.task.view, *x, view))(
            setup.batch["density"], setup.batch["lattice"]
        )
        return steps.apply_model(
            setup.task, state.ema_params, state.statistics, field, lattice,
            setup.batch["num_electrons"], setup.batch["descriptors"],
        )

    expected, embeddings = zip(*(one_view(view) for view in range(3)))
    expected = [outputs["is_metal"] for outputs in expected]
    assert_close(results[16][0]["is_metal"], np.stack(expected, axis=1))
    assert_close(results[16][1], np.mean(embeddings, axis=0))


def test_predict_batch_pads_to_the_devices_alone_by_default(setup):
    seen = []

    def mapped(state, batch):
        seen.append(batch["x"])
        return batch["x"] * 2

    result = parallel.predict_batch(mapped, None, {"x": np.arange(11.0)})
    assert seen[0].shape == (8, 2)
    np.testing.assert_array_equal(result, 2 * np.arange(11.0))


def test_split_batch():
    batch = {"x": np.arange(32), "y": np.zeros((32, 3))}
    shares = parallel.split_batch(batch, 2)
    assert shares["y"].shape == (8, 2, 2, 3)
    np.testing.assert_array_equal(shares["x"].ravel(), np.arange(32))


@pytest.mark.parametrize("ahead", [0, 1, 3, 20])
def test_batches_placed_ahead_are_the_same_in_the_same_order(ahead):
    rng, taken = np.random.default_rng(0), []

    def batches():
        for step in range(7):
            taken.append(step)
            yield {"x": rng.random((16, 2, 3)).astype("f4"), "step": np.full(16, step, np.int32)}

    plain = [parallel.split_batch(batch, 2) for batch in batches()]
    rng, taken[:] = np.random.default_rng(0), []
    placed = parallel.place_ahead(batches(), 2, ahead=ahead)
    assert taken == []  # nothing is read before the first is asked for
    for step, (batch, expected) in enumerate(zip(placed, plain, strict=True)):
        assert taken[-1] == min(step + ahead, 6)
        for name, leaf in expected.items():
            np.testing.assert_array_equal(batch[name], leaf)
            shards = batch[name].addressable_shards
            assert [shard.device for shard in shards] == jax.local_devices()
            for device, shard in enumerate(shards):
                np.testing.assert_array_equal(shard.data[0], leaf[device])
    assert taken == list(range(7))


def test_a_placed_batch_gives_the_update_of_a_plain_one(setup):
    devices = tuple(jax.devices()[:2])
    plain, first = run(setup, 2, 4)
    batches = parallel.place_ahead([setup.batch] * 2, 4, devices)
    state = parallel.replicate(setup.state(), devices)
    placed, second = mapped_step(setup, 2)(state, next(batches))
    for a, b in zip(jax.tree.leaves((plain, first)), jax.tree.leaves((placed, second))):
        np.testing.assert_array_equal(jax.device_get(a), jax.device_get(b))
    with compilations() as found:
        mapped_step(setup, 2)(placed, next(batches))
    assert found == []


@pytest.mark.parametrize("split", [False, True])
def test_a_step_compiled_from_shapes_is_the_one_that_runs(setup, split):
    step = parallel.TrainStep(setup.task, split=split)
    state, shares = parallel.replicate(setup.state()), parallel.split_batch(setup.batch, 1)
    expected = steps_in_one_program(setup, shares)
    step.compile(*parallel.shapes(setup.state(), setup.batch, 1))
    with compilations() as found:
        state, metrics = step(state, next(parallel.place_ahead([setup.batch], 1)))
    assert found == []
    for leaf, other in zip(jax.tree.leaves((state, metrics)), jax.tree.leaves(expected)):
        np.testing.assert_allclose(leaf, other, rtol=1e-6, atol=1e-7)


def steps_in_one_program(setup, shares):
    return jax.device_get(
        parallel.TrainStep(setup.task, split=False)(parallel.replicate(setup.state()), shares)
    )
