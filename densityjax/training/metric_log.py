"""The scalars of a run, step by step: metrics.jsonl and TensorBoard."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import distributed
from densityjax.runtime.files import replace_text

log = logging.getLogger("densityjax")


class MetricLog:
    """Appends scalars to metrics.jsonl and to TensorBoard files under `workdir/tensorboard`."""

    def __init__(self, workdir: Path, restored_step: int, evaluated: bool = True):
        """Opens the log; on resume, lines after `restored_step` are cut, they will come again.

        Args:
            evaluated: whether the evaluation of that step stays, or comes again as well.

        TensorBoard's files, which a kill leaves without their last minutes and which hold steps
        after `restored_step`, are made anew from the lines that stay.
        """
        run = RunDirectory(workdir)
        self._path, self._directory = run.history, run.tensorboard
        self._kept: list[str] = []
        self._writes = distributed.is_writer()
        if self._writes and self._path.exists():
            lines = self._path.read_text().splitlines()
            self._kept = [
                line for line in lines if _step_of(line) <= restored_step
                and (evaluated or json.loads(line)["split"] == "train"
                     or json.loads(line)["step"] < restored_step)
            ]
            replace_text(self._path, "".join(line + "\n" for line in self._kept))
        self._board: _Board | None = None
        self._broken = False

    def write(self, step: int, epoch: float, split: str, scalars: dict[str, float | None]) -> None:
        """Writes one line; None marks an undefined metric and is left out of TensorBoard."""
        if not self._writes:
            return
        if self._board is None and not self._broken:
            # Not before the first step: it takes a second to import where PyTorch is installed.
            self._open_board()
        line = {"step": step, "epoch": round(epoch, 4), "split": split} | scalars
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            self._with_board(lambda: self._board.show(line))

    def close(self) -> None:
        """Flushes TensorBoard's queue."""
        if self._board is None and self._kept and not self._broken:
            self._open_board()
        if self._board is not None:
            self._with_board(self._board.close)

    def _open_board(self) -> None:
        def opened() -> None:
            for path in self._directory.glob("events.out.tfevents.*"):
                path.unlink()
            self._board = _Board(self._directory)
            for line in self._kept:
                self._board.show(json.loads(line))

        self._with_board(opened)

    def _with_board(self, action: Callable[[], None]) -> None:
        """Does something with TensorBoard's file; what it cannot take does not end a run."""
        try:
            action()
        except OSError as error:
            self._board = None
            self._broken = True
            log.warning(
                "TensorBoard's files in %s are given up (%s); metrics.jsonl has everything, and "
                "the next start makes them anew", self._directory, error,
            )


class _Board:
    """TensorBoard's file, written by the calling thread.

    tensorboardX.SummaryWriter writes in a thread of its own. When that thread dies of a full disk,
    its queue fills up and the next call waits for ever.
    """

    def __init__(self, directory: Path):
        from tensorboardX import event_file_writer, proto, summary

        directory.mkdir(parents=True, exist_ok=True)
        self._scalar, self._event = summary.scalar, proto.event_pb2.Event
        self._writer = event_file_writer.EventsWriter(str(directory / "events"))

    def show(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "epoch", "split") and value is not None:
                scalar = self._scalar(f"{line['split']}/{name}", value)
                event = self._event(summary=scalar, step=line["step"], wall_time=time.time())
                self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # the last line of a killed run may be cut
        return float("inf")
