"""Several states that see the same views, against each by itself."""

import jax
import numpy as np
import pytest

from densityjax.step import parallel
from densityjax.step.members import PredictMembers
from tests.step.test_parallel import SPECS, Setup, compilations, make_setup  # noqa: F401

pytestmark = pytest.mark.slow  # compiles

NUM_VIEWS = 2


@pytest.mark.parametrize(("at_once", "options"), [(False, True), (True, True), (True, False)])
def test_each_member_says_what_its_state_says(
    setup: Setup, at_once: bool, options: bool, monkeypatch: pytest.MonkeyPatch
):
    """Rows lie on 8 devices, one is padding; what was compiled ahead is what runs.

    Without options of the compiler, too, as on a GPU.
    """
    if not options:
        monkeypatch.setattr(parallel, "on_cpu", lambda *_: {})
    states = [setup.state()]
    states.append(states[0].replace(
        ema_params=jax.tree.map(lambda leaf: 1.1 * leaf + 0.02, states[0].ema_params)
    ))
    inputs = ("density", "lattice", "num_electrons", "descriptors")
    batch = {name: setup.batch[name][:15] for name in inputs}
    alone = parallel.mapped_predict_step(setup.task, NUM_VIEWS)
    expected = [
        parallel.predict_batch(alone, parallel.replicate(state), batch) for state in states
    ]

    program = PredictMembers(setup.task, NUM_VIEWS, quick=True, at_once=at_once)
    members = program.place(states)
    batch["descriptors"] = np.stack([batch["descriptors"]] * 2, axis=1)  # [n, M, 0]
    program.compile(members, {
        name: jax.ShapeDtypeStruct((8, 2, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in batch.items()
    })
    with compilations() as compiled:
        outputs, embedding = parallel.predict_batch(program, members, batch)
    assert not compiled
    for member, (own, own_embedding) in enumerate(expected):
        np.testing.assert_allclose(embedding[:, member], own_embedding, rtol=1e-4, atol=1e-5)
        for spec in SPECS:
            assert outputs[spec.name].shape == (15, 2, NUM_VIEWS, spec.num_outputs)
            np.testing.assert_allclose(
                outputs[spec.name][:, member], own[spec.name], rtol=1e-4, atol=1e-5
            )
    assert abs(embedding[:, 0] - embedding[:, 1]).max() > 1e-3
