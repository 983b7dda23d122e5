"""The scalars of a run, step by step: metrics.jsonl and TensorBoard."""

import json
from pathlib import Path
from typing import Any

from densityjax.runtime import distributed
from densityjax.runtime.files import replace_text


class MetricLog:
    """Appends scalars to metrics.jsonl and to TensorBoard files under `workdir/tensorboard`."""

    def __init__(self, workdir: Path, restored_step: int, evaluated: bool = True):
        """Opens the log; on resume, lines after `restored_step` are cut, they will come again.

        Args:
            evaluated: whether the evaluation of that step stays, or comes again as well.

        TensorBoard's files, which a kill leaves without their last minutes and which hold steps
        after `restored_step`, are made anew from the lines that stay.
        """
        self._path, self._directory = workdir / "metrics.jsonl", workdir / "tensorboard"
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
        self._board = None

    def write(self, step: int, epoch: float, split: str, scalars: dict[str, float | None]) -> None:
        """Writes one line; None marks an undefined metric and is left out of TensorBoard."""
        if not self._writes:
            return
        if self._board is None:
            # Not before the first step: it takes a second to import where PyTorch is installed.
            self._open_board()
        line = {"step": step, "epoch": round(epoch, 4), "split": split} | scalars
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._show(line)

    def close(self) -> None:
        """Flushes TensorBoard's queue."""
        if self._board is None and self._kept:
            self._open_board()
        if self._board is not None:
            self._board.close()

    def _open_board(self) -> None:
        from tensorboardX import SummaryWriter

        for path in self._directory.glob("events.out.tfevents.*"):
            path.unlink()
        self._board = SummaryWriter(str(self._directory))
        for line in self._kept:
            self._show(json.loads(line))

    def _show(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "epoch", "split") and value is not None:
                self._board.add_scalar(f"{line['split']}/{name}", value, line["step"])


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # the last line of a killed run may be cut
        return float("inf")
