"""config.init: a run starts from another, goes on without it, and is refused a foreign trunk."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from densityjax.configs import elastic_pretrained, smoke
from densityjax.results.predictions import predict_records
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.runtime.preemption import NoWatch, Preempted
from densityjax.step import parallel
from densityjax.step.weights import save_weights
from densityjax.training import initial, run
from densityjax.training.checkpoint import Checkpoints, digests
from densityjax.training.setup import prepare_run
from densityjax.training.trained_model import restore_run
from tests.small_model import SMALL_MODEL


def _config(data_dir: Path) -> ConfigDict:
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.update_from_flattened_dict(SMALL_MODEL)
    config.targets = ("bulk_modulus", "fermi_energy")
    config.input.invariants = config.input.identified = 4
    config.train.epochs, config.train.batch_size = 2, 8
    config.train.evaluate_every_epochs = 1
    return config


@pytest.fixture(scope="module")
def source(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run: read it only."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    run.train_and_evaluate(_config(small_dataset), workdir)
    return workdir


def test_the_first_predictions_are_those_of_the_source(
    source: Path, small_dataset: Path, tmp_path: Path
):
    """In GPa, though labels of two folds have another mean than those of three."""
    config = _config(small_dataset)
    config.init, config.data.train_folds = str(source), (3, 4)
    start = initial.read_start(config, tmp_path)
    new = prepare_run(config, tmp_path, start=start)
    old = restore_run(source)
    assert abs(new.statistics.label_mean[0] / old.statistics.label_mean[0] - 1) > 0.01
    mapped = parallel.mapped_predict_step(new.task, config.view.evaluation_views)
    state = parallel.replicate(new.initial_state())
    found = predict_records(mapped, state, new.splits["test"], new.specs, new.statistics, 8)
    said = RunDirectory(source).read_predictions(old.specs)["bulk_modulus"]
    assert list(said.ids) == list(new.splits["test"].material_id)
    np.testing.assert_allclose(found.values["bulk_modulus"], said.prediction, rtol=2e-4)
    initial.say_start(new, state.params["model"])
    assert new.facts._content["init"]["heads"] == ["bulk_modulus", "fermi_energy"]


def test_a_killed_run_goes_on_without_its_source(
    source: Path, small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It ends with the bytes of a run that was not killed."""
    config, start = _config(small_dataset), tmp_path / "start"
    config.data.train_folds = (3, 4)
    shutil.copytree(source, start)
    config.init = str(start)
    run.train_and_evaluate(config, tmp_path / "whole")
    monkeypatch.setattr(run, "train", _cut(run.train))
    with pytest.raises(Preempted):
        run.train_and_evaluate(config, tmp_path / "cut")
    monkeypatch.undo()
    assert max(int(p.name) for p in (tmp_path / "cut/checkpoints/latest").iterdir()) == 2  # of 4
    shutil.rmtree(start)
    run.train_and_evaluate(config, tmp_path / "cut")
    for name in ("predictions.csv", "statistics.json", "metrics.json"):
        found, expected = (tmp_path / folder / name for folder in ("cut", "whole"))
        assert found.read_bytes() == expected.read_bytes(), name
    facts = [json.loads((tmp_path / k / "run.json").read_text()) for k in ("cut", "whole")]
    assert facts[0]["init"] == facts[1]["init"]
    assert restore_run(tmp_path / "cut").config.init == str(start)


class _Cut(NoWatch):
    def reached(self, step: int) -> bool:
        return step == 2


def _cut(train):
    """The same, ended after the second step."""

    def ended(prepared, state, checkpoints: Checkpoints, watch):
        return train(prepared, state, checkpoints, _Cut())

    return ended


def test_another_trunk_is_refused_before_anything_is_written(
    source: Path, small_dataset: Path, tmp_path: Path
):
    config = _config(small_dataset)
    config.init = str(source)
    config.model.widths, config.input.transform, config.view.spacing = (8,), "log", 0.5
    config.model.head_width = 8  # which is not of the trunk
    with pytest.raises(ConfigError) as error:
        run.train_and_evaluate(config, tmp_path / "run")
    assert str(error.value) == (
        f"config.init='{source}' has another trunk:\n"
        "  config.input.transform: log_and_linear there, log here\n"
        "  config.model.widths: [4] there, [8] here\n"
        "  config.view.spacing: 0.9 there, 0.5 here\n"
        "take its values: --config.input.transform=log_and_linear "
        '--config.model.widths="(4,)" --config.view.spacing=0.9'
    )
    with pytest.raises(ConfigError, match="another trunk"):
        initial.check_init(config, tmp_path / "run")
    config.init = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"config\.init=.*nowhere: no such folder, and no model"):
        initial.check_init(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_weights_without_checkpoints_are_the_same_start(
    source: Path, small_dataset: Path, tmp_path: Path
):
    """As an exported model has them."""
    given = tmp_path / "given"
    shutil.copytree(source, given, ignore=shutil.ignore_patterns("checkpoints"))
    save_weights(RunDirectory(given).weights, restore_run(source).states)
    config, found = _config(small_dataset), []
    for folder in (source, given):
        config.init = str(folder)
        found.append(initial.read_start(config, tmp_path))
    first, second = found
    assert first.facts == second.facts | {"path": str(source)}
    assert digests(first.parameters) == digests(second.parameters)
    assert len(digests(first.parameters)) > 10


def test_of_groups_the_one_with_the_targets_is_taken(tmp_path: Path, small_dataset: Path):
    for name, targets in (("group0", ["c11"]), ("group1", ["bulk_modulus", "c44"])):
        folder = tmp_path / "member0" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"targets": targets}))
    groups = {"groups": [{"directory": "group0"}, {"directory": "group1"}]}
    (tmp_path / "member0" / "run.json").write_text(json.dumps(groups))
    members = {"members": [{"directory": "member0"}, {"directory": "member1"}]}
    (tmp_path / "run.json").write_text(json.dumps(members))
    config = _config(small_dataset)
    config.init = str(tmp_path)
    assert initial.find_source(config).path == tmp_path / "member0" / "group1"


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ({"validation_fold": 1, "test_fold": 0}, []),
        ({"validation_fold": 2, "test_fold": 1}, [2, 1]),
    ],
)
def test_folds_that_the_source_has_seen_are_warned_of(
    folds: dict, said: list[int], source: Path, small_dataset: Path, tmp_path: Path, caplog
):
    config = _config(small_dataset)
    config.init, config.data.train_folds = str(source), (3, 4)
    config.data.update(folds)
    new = prepare_run(config, tmp_path, start=initial.read_start(config, tmp_path))
    initial.say_start(new, new.initial_state().params["model"])
    found = [line for line in caplog.messages if "was trained on fold" in line]
    assert [int(line.partition("on fold ")[2][0]) for line in found] == said
    assert "densities of all folds" not in caplog.text
    for withhold, seen in (("system", False), ("nothing", True)):  # as a source of pretraining
        other_grid = new.dataset["fingerprint"].replace("grid24", "grid32")
        sources = {"fingerprints": [other_grid], "withhold": withhold}
        start = dataclasses.replace(new.start, facts=new.start.facts | {"sources": sources})
        other = dataclasses.replace(new, start=start)
        initial.say_start(other, other.initial_state().params["model"])
        assert ("densities of all folds" in caplog.text) == seen


def test_the_model_that_ships_is_a_start(tmp_path):
    """Of an exported ensemble, whose members have no kernels of their own."""
    config = elastic_pretrained.get_config()
    config.init = "elastic"
    start = initial.read_start(config, tmp_path)
    assert tuple(spec.name for spec in start.specs) == config.targets
    assert start.parameters["stem"]
    assert start.descriptors.size == 128
    assert start.facts["path"].endswith("elastic/member0")
