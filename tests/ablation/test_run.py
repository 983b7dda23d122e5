"""An ablation: planned as declared, resumed, not stopped by a failure, ended by a table."""

import csv
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from densityjax.ablation import run as ablation_run
from densityjax.ablation.plan import AblationError, describe, make_plan, own_units
from densityjax.ablation.run import is_finished, run_ablation
from densityjax.ablation.table import chemical_system, write_table
from densityjax.configs import elastic, smoke
from densityjax.configs.ablations import paper
from densityjax.runtime.errors import UserError
from densityjax.training.ensemble import plan_members
from densityjax.training.groups import GroupsError
from tests.small_model import SMALL_MODEL

ROOT = Path(__file__).parents[2]
NAMES = sorted(p.stem for p in (ROOT / "configs/ablations").glob("*.py") if p.stem != "__init__")


def small(data_dir: Path | str) -> ConfigDict:
    """Two variants of two targets, one fold, two seeds, two candidates; seconds to train."""
    config = paper.get_config()
    config.base = smoke.get_config()
    config.base.data.data_dir = str(data_dir)
    config.base.data.build = False
    config.base.targets = ("bulk_modulus", "fermi_energy")
    config.base.update_from_flattened_dict(SMALL_MODEL)
    config.base.train.epochs = 1
    config.base.train.evaluate_every_epochs = 1
    config.variants = ConfigDict({"single": {"groups": "single"}, "all": {"groups": "all"}})
    config.pools = ConfigDict()
    config.contrasts = ()
    config.folds = (0,)
    config.seeds = (0, 1)
    config.tuning.candidates = (1e-3, 2e-3)
    config.replicates = 200
    return config


def two_models(data_dir: Path | str) -> ConfigDict:
    """Two units, each with two candidates and one more seed; one gradient to compile."""
    config = small(data_dir)
    config.variants = ConfigDict({"all": {}, "decayed": {"optimizer": {"weight_decay": 0.5}}})
    config.reference = "all"
    return config


def without_files(config: ConfigDict) -> ConfigDict:
    """Groups files need a dataset; plans are made without one."""
    for name in config.variants:
        if ".py" in str(config.variants[name].to_dict().get("groups", "")):
            with config.variants.unlocked():
                config.variants[name] = {"groups": "all"}
    return config


@pytest.mark.parametrize("name", NAMES)
def test_every_ablation_plans(name: str):
    module = importlib.import_module(f"configs.ablations.{name}")
    config = module.get_config()
    assert f"configs/ablations/{name}.py" in module.__doc__
    assert set(config) == set(paper.get_config())
    assert set(config.base) == set(elastic.get_config())
    assert len(config.seeds) >= 3
    plan = make_plan(without_files(config))
    splits = len(config.folds) + len(config.held_out_elements)
    assert len(plan.cells) == len(config.variants) * splits * len(config.seeds)
    for cell in plan.cells:
        data, members = cell.config.data, [name for group, _ in cell.members for name in group]
        assert sorted(members) == sorted(cell.config.targets)
        assert len({data.test_fold, data.validation_fold, *data.train_folds}) == config.num_folds
        for group, unit in cell.members:
            assert unit.config.targets == group
            assert unit.config.data.test_fold == data.test_fold
    shares = [own_units(plan, (i, 3)) for i in range(3)]
    assert [unit.name for share in shares for unit in share] == [u.name for u in plan.units]
    assert f"{len(plan.cells)} cells" in describe(plan, config, (0, 3))


def test_equal_runs_are_shared_and_seeds_are_kept_apart():
    config = small("nowhere")
    config.variants = ConfigDict({
        "single": {"groups": "single"},
        "again": {"groups": "fermi_energy,bulk_modulus"},
        "wide": {"groups": "single", "model": {"head_width": 32}},
    })
    plan = make_plan(config)
    assert len(plan.units) == 4
    seeds = {plan.units[0].run_config(seed, "", None).seed for seed in (0, 1)}
    assert seeds == {0, 1}
    tuned = plan.units[0].run_config(1, "optimizer.learning_rate", 0.5)
    assert tuned.optimizer.learning_rate == 0.5
    assert plan.units[0].config.optimizer.learning_rate != 0.5


def test_ensembles_of_two_seeds_share_no_member():
    config = small("nowhere")
    config.variants = ConfigDict({"all": {}, "three": {"ensemble": {"seeds": 3}}})
    config.reference = "all"
    units = {unit.config.ensemble.seeds: unit for unit in make_plan(config).units}
    assert sorted(units) == [1, 3]
    seeds = [
        [member.config.seed for member in plan_members(unit.run_config(seed, "", None))]
        for unit in (units[1], units[3]) for seed in (0, 1)
    ]
    assert seeds == [[0], [1], [0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "none"}, "config.reference"),
        ({"folds": (5,)}, "config.folds"),
        ({"folds": ()}, "name a split"),
        ({"seeds": (1, 1)}, "config.seeds"),
        ({"pools": ConfigDict({"pool": ("a", "single")})}, "config.pools.pool"),
        ({"contrasts": (("all", "none"),)}, "config.contrasts"),
        ({"variants": ConfigDict({"single": {"modle": {}}})}, "config.variants.single"),
        ({"variants": ConfigDict({"single": {"groups": "x+y"}})}, "x, y"),
    ],
)
def test_bad_design(change: dict, message: str):
    config = small("nowhere")
    with config.unlocked():
        for key, value in change.items():
            config[key] = value
    error = GroupsError if "x, y" in message else AblationError
    with pytest.raises(error, match=message):
        make_plan(config)


FILES = {
    "run.json": '{"finished": "2026-01-01"}', "metrics.json": '{"best_validation_loss": 0.5}',
    "metrics.jsonl": "", "predictions.csv": "", "predictions_validation.csv": "",
}


@pytest.mark.parametrize("name", FILES)
def test_a_run_without_one_of_its_files_has_not_finished(tmp_path: Path, name: str):
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    assert is_finished(tmp_path)
    (tmp_path / name).unlink()
    assert not is_finished(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
@pytest.mark.parametrize("text", ["", '{"fini', "[1]", "null"])
def test_damage_is_named_and_stops_no_other_cell(tmp_path: Path, monkeypatch, name, text):
    """Of the one file, until it is deleted, which lets its run be evaluated anew."""

    def train(config, folder, **kwargs):
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in FILES.items():
            (folder / file).write_text(content)

    config, joined = two_models("nowhere"), []
    monkeypatch.setattr(ablation_run, "train_ensemble", train)
    monkeypatch.setattr(ablation_run, "check_workdir", lambda *_: None)
    monkeypatch.setattr(ablation_run, "join_runs", lambda config, members, out: joined.append(out))
    plan = make_plan(config)
    assert not run_ablation(config, plan, tmp_path).failures
    assert len(joined) == len(plan.cells) == 4
    unit = plan.cells[0].members[0][1]
    damaged = tmp_path / "runs" / unit.name / "seed0_learning_rate=0.001" / name
    damaged.write_text(text)
    joined.clear()
    outcome = run_ablation(config, plan, tmp_path)
    affected = {cell.name for cell in plan.cells if cell.members[0][1] is unit}
    assert set(outcome.failures) == {unit.name, *(f"cell {name}" for name in affected)}
    for why in outcome.failures.values():
        assert str(damaged) in why
        assert "delete it and run the training command again" in why
    assert set(outcome.missing) == affected
    assert len(joined) == 2
    damaged.unlink()
    assert not run_ablation(config, plan, tmp_path).failures
    assert not list((tmp_path / "failures").iterdir())


def test_a_cell_that_cannot_be_joined_is_named(tmp_path: Path, monkeypatch):
    config = two_models("nowhere")
    plan = make_plan(config)
    monkeypatch.setattr(ablation_run, "train_unit", lambda *_: None)
    monkeypatch.setattr(ablation_run, "finished_members", lambda *_: [])

    def join(config, members, out):
        if out == tmp_path / "cells" / plan.cells[0].name:
            raise UserError("some/predictions.csv ends in the middle of a line")

    monkeypatch.setattr(ablation_run, "join_runs", join)
    outcome = run_ablation(config, plan, tmp_path)
    assert outcome.missing == (plan.cells[0].name,)
    ((name, why),) = outcome.failures.items()
    assert name == f"cell {plan.cells[0].name}"
    assert "some/predictions.csv" in why
    assert "delete it" in why


def _train_and_kill(data_dir: Path, folder: Path) -> Path:
    """Ablation by the command line, SIGKILLed once a run has a checkpoint, and run to its end."""
    file, workdir = folder / "killed.py", folder / "killed"
    file.write_text(
        f"from tests.ablation.test_run import two_models\n\n\n"
        f"def get_config():\n    return two_models({str(data_dir)!r})\n"
    )
    command = [
        sys.executable, "-m", "densityjax.ablation", f"--config={file}", f"--workdir={workdir}",
    ]
    log, environment = folder / "killed.log", os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        while not list(workdir.glob("runs/*/*/checkpoints/latest/[0-9]*")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert not (workdir / "table").exists()
        subprocess.run(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=True
        )
    assert (workdir / "table" / "table.md").exists()
    return workdir


@pytest.mark.slow
def test_run_stop_fail_resume_and_table(small_dataset: Path, tmp_path: Path, monkeypatch):
    config, workdir = two_models(small_dataset), tmp_path / "ablation"
    plan = make_plan(config)
    train, calls = ablation_run.train_ensemble, []

    def failing(config, folder, **kwargs):
        calls.append(folder)
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return train(config, folder, **kwargs)

    monkeypatch.setattr(ablation_run, "train_ensemble", failing)
    outcome = run_ablation(config, plan, workdir)
    assert len(outcome.failures) == 1
    assert "out of luck" in next((workdir / "failures").iterdir()).read_text()
    assert 0 < len(outcome.missing) < len(plan.cells)  # the others went on
    outcome = run_ablation(config, plan, workdir)
    assert not outcome.missing
    assert not outcome.failures
    assert not list((workdir / "failures").iterdir())
    # Two units, each with two candidates and one more seed; one run was tried twice.
    assert (len(set(calls)), len(calls)) == (6, 7)
    again = len(calls)
    run_ablation(config, plan, workdir)
    assert len(calls) == again  # nothing is trained twice
    killed = _train_and_kill(small_dataset, tmp_path)
    for cell in plan.cells:
        folder = workdir / "cells" / cell.name
        # The same ablation by the command line, killed on the way and started again.
        for name in ("predictions.csv", "predictions_validation.csv", "metrics.json"):
            other = killed / "cells" / cell.name / name
            assert other.read_bytes() == (folder / name).read_bytes()
        written = json.loads((folder / "config.json").read_text())
        assert written["seed"] == cell.seed
        assert written["groups"] == cell.config.groups
    files = {path.name: path for path in write_table(config, plan, workdir)}
    rows = list(csv.DictReader(files["table.csv"].open(newline="")))
    assert {row["variant"] for row in rows} == {"all", "decayed"}
    text = files["table.md"].read_text()
    assert "commit" in text
    before = files["table.csv"].read_bytes()
    write_table(config, plan, workdir)
    assert files["table.csv"].read_bytes() == before
    config.base.train.epochs = 2
    with pytest.raises(AblationError, match=r"train\.epochs"):
        run_ablation(config, plan, workdir)


def test_chemical_system():
    assert chemical_system("Hf2S") == "Hf-S"
    assert chemical_system("LiCoO2") == "Co-Li-O"
