"""The command line answers mistakes with one line and a non-zero status."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.process


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "densityjax.main", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("--config.optimizer.learnin_rate=1", "learning_rate"),
        ("--config.optimiser.learning_rate=1", "optimizer"),
        ("--config.train.epochs=many", "epochs"),
        ("--config.targets=('bulk_modulos',)", "bulk_modulus"),
        ("--worker=3", "worker"),
    ],
)
def test_bad_flag(argument: str, hint: str, tmp_path: Path):
    result = _run("--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}", argument)
    assert result.returncode != 0
    assert hint in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().count("\n") <= 1
    assert not (tmp_path / "run").exists()


def test_missing_config_file(tmp_path: Path):
    result = _run("--config=configs/nothing.py", f"--workdir={tmp_path}")
    assert result.returncode != 0
    assert "configs/nothing.py" in result.stderr
    assert "Traceback" not in result.stderr


def test_help():
    result = _run("--help")
    assert result.returncode in (0, 1)  # absl's choice
    assert "--workdir" in result.stdout
    assert "Traceback" not in result.stderr
