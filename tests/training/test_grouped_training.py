"""A group is trained as if it were alone; the joined run has the files of an ordinary one."""

import csv
import json
import tarfile
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from densityjax import predict
from densityjax.configs import smoke
from densityjax.report.page import write_report
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.training.grouped_training import group_config, parse_shard, resolve, train_groups
from densityjax.training.run import train_and_evaluate
from tests.small_model import SMALL_MODEL

GROUPS = "bulk_modulus+fermi_energy,volume"


def small_config(data_dir: Path) -> ConfigDict:
    config = smoke.get_config()
    config.data.data_dir = str(data_dir)
    config.data.build = False
    config.targets = ("bulk_modulus", "volume", "fermi_energy")
    config.loss.target_weights = ConfigDict({"volume": 0.5})
    config.train.epochs = 2
    config.train.evaluate_every_epochs = 1
    config.update_from_flattened_dict(SMALL_MODEL)
    return config


def rows(path: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(path.open(newline="")):
        found.setdefault(row["target"], []).append(row)
    return found


@pytest.mark.slow
def test_groups_train_apart_and_join(small_dataset: Path, tmp_path: Path):
    config = small_config(small_dataset)
    config.groups = GROUPS
    workdir = tmp_path / "grouped"
    assert train_groups(config, workdir, (1, 2)) is None
    result = train_groups(config, workdir, (0, 2))
    alone = small_config(small_dataset)
    alone.targets, alone.loss.target_weights = ("volume",), ConfigDict({"volume": 0.5})
    expected = train_and_evaluate(alone, tmp_path / "alone")
    # The other groups change nothing, to the last bit.
    assert result["test"]["volume"] == expected["test"]["volume"]
    joined = rows(workdir / "predictions.csv")
    assert joined["volume"] == rows(tmp_path / "alone" / "predictions.csv")["volume"]
    assert list(joined) == list(config.targets)
    facts = json.loads((workdir / "run.json").read_text())
    assert [group["targets"] for group in facts["groups"]] == [
        ["bulk_modulus", "fermi_energy"], ["volume"],
    ]
    assert facts["parameters"] == sum(group["parameters"] for group in facts["groups"])
    assert len({group["steps"] for group in facts["groups"]}) == 1
    mean = sum(result["test"][name]["r2"] for name in config.targets) / 3
    assert result["average"]["test"]["r2"] == pytest.approx(mean)
    assert "Fermi energy" in write_report(workdir).read_text()
    # Predicting from a source file takes every group's model.
    density, out = tmp_path / "CHGCAR.xz", tmp_path / "out.csv"
    with tarfile.open(small_dataset / "sample.tar") as archive:
        labels = csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines())
        row = next(row for row in labels if row["fold"] == "0")
        density.write_bytes(archive.extractfile(row["file"]).read())
    assert predict.main([f"--workdir={workdir}", f"--out={out}", str(density)]) == 0
    predicted = {name: float(found[0]["prediction"]) for name, found in rows(out).items()}
    assert sorted(predicted) == sorted(config.targets)
    for name, found in joined.items():
        value = next(float(r["prediction"]) for r in found if r["id"] == row["material_id"])
        assert predicted[name] == pytest.approx(value, rel=1e-3)


def test_a_constraint_does_not_reach_over_groups():
    """Before the first group is trained."""
    config = smoke.get_config()
    config.targets = ("bulk_modulus", "shear_modulus", "youngs_modulus", "total_energy")
    config.model.constraints = ("elastic",)
    config.groups = "bulk_modulus+shear_modulus+youngs_modulus,total_energy"
    assert len(resolve(config)) == 2
    config.groups = "bulk_modulus+shear_modulus,youngs_modulus+total_energy"
    with pytest.raises(ConfigError, match=r"config\.groups, to the same group"):
        resolve(config)


def test_the_config_of_a_group_differs_in_its_targets_alone(tmp_path: Path):
    config = small_config(tmp_path)
    config.groups = GROUPS
    whole, own = config.to_dict(), group_config(config, ("volume",)).to_dict()
    assert own.pop("targets") == ("volume",)
    assert own.pop("groups") == "all"
    assert own["loss"].pop("target_weights") == {"volume": 0.5}
    for key in ("targets", "groups"):
        whole.pop(key)
    whole["loss"].pop("target_weights")
    assert own == whole


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "1/0"])
def test_bad_shard(text: str):
    with pytest.raises(UserError, match="i/n"):
        parse_shard(text)
