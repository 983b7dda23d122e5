"""Nothing leaks unless a switch says so: autoencoders, components and trees have not seen a row."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import ecd_trees
from benchmarks.ecd_data import EVERY_ROW, FOLDS, roles_of
from benchmarks.ecd_protocol import EACH, LEAKS, OURS, THEIRS, Protocol
from densityjax.targets import get_specs

N = 60


@dataclasses.dataclass
class Fake:
    """What protocols and trees read of `ecd_data.Materials`."""

    fold: np.ndarray
    truth: np.ndarray
    values: np.ndarray
    specs: tuple = get_specs(("bulk_modulus",))
    encoded: tuple = (EVERY_ROW, *map(str, FOLDS))
    magpie: None = None

    @property
    def records(self) -> SimpleNamespace:
        return SimpleNamespace(labels={"bulk_modulus": self.truth})

    def latents(self, name: str) -> np.ndarray:
        """Of every autoencoder the same."""
        assert name in self.encoded
        return self.values


@pytest.fixture
def materials() -> Fake:
    random = np.random.default_rng(0)
    values = random.normal(size=(N, 2, 2, 2, 3))
    return Fake(np.repeat(FOLDS, N // 5), values[:, 0, 0, 0, 0] * 9 + 50, values)


def test_by_default_folds_judge_and_their_autoencoders_have_not_seen_them(materials: Fake):
    assert Protocol() == OURS
    assert OURS.name == "ours"
    assert [protocol.name for protocol in EACH] == ["ours", *LEAKS, "theirs"]
    np.testing.assert_array_equal(OURS.part(materials), materials.fold)
    for row, name in enumerate(OURS.encoders(materials)):
        train, validation, test = roles_of(name)
        assert test == materials.fold[row]
        assert test not in (*train, validation)
    np.testing.assert_array_equal(OURS.labels(materials)["bulk_modulus"], materials.truth)
    assert set(THEIRS.encoders(materials)) == {EVERY_ROW}
    assert {*roles_of(EVERY_ROW)[0], roles_of(EVERY_ROW)[1]} == set(FOLDS)
    drawn = THEIRS.part(materials)
    assert sorted(drawn) == sorted(materials.fold)
    assert (drawn != materials.fold).any()


def test_outliers_are_left_out_by_their_switch_alone(materials: Fake):
    materials.truth[3] = 1e4
    for leak in LEAKS:
        kept = np.isfinite(Protocol(**{leak: True}).labels(materials)["bulk_modulus"])
        assert kept[3] == (leak != "leaky_trim_targets")


def test_a_prediction_does_not_see_its_row(materials: Fake, monkeypatch: pytest.MonkeyPatch):
    """Neither its label nor, for scalers and components, its latent; with the switch it does."""
    fitted = []
    components = ecd_trees.components

    def seen(latents: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
        fitted.append(fitted_on)
        return components(latents, fitted_on)

    monkeypatch.setattr(ecd_trees, "components", seen)
    said = ecd_trees.predict(materials, OURS, "latent")["bulk_modulus"]
    assert np.isfinite(said).all()
    assert [set(materials.fold[rows]) for rows in fitted] == [set(FOLDS) - {f} for f in FOLDS]
    materials.truth[:12] += 1000
    again = ecd_trees.predict(materials, OURS, "latent")["bulk_modulus"]
    np.testing.assert_array_equal(again[:12], said[:12])
    fitted.clear()
    ecd_trees.predict(materials, Protocol(leaky_fit_on_all_rows=True), "latent")
    assert all(len(rows) == N for rows in fitted)


def test_pooled_latents_do_not_know_their_origin():
    latents = np.random.default_rng(0).normal(size=(3, 4, 4, 4, 3))
    rolled = np.roll(latents, (1, 2, 3), (1, 2, 3))
    np.testing.assert_allclose(ecd_trees.pooled(rolled), ecd_trees.pooled(latents), atol=1e-12)
    assert ecd_trees.pooled(latents).shape == (3, 3 + 5 * 3 + 6)
