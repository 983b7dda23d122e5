import dataclasses

import numpy as np
import pytest

from densityjax.runtime.errors import ConfigError, UserError
from densityjax.targets import TARGETS, from_intensive, get_specs, to_intensive

ELECTRONS, VOLUME = np.array([8.0, 12.0, 30.0]), np.array([40.0, 11.0, 200.0])
REGRESSION = [spec for spec in TARGETS.values() if spec.kind == "regression"]


@pytest.mark.parametrize("transform", ["identity", "log"])
@pytest.mark.parametrize("spec", REGRESSION, ids=lambda spec: spec.name)
def test_from_intensive_undoes_to_intensive(spec, transform):
    spec, values = dataclasses.replace(spec, transform=transform), np.array([1.5, 20.0, np.nan])
    intensive = to_intensive(spec, values, ELECTRONS, VOLUME)
    np.testing.assert_allclose(from_intensive(spec, intensive, ELECTRONS, VOLUME), values)


def test_scales_and_logarithm():
    volume = TARGETS["volume"]
    np.testing.assert_allclose(to_intensive(volume, VOLUME, ELECTRONS, VOLUME), VOLUME / ELECTRONS)
    moment = TARGETS["magnetic_moment"]
    np.testing.assert_allclose(to_intensive(moment, ELECTRONS, 0, VOLUME), ELECTRONS / VOLUME)
    log = dataclasses.replace(volume, transform="log")
    np.testing.assert_allclose(
        to_intensive(log, VOLUME, ELECTRONS, VOLUME), np.log(VOLUME) - np.log(ELECTRONS)
    )


def test_a_supercell_doubles_what_is_extensive():
    for spec in REGRESSION:
        one, two = (from_intensive(spec, np.array(0.7), n * 8.0, n * 40.0) for n in (1, 2))
        assert two == pytest.approx(one * (2 if spec.per else 1))
    assert {spec.name for spec in REGRESSION if spec.per} == {
        "volume", "total_energy", "magnetic_moment",
    }


def test_predictions_are_clamped_to_the_physical_range():
    raw = np.array([-3.0, 2.0, np.nan])
    clamped = from_intensive(TARGETS["bulk_modulus"], raw, ELECTRONS, VOLUME)
    np.testing.assert_array_equal(clamped, [0.0, 2.0, np.nan])
    free = from_intensive(TARGETS["fermi_energy"], raw, ELECTRONS, VOLUME)
    np.testing.assert_array_equal(free, raw)


def test_log_passes_missing_labels_and_refuses_others():
    log = dataclasses.replace(TARGETS["shear_modulus"], transform="log")
    values = to_intensive(log, np.array([np.nan, 1.0, np.e]), ELECTRONS, VOLUME)
    np.testing.assert_allclose(values, [np.nan, 0, 1])
    for bad in (0.0, -1.0):
        with pytest.raises(UserError, match="'shear_modulus' has a log transform and labels <= 0"):
            to_intensive(log, np.array([bad, 1.0, np.nan]), ELECTRONS, VOLUME)


def test_the_tail_of_the_anisotropy_is_trained_as_its_logarithm():
    anisotropy = TARGETS["elastic_anisotropy"]
    labels = np.array([5.14466e-06, 0.5, 397.298])  # least, median and largest of 2.0
    trained = to_intensive(anisotropy, labels, ELECTRONS, VOLUME)
    np.testing.assert_allclose(trained, np.log(labels))
    np.testing.assert_allclose(from_intensive(anisotropy, trained, ELECTRONS, VOLUME), labels)


def test_elastic_constants_are_clamped_where_stability_does():
    raw = np.array([-3.0, 2.0])
    for name, least in (("c11", 0.0), ("c44", 0.0), ("c12", -3.0)):
        found = from_intensive(TARGETS[name], raw, 8.0, 40.0)
        np.testing.assert_array_equal(found, [least, 2.0])


def test_optical_constants_are_at_least_those_of_vacuum():
    for name in ("refractive_index", "dielectric_constant"):
        found = from_intensive(TARGETS[name], np.array([-0.3, np.log(2.5)]), 8.0, 40.0)
        np.testing.assert_allclose(found, [1.0, 2.5])


def test_get_specs():
    specs = get_specs(["is_metal", "volume", "crystal_system"])
    assert [(spec.name, spec.num_outputs) for spec in specs] == [
        ("is_metal", 2), ("volume", 1), ("crystal_system", 7),
    ]
    assert all(name == spec.name for name, spec in TARGETS.items())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bulk_modulous"], "unknown target 'bulk_modulous' .* did you mean bulk_modulus"),
        (["colour"], "unknown target 'colour' in config.targets: known: bulk_modulus, "),
        (["volume", "volume"], "must name each target once"),
        ([], "must name each target once"),
    ],
)
def test_wrong_names(names, message):
    with pytest.raises(ConfigError, match=message):
        get_specs(names)
