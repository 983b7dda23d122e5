"""The parquet shards of one config of LeMat-Rho, read row by row."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfds_builders.errors import DatasetSourceError

DOCUMENTED = "adaptive-grid"  # the config whose grids fit the cells
_ROWS = 4  # held at once
_REMEDY = (
    "fetch the shards (hf download LeMaterial/LeMat-Rho --repo-type=dataset "
    f"--include='{DOCUMENTED}/*' --local-dir=FOLDER, no key needed), then give "
    f"--source=FOLDER/{DOCUMENTED}, or --config.data.source=FOLDER/{DOCUMENTED} to a run"
)


def find_shards(folder: Path | None) -> list[Path]:
    """Shards below a folder, in the order of their names.

    Raises:
        DatasetSourceError: there is none, or they are of several configs.
    """
    if folder is None:
        raise DatasetSourceError(f"lemat_rho is built from parquet shards: {_REMEDY}")
    shards = sorted(folder.rglob("*.parquet"))
    if not shards:
        raise DatasetSourceError(f"{folder}: no *.parquet there; {_REMEDY}")
    folders = sorted({shard.parent for shard in shards})
    if len(folders) > 1:
        # The same materials on two grids: data/ has one coarse grid for all.
        names = ", ".join(str(found.relative_to(folder)) for found in folders)
        advised = next((found for found in folders if found.name == DOCUMENTED), folders[0])
        raise DatasetSourceError(
            f"{folder}: shards in several folders ({names}), which are configs of the same "
            f"materials: name one, --source={advised}"
        )
    return shards


def digest_of(shards: list[Path]) -> str:
    """SHA-256 of all shards' content."""
    digest = hashlib.sha256()
    for shard in shards:
        with open(shard, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def read_rows(
    shards: list[Path], columns: tuple[str, ...], optional: tuple[str, ...]
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Index over all shards, place for messages, and columns as pyarrow scalars, row by row.

    Raises:
        DatasetSourceError: a shard is damaged or lacks a column, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetSourceError(
            f"pyarrow is not installed ({error}); pip install 'densityjax[lemat_rho]'"
        ) from error
    index = 0
    for shard in shards:
        number = 0
        try:
            with pq.ParquetFile(shard) as file:
                names = file.schema_arrow.names
                if absent := [name for name in columns if name not in names]:
                    raise DatasetSourceError(
                        f"{shard}: no column {', '.join(absent)}; expected LeMat-Rho with its "
                        f"unsmoothed densities (a revision from June 2026 on)"
                    )
                wanted = [*columns, *(name for name in optional if name in names)]
                for batch in file.iter_batches(_ROWS, columns=wanted):
                    for place in range(batch.num_rows):
                        row = {name: batch[name][place] for name in wanted}
                        yield index, f"{shard}, row {number}", row
                        index, number = index + 1, number + 1
        except (pa.ArrowException, OSError) as error:
            raise DatasetSourceError(
                f"{shard}: after row {number}: damaged or cut short ({error}); fetch it again"
            ) from error
