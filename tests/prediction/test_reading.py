import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from densityjax.prediction import reading
from densityjax.prediction.materials import Needs
from densityjax.prediction.model import open_model
from densityjax.results.pretrained import FOLDER
from densityjax.results.run_directory import RunDirectory

NEEDS = Needs(16, "all", False)
PATHS = [Path(f"{place}.cube") for place in range(7)]


def test_needs_are_those_of_the_opened_model(tmp_path):
    shipped = FOLDER / "elastic"
    assert reading.needs_of_run(RunDirectory(shipped)) == open_model(shipped).needs
    assert reading.needs_of_run(RunDirectory(tmp_path)) is None  # whoever opens it says why


@pytest.mark.parametrize(("together", "first", "then"), [(1, 3, 5), (2, 2, 4), (5, 5, 7)])
def test_files_come_in_order_and_some_are_read_ahead(monkeypatch, together, first, then):
    asked = []

    class Executor:
        def submit(self, _, paths, needs):
            assert needs == NEEDS
            asked.extend(paths)
            future = Future()
            future.set_result([f"read {path}" for path in paths])
            return future

    monkeypatch.setattr(reading, "_AHEAD", 3 * 16**3 * 4)
    reader = reading.Reader(PATHS, NEEDS, Executor(), together)
    assert asked == PATHS[:first]
    assert reader.take(2) == [(path, f"read {path}") for path in PATHS[:2]]
    assert asked == PATHS[:then]
    assert reader.take(100) == [(path, f"read {path}") for path in PATHS[2:]]
    assert reader.take(1) == []


def test_what_killed_processes_have_not_read_is_read_here(monkeypatch):
    class Executor:
        count = 0

        def submit(self, *_):
            self.count += 1
            if self.count > 4:
                raise BrokenProcessPool
            future = Future()
            if self.count > 2:
                future.set_exception(BrokenProcessPool())
            else:
                future.set_result(["there"])
            return future

    monkeypatch.setattr(reading, "read", lambda path, _: f"here {path}")
    found = reading.Reader(PATHS, NEEDS, Executor()).take(7)
    assert [text for _, text in found] == ["there"] * 2 + [f"here {path}" for path in PATHS[2:]]


@pytest.mark.parametrize(("size", "count"), [(10, 2), (2**27, 1)])
def test_large_files_are_read_one_at_a_time(monkeypatch, size, count):
    started = []

    class Pool:
        def __init__(self, processes, *_, **__):
            started.append(processes)

        def submit(self, *_):
            return Future()

        def shutdown(self, **_):
            started.append("over")

    monkeypatch.setattr(reading, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(reading, "_size", lambda _: size)
    monkeypatch.setattr(reading.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(reading.sys, "platform", "linux")
    with reading.in_processes(PATHS, Path("nowhere")) as reader:
        assert reader is None  # whoever opens the model says why
    with reading.in_processes(PATHS, FOLDER / "elastic") as reader:
        assert reader is not None
    assert started == [count, "over"]


def test_processes_read_without_jax(tmp_path):
    """A process of its own, as a door is: JAX is not imported, and all files come back."""
    program = (
        "import sys; from pathlib import Path\n"
        "from densityjax.prediction.reading import in_processes\n"
        "with in_processes([Path(a) for a in sys.argv[2:]], Path(sys.argv[1])) as reader:\n"
        "    print([text for _, text in reader.take(3)], 'jax' in sys.modules)"
    )
    arguments = [str(FOLDER / "elastic"), *(str(tmp_path / name) for name in "ab")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("cannot be opened") == 2
    assert done.stdout.endswith("] False\n")
