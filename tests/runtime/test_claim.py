"""A second process is refused and told who holds the directory; a dead one holds nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from densityjax.runtime.claim import claimed
from densityjax.runtime.errors import UserError

HOLD = """
import sys, time
from densityjax.runtime.claim import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_directory_belongs_to_one_process(tmp_path: Path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as holder:
        assert holder.stdout.readline() == b"held\n"
        refused = pytest.raises(UserError, match=f"in use by process {holder.pid} on .*--workdir")
        with refused, claimed(tmp_path / "run"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with claimed(tmp_path / "run"):
            assert f"process {os.getpid()} " in (tmp_path / "run" / ".lock").read_text()
    with claimed(tmp_path / "run"), claimed(tmp_path / "other"):
        pass


def test_what_could_not_start_leaves_no_directory(tmp_path: Path):
    with pytest.raises(UserError), claimed(tmp_path / "run"):
        raise UserError("a bad config")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()
    with pytest.raises(UserError), claimed(tmp_path / "run"):
        raise UserError("another")
    assert (tmp_path / "run" / "config.json").exists()
