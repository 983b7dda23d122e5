"""What a run takes from a trained model: the same numbers mean the same afterwards."""

import dataclasses

import numpy as np
import pytest

from densityjax.features.descriptors import Descriptors
from densityjax.features.identification import fit_finder
from densityjax.step.scalers import Statistics
from densityjax.step.train_state import TrainState
from densityjax.targets import get_specs
from densityjax.training.start import Start

SPECS = get_specs(("bulk_modulus", "band_gap", "is_metal"))


def _statistics(mean: list[float], std: list[float], field: float = 0.0) -> Statistics:
    one = np.ones(1)
    return Statistics(
        np.array(mean), np.array(std), field * one, (1 + field) * one, field * one,
        (1 + field) * one, {},
    )


def _modules(seed: int, targets: dict[str, int], hidden: int = 3) -> dict:
    """Of a trunk of one module whose embedding has 2 numbers, and of heads {target: width}."""
    draw = np.random.default_rng(seed).normal

    def layer(*shape: int) -> dict:
        return {"kernel": draw(size=shape), "bias": draw(size=shape[-1:])}

    heads = {}
    for name, width in targets.items():
        heads |= {f"{name}_hidden": layer(2, hidden), f"{name}_out": layer(hidden, width)}
    return {"stem": layer(1, 2)} | heads


def _start(**changes) -> Start:
    start = Start(
        _modules(0, {"bulk_modulus": 1, "band_gap": 1, "is_metal": 2}), SPECS,
        _statistics([100.0, 2.0, 0.0], [50.0, 1.5, 1.0], field=3.0), Descriptors(None, {}), {},
    )
    return dataclasses.replace(start, **changes)


def _state(modules: dict) -> TrainState:
    params = {"model": modules, "log_variance": np.zeros(2)}
    return TrainState(np.array(0), params, params, (), np.zeros(2), {})


def _output(modules: dict, target: str) -> np.ndarray:
    """Of the network: field [5, 1] -> embedding [5, 2] -> hidden -> [5, width]."""
    values = np.linspace(-1, 1, 5)[:, None]
    for name in ("stem", f"{target}_hidden", f"{target}_out"):
        values = values @ np.asarray(modules[name]["kernel"]) + np.asarray(modules[name]["bias"])
    return values


def test_heads_answer_the_same_in_the_unit_of_the_label():
    start, specs = _start(), get_specs(("is_metal", "shear_modulus", "bulk_modulus"))
    fresh = _modules(1, {"is_metal": 2, "shear_modulus": 1, "bulk_modulus": 1})
    fitted = _statistics([0.0, 40.0, 170.0], [1.0, 30.0, 80.0])
    state = start.put_into(_state(fresh), specs, fitted)
    modules = state.params["model"]
    old = _output(start.parameters, "bulk_modulus") * 50.0 + 100.0
    np.testing.assert_allclose(_output(modules, "bulk_modulus") * 80.0 + 170.0, old, rtol=1e-5)
    old = _output(start.parameters, "is_metal")
    np.testing.assert_allclose(_output(modules, "is_metal"), old, rtol=1e-5)
    for name in ("shear_modulus_hidden", "shear_modulus_out"):  # which it has none of
        np.testing.assert_allclose(modules[name]["kernel"], fresh[name]["kernel"], rtol=1e-6)
    averages = state.ema_params["model"]["stem"]["kernel"]
    np.testing.assert_array_equal(averages, modules["stem"]["kernel"])
    assert averages is not modules["stem"]["kernel"]  # each is donated once


def test_why_a_head_is_new():
    specs = get_specs(("bulk_modulus", "shear_modulus", "band_gap", "is_metal"))
    specs = (specs[0], specs[1], dataclasses.replace(specs[2], transform="log"), specs[3])
    fresh = _modules(1, {"bulk_modulus": 1, "shear_modulus": 1, "band_gap": 1, "is_metal": 3})
    taken, others = _start().heads_for(specs, fresh)
    assert taken == ["bulk_modulus"]
    assert others == {
        "shear_modulus": "it has none",
        "band_gap": "its unit, transform or classes are others",
        "is_metal": "its width is another (config.model.head_width)",
    }
    taken, others = _start(descriptors=None).heads_for(specs[:1], fresh)
    assert (taken, list(others)) == ([], ["bulk_modulus"])


def test_a_trunk_of_other_shapes_is_a_mistake():
    fresh = _modules(1, {"bulk_modulus": 1}) | {"stem": {"kernel": np.ones((1, 4))}}
    with pytest.raises(ValueError, match="module stem of the trunk"):
        _start().put_into(_state(fresh), SPECS[:1], _statistics([1.0], [1.0]))


def test_the_decoder_comes_with_the_same_objectives():
    """That of voxels; components of a view are fitted anew."""
    draw = np.random.default_rng(0).normal
    old, fresh = ({"voxels_out": {"kernel": draw(size=(2, 3))}, "view_out": {"bias": draw(size=4)}}
                  for _ in range(2))
    start = _start(objectives=("masked", "invariants"), decoder=old)
    state = _state(_modules(1, {}))
    state = state.replace(params=state.params | {"decoder": fresh})

    def taken(*objectives: str, start=start) -> dict:
        new = start.put_into(state, (), _statistics([], []), objectives)
        return new.params["decoder"]

    for names in (("masked", "invariants"), ("masked",)):
        np.testing.assert_array_equal(
            taken(*names)["voxels_out"]["kernel"], old["voxels_out"]["kernel"].astype(np.float32)
        )
        np.testing.assert_array_equal(
            taken(*names)["view_out"]["bias"], fresh["view_out"]["bias"].astype(np.float32)
        )
    wide = dataclasses.replace(start, decoder={"voxels_out": {"kernel": draw(size=(2, 9))}})
    kernels = (taken("denoising"), taken("masked", start=wide), taken("masked", start=_start()))
    for kernel in (own["voxels_out"]["kernel"] for own in kernels):
        np.testing.assert_array_equal(kernel, fresh["voxels_out"]["kernel"].astype(np.float32))


def test_inputs_are_scaled_as_the_trunk_knows_them():
    fitted = _statistics([1.0], [2.0])
    scalers = _start().scalers_in(fitted)
    assert (scalers.field_mean, scalers.feature_mean, scalers.label_std) == (3.0, 3.0, 2.0)
    # Its descriptors are fitted anew, and so is their scale.
    scalers = _start(descriptors=None).scalers_in(fitted)
    assert (scalers.field_mean, scalers.feature_mean) == (3.0, 0.0)


def test_atoms_that_the_finder_remembers_are_not_compared_with_themselves():
    """The rows are in another order than those that it was fitted to, and one is new."""
    draw = np.random.default_rng(0)
    places = {3: 0.0, 11: 4.0, 19: 8.0}
    species = [np.array([z]) for z in (3, 3, 11, 11, 19)]
    surroundings = [draw.normal(places[z.item()], 0.3, (1, 4)).astype("f4") for z in species]
    electrons = np.full(5, np.nan)
    finder = fit_finder(surroundings, species, np.ones(5))
    finder = dataclasses.replace(finder, valence=np.full(3, np.nan, np.float32))
    start = _start(descriptors=Descriptors(finder, {}))
    rows = [*surroundings[::-1], draw.normal(8.0, 0.3, (1, 4)).astype("f4")]
    features = {"surroundings": rows, "positions": [np.zeros((1, 3), np.float32)] * 6}
    cells = np.tile(5 * np.eye(3), (6, 1, 1)), np.full(6, np.nan)
    own, whole = start.described(features, [], *cells, identify=True)
    asked = own.finder(rows, np.append(electrons, np.nan), training=True)
    told = [int(found[0]) for found in asked]
    assert told == [11, 11, 11, 3, 3, 19]  # the only atom of 19 is not told by itself
    assert len(whole["identified"]) == 6
    # Of a run that goes on the rows of the finder are its own already.
    again = dataclasses.replace(start, parameters=None, descriptors=own)
    _, same = again.described(features, [], *cells, identify=True)
    np.testing.assert_array_equal(same["identified"], whole["identified"])
