"""What run.json says of a run: where, when and on what it ran, and how long each part took."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import distributed, environment

_TIME = "%Y-%m-%dT%H:%M:%S%z"


class RunFacts:
    """Collects facts while a run goes on; `write` puts them into run.json, in process 0."""

    def __init__(self, workdir: Path, seed: int):
        """Begins with the environment and the time; nothing is written yet."""
        self._workdir = workdir
        self._content: dict[str, Any] = environment.describe_environment(seed) | {
            "started": time.strftime(_TIME),
            "seconds": {"imports": round(environment.seconds_since_start(), 2)},
        }

    def note(self, **facts: Any) -> None:
        """Adds facts, or replaces them."""
        self._content |= facts

    def note_seconds(self, **seconds: float) -> None:
        """Adds how long parts of the run took."""
        self._content["seconds"] |= {name: round(value, 2) for name, value in seconds.items()}

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Notes how long the block took, unless it raises."""
        started = time.monotonic()
        yield
        self.note_seconds(**{part: time.monotonic() - started})

    def begin_part(self, after_step: int, earlier: Mapping[str, Any]) -> None:
        """Adds an entry for this process to the parts in which the run was trained.

        Args:
            earlier: what run.json says of the parts before, see `read_facts`.
        """
        part = {name: self._content[name] for name in ("started", "commit", "hostname")}
        self.note(parts=[*earlier.get("parts", []), part | {"after_step": after_step}])

    def restore(self, earlier: Mapping[str, Any]) -> None:
        """Goes back to the facts of a finished run, which still describe its training."""
        self._content = dict(earlier)

    def finish(self) -> None:
        """Notes the end and writes, unless the run had finished before."""
        if "finished" not in self._content:
            self.note(
                finished=time.strftime(_TIME), peak_memory_gib=environment.peak_memory_gib()
            )
            self.write()

    def write(self) -> None:
        """Replaces run.json."""
        distributed.write_json(RunDirectory(self._workdir).facts, self._content)


def read_facts(workdir: Path) -> dict[str, Any]:
    """What run.json of an earlier part of the run says, {} without one."""
    run = RunDirectory(workdir)
    return run.read_facts() if run.facts.exists() else {}
