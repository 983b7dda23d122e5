"""What a run needs at its end is checked at its start."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from densityjax.configs import smoke
from densityjax.configs.pretrain import masked
from densityjax.data.dataset import DatasetError
from densityjax.report.page import write_report
from densityjax.runtime.errors import ConfigError
from densityjax.step import parallel
from densityjax.training import setup
from densityjax.training.compatibility import identity
from densityjax.training.grouped_training import train_groups
from densityjax.training.run import train_and_evaluate
from tests.data.test_unlabelled import chgcar, folder_of
from tests.small_model import SMALL_MODEL

ELEMENTS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr")


def _config(data_dir: Path) -> ConfigDict:
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.data.build = False
    config.targets = ("bulk_modulus", "is_metal")
    config.train.epochs = 2
    config.train.evaluate_every_epochs = 1
    config.update_from_flattened_dict(SMALL_MODEL)
    return config


def _without_labels(monkeypatch: pytest.MonkeyPatch, split: str, *names: str) -> None:
    """Lets a fold lose its labels of some targets."""
    load = setup.load_records

    def emptied(builder, splits, specs, **options):
        records = load(builder, splits, specs, **options)
        if list(splits) != [split]:
            return records
        labels = {
            name: np.full_like(values, -1 if values.dtype.kind == "i" else np.nan)
            if name in names else values
            for name, values in records.labels.items()
        }
        return dataclasses.replace(records, labels=labels)

    monkeypatch.setattr(setup, "load_records", emptied)


def test_a_validation_fold_without_labels_is_refused_at_the_start(
    small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _without_labels(monkeypatch, "fold1", "bulk_modulus", "is_metal")
    message = (
        r"no label of bulk_modulus, is_metal in the 6 materials of the validation fold "
        r"\(config.data.validation_fold=1\).*: choose another fold, or other config.targets"
    )
    with pytest.raises(DatasetError, match=message):
        train_and_evaluate(_config(small_dataset), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_group_without_labels_there_is_refused_before_the_first_is_trained(
    small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _without_labels(monkeypatch, "fold1", "is_metal")
    config = _config(small_dataset)
    config.groups = "single"
    with pytest.raises(DatasetError, match="no label of is_metal in the 6 materials"):
        train_groups(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bulk_modulus", "is_metal"])
def test_a_target_without_labels_there_is_left_out_of_the_choice(
    name: str, small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """The run ends all the same, and says so at its start."""
    _without_labels(monkeypatch, "fold1", name)
    result = train_and_evaluate(_config(small_dataset), tmp_path)
    assert f"No label of {name} in the 6 materials of the validation fold" in caplog.text
    assert np.isfinite(result["best_validation_loss"])
    assert result["validation"][name]["n"] == 0
    (line, *_) = [
        line for line in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        if line["split"] == "validation"
    ]
    assert line[f"{name}/{'r2' if name == 'bulk_modulus' else 'accuracy'}"] is None
    assert write_report(tmp_path).exists()


@pytest.mark.slow
def test_a_test_fold_without_labels_gives_no_metrics(
    small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    _without_labels(monkeypatch, "fold0", "bulk_modulus", "is_metal")
    result = train_and_evaluate(_config(small_dataset), tmp_path)
    assert "No label of bulk_modulus, is_metal in the 6 materials of the test set" in caplog.text
    assert result["test"]["bulk_modulus"]["n"] == 0
    assert write_report(tmp_path).exists()


@pytest.mark.slow
def test_a_step_on_a_folder_without_labels_and_a_source(tmp_path):
    own = {f"{e}.CHGCAR": chgcar(e, electrons=8 + n) for n, e in enumerate(ELEMENTS)}
    more = {f"more-{e}.CHGCAR": chgcar(e, electrons=7) for e in (*ELEMENTS, "Si", "Ge", "Al")}
    config = masked.get_config()
    config.update_from_flattened_dict(SMALL_MODEL)
    config.data.name, config.data.data_dir = "density_folder/grid24", str(tmp_path / "data")
    config.data.source = str(folder_of(tmp_path / "own", own))
    entry = f"density_folder/grid24={folder_of(tmp_path / 'more', more)}"
    config.pretraining.sources = (entry,)
    config.pretraining.exclude = str(tmp_path / "mine.txt")
    (tmp_path / "mine.txt").write_text("more-Ge\nmore-Ga\n")
    config.pretraining.block, config.pretraining.decoder_width = 1.8, 4
    config.train.batch_size, config.train.epochs = 8, 1
    for block in ("invariants", "identified"):
        config.input[block] = 0
    config.yardsticks = config.stack.learners = ()
    run = setup.prepare_run(config, tmp_path / "run")
    learned = run.splits["train"]
    held = set(run.splits["validation"].chemical_system.tolist())
    assert held
    assert held.isdisjoint(learned.chemical_system.tolist())
    assert "more-Ge" not in learned.material_id
    assert {"more-Si", "more-Al"} <= set(learned.material_id.tolist())
    found = run.dataset["pretraining"]
    assert found["unknown_names"] == ["more-Ga"]
    counts = found["datasets"][entry]
    assert counts["records"] + counts["withheld"] == len(more)
    assert identity(config, run.dataset)["dataset.sources"] == found["digest"]
    state = parallel.replicate(run.initial_state())
    state, metrics = run.train_step(state, parallel.split_batch(run.source[0], 1))
    assert np.isfinite(metrics["loss"])
    assert int(state.step) == 1
    # With targets, densities without labels are refused.
    config.targets = ("volume",)
    with pytest.raises(ConfigError, match=r"config\.pretraining\.sources is for densityjax"):
        train_and_evaluate(config, tmp_path / "other")
