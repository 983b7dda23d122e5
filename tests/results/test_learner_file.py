"""What a file gives back predicts as what was saved."""

import numpy as np

from densityjax.results.gaussian_process import KINDS
from densityjax.results.learner_file import load_learners, save_learners
from densityjax.results.yardsticks import fit
from densityjax.targets import get_specs

SPECS = get_specs(["bulk_modulus", "total_energy", "is_metal", "shear_modulus"])


def test_learners_survive_a_file(tmp_path):
    rng = np.random.default_rng(0)
    features = {"a": rng.normal(size=(60, 5)), "b": rng.normal(size=(60, 9))}
    electrons, volume = rng.uniform(4, 60, 60), rng.uniform(20, 200, 60)
    labels = {
        "bulk_modulus": 100 + 30 * features["a"][:, 0],
        "total_energy": electrons * (-4 + features["b"][:, 1]),
        "is_metal": (features["a"][:, 1] > 0).astype(int),
        "shear_modulus": np.full(60, 70.0),  # nothing to learn
    }
    labels["bulk_modulus"][::3] = np.nan
    data = labels, SPECS, electrons, volume
    fitted = {
        "one": fit({"a": features["a"]}, *data, trees=False),
        "two": fit(features, *data, trees=False),
    }
    save_learners(tmp_path / "learners.npz", fitted)
    loaded = load_learners(tmp_path / "learners.npz", SPECS)
    new = {name: values[:11] + 0.1 for name, values in features.items()}
    for name, yardstick in fitted.items():
        before = yardstick.predict(new, electrons[:11], volume[:11])
        after = loaded[name].predict(new, electrons[:11], volume[:11])
        assert set(before) >= set(after) >= set(KINDS)
        for kind in KINDS:
            for target, values in before[kind].items():
                np.testing.assert_array_equal(after[kind][target], values)


def test_features_take_two_bytes_each(tmp_path):
    rng = np.random.default_rng(0)
    features = {"invariants": rng.normal(size=(300, 400)).astype(np.float32)}
    labels, cells = {"bulk_modulus": rng.normal(size=300)}, np.ones(300)
    fitted = fit(features, labels, SPECS[:1], cells, cells, trees=False)
    save_learners(tmp_path / "learners.npz", {"invariants": fitted})
    assert (tmp_path / "learners.npz").stat().st_size < 1.15 * 300 * 400 * 2
