"""run.json: durations by a clock that nobody sets, and a finished run that keeps its facts."""

import json
import time
from pathlib import Path

import pytest

from densityjax.training.facts import RunFacts, read_facts


def test_a_clock_set_back_gives_no_negative_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    facts = RunFacts(tmp_path, 0)
    with facts.timed("build"):
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        time.sleep(0.02)
    facts.write()
    assert 0.02 <= read_facts(tmp_path)["seconds"]["build"] < 60


def test_a_part_that_fails_has_no_time(tmp_path: Path):
    facts = RunFacts(tmp_path, 0)
    with pytest.raises(KeyError), facts.timed("build"):
        raise KeyError
    facts.write()
    assert list(read_facts(tmp_path)["seconds"]) == ["imports"]


def test_parts_add_up_until_the_run_has_finished(tmp_path: Path):
    assert read_facts(tmp_path) == {}
    first = RunFacts(tmp_path, 3)
    first.begin_part(0, read_facts(tmp_path))
    first.write()
    second = RunFacts(tmp_path, 3)
    second.begin_part(12, read_facts(tmp_path))
    second.finish()
    found = read_facts(tmp_path)
    assert found["seed"] == 3
    assert [part["after_step"] for part in found["parts"]] == [0, 12]
    assert found["finished"] >= found["started"]

    before = (tmp_path / "run.json").read_bytes()
    again = RunFacts(tmp_path, 3)
    again.restore(read_facts(tmp_path))
    with again.timed("evaluate"):
        pass
    again.finish()
    assert (tmp_path / "run.json").read_bytes() == before
    assert json.loads(before)["peak_memory_gib"] > 0
