"""Densities of a manifest, from the open bucket to a folder: concurrent, restartable, verified.

    python -m tfds_builders.materials_project.download mp/nonmagnetic

fetches every density of FOLDER/manifest.jsonl to FOLDER/chgcars/TASK_ID.json.gz and writes
FOLDER/downloads.csv, a row for each with what became of it. Run again, it goes on where it stopped.
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import hashlib
import re
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from densityjax.density.reader import DensityFormatError, read_density_bytes
from densityjax.runtime import command_line
from tfds_builders.materials_project.bucket import (
    ATTEMPTS,
    Bucket,
    ChangedObjectError,
    MissingObjectError,
    TemporaryError,
)
from tfds_builders.materials_project.entries import Entry, read_manifest
from tfds_builders.table import write_table

TABLE = "downloads.csv"
HERE = ("fetched", "kept")
# What another run would not change: the density is out of reach, and a dataset does without.
GONE = ("missing", "changed", "damaged", "different")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of an entry's density; a row of downloads.csv.

    Attributes:
        status: 'fetched'; 'kept', from an earlier run; 'missing', no such key; 'changed', another
            object than was pinned; 'damaged', its bytes are not those of its checksum, or no
            density; 'different', the density is not the task's; 'failed', the server was not
            reached: run again.
        resumed: bytes that an interrupted attempt had left.
        attempts: made in this run.
    """

    material_id: str
    task_id: str
    key: str
    status: str
    size: int
    resumed: int
    attempts: int
    message: str


class DamagedError(Exception):
    """The bytes received are not those of the object that was pinned."""


def download(
    folder: str | Path, bucket: Bucket, threads: int = 16, check_densities: bool = True
) -> list[Result]:
    """Fetches the densities of a manifest that are not there yet, and writes downloads.csv.

    Args:
        folder: that holds manifest.jsonl.
        threads: objects fetched at once.
        check_densities: read each density and compare it with its entry, which takes longer than
            fetching it on a fast line; the builder does so in any case.

    Returns:
        A result for each entry, in the order of the manifest.

    Raises:
        DatasetSourceError: the manifest is missing or damaged.
        BucketError: there is no such bucket, or it refuses access.
        OSError: the disk is full or cannot be written to.
    """
    folder = Path(folder)
    entries = read_manifest(folder).entries
    stop = threading.Event()

    def fetch(entry: Entry) -> Result | None:
        if stop.is_set():
            return None
        try:
            return _fetch(entry, folder, bucket, check_densities)
        except BaseException:
            stop.set()  # what stops one, such as a full disk, would stop all
            raise

    results: dict[str, Result] = {}
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            done = pool.map(fetch, entries)
            for result in tqdm(done, total=len(entries), unit="file", disable=None):
                if result:
                    results[result.key] = result
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            write_table(folder / TABLE, results.values(), Result)
    return list(results.values())


def read_results(folder: str | Path) -> dict[str, str]:
    """Status of each key in FOLDER/downloads.csv; none if there is no such table."""
    try:
        with open(Path(folder) / TABLE, newline="", encoding="utf-8") as file:
            return {row["key"]: row["status"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}


def _fetch(entry: Entry, folder: Path, bucket: Bucket, check_density: bool) -> Result:
    """Fetches one density unless it is there; says what became of it."""
    path = folder / entry.key
    # A file has its name only after it was verified.
    if path.exists() and path.stat().st_size == entry.size:
        return _result(entry, "kept", path.stat().st_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by its checksum: what is left of another object is never continued.
    part = path.with_name(f"{path.name}.{re.sub('[^0-9a-zA-Z-]', '', entry.etag)}.part")
    if part.is_symlink():
        part.unlink()  # it is not ours, and may lead out of the folder
    transfer = _Transfer(entry, bucket, part)
    status, message = transfer.run(check_density, str(path))
    if status == "fetched":
        part.replace(path)
    size = path.stat().st_size if status in HERE else 0
    return _result(entry, status, size, transfer.resumed, transfer.attempts, message)


def _result(
    entry: Entry, status: str, size: int, resumed: int = 0, attempts: int = 0, message: str = ""
) -> Result:
    return Result(
        entry.material_id, entry.task_id, entry.key, status, size, resumed, attempts, message
    )


class _Transfer:
    """An object on its way into a part file, in as many attempts as it takes.

    Attributes:
        resumed, attempts: as of `Result`.
    """

    def __init__(self, entry: Entry, bucket: Bucket, part: Path):
        self._entry, self._bucket, self._part = entry, bucket, part
        self.resumed = self.attempts = 0

    def run(self, check_density: bool, name: str) -> tuple[str, str]:
        """Status and message; the part file is whole and verified if the status is 'fetched'.

        Args:
            name: what messages call the density.
        """
        try:
            data = self._bucket.retry(self._attempt)
            if check_density:
                self._entry.check(read_density_bytes(data, name))
        except MissingObjectError as error:
            self._part.unlink(missing_ok=True)
            return "missing", str(error)
        except ChangedObjectError as error:
            self._part.unlink(missing_ok=True)
            return "changed", str(error)
        except TemporaryError as error:
            damaged = isinstance(error.__cause__, DamagedError)
            return "damaged" if damaged else "failed", str(error)
        except DensityFormatError as error:
            self._part.unlink()
            return "different", str(error)
        return "fetched", ""

    def _attempt(self, number: int) -> bytes:
        """The bytes of the object. Raises TemporaryError where another attempt may succeed."""
        self.attempts = number
        start = self._part.stat().st_size if self._part.exists() else 0
        if start > self._entry.size:
            self._part.unlink()
            start = 0
        self.resumed += start
        try:
            with open(self._part, "ab") as file:
                if start < self._entry.size:
                    _receive(self._bucket, self._entry, start, file)
            return _verified(self._part, self._entry)
        except DamagedError as error:
            if self._part.stat().st_size >= self._entry.size:
                self._part.unlink()  # nothing of it can be trusted
            raise TemporaryError(str(error)) from error


def _receive(bucket: Bucket, entry: Entry, start: int, file: BinaryIO) -> None:
    """Appends an object's bytes from `start` on to a file."""
    try:
        for chunk in bucket.read(entry.key, entry.etag, start):
            file.write(chunk)
    except TemporaryError as error:
        if file.tell() >= entry.size:  # boto3 compares checksums when all has been received
            raise DamagedError(str(error)) from error
        raise


def _verified(part: Path, entry: Entry) -> bytes:
    """The bytes of a file that has the size and the checksum of an entry's object."""
    data = part.read_bytes()
    if len(data) != entry.size:
        raise DamagedError(f"{entry.key}: {len(data)} of {entry.size} bytes")
    # Of an object that was uploaded in parts the checksum is another one; gzip has its own.
    if re.fullmatch("[0-9a-f]{32}", entry.etag):
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if digest != entry.etag:
            raise DamagedError(f"{entry.key}: its MD5 is {digest}; expected {entry.etag}")
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches what a manifest names. Returns the exit status: 1 if a density is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.materials_project.download",
        description="Fetches the densities of a manifest; run again, it goes on.",
    )
    parser.add_argument("folder", help="that holds manifest.jsonl")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help="at each density")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds without a byte")
    parser.add_argument("--endpoint_url", help="S3 server, if not that of AWS")
    parser.add_argument(
        "--check_densities", action=argparse.BooleanOptionalAction, default=True,
        help="read each density and compare it with the manifest (the builder does, too)",
    )
    args = parser.parse_args(arguments)
    name = read_manifest(args.folder).header["bucket"]
    bucket = Bucket(name, args.endpoint_url, args.threads, args.timeout, args.attempts)
    results = download(args.folder, bucket, args.threads, args.check_densities)
    counts = Counter(result.status for result in results)
    print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    absent = sum(count for status, count in counts.items() if status not in HERE)
    if absent:
        print(f"error: {absent} densities are not there; see {TABLE}", file=sys.stderr)
    return int(absent > 0)


if __name__ == "__main__":
    command_line.run(main)
