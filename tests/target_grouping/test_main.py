"""The door."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.target_grouping.small_groups import NAME

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_command_line_answers_mistakes_in_one_line(small_dataset, tmp_path):
    command = [
        sys.executable, "-m", "densityjax.target_grouping", "--config=configs/elastic.py",
        f"--config.data.data_dir={small_dataset}", f"--config.data.name={NAME}",
        f"--out={tmp_path}/groups.py",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.startswith("error: test fold 0")
    assert "share 18 labelled materials" in result.stderr
    assert result.stderr.count("\n") == 1
