"""What the builders have in common: the features of a record, and a build that can be killed."""

import abc
import contextlib
import dataclasses
import fcntl
import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax.targets import TargetSpec
from tfds_builders.errors import DatasetSourceError

# Files of a dataset and a key that each has; a build puts them at their place together.
_SMALL_FILES = {
    "dataset_info.json": "splits", "features.json": "featuresDict",
    "metadata.json": "archive_sha256",
}
_NOTE_SECONDS = 30  # between two lines on a build, where there is no terminal for a bar
MIN_SHARDS_PER_FOLD = 4  # readers in parallel
SHARD_BYTES = 256 * 2**20


@dataclasses.dataclass(eq=False)
class GridConfig(tfds.core.BuilderConfig):
    """A builder config: the records hold densities on a cube of `grid` points per axis."""

    grid: int = 0


@dataclasses.dataclass(frozen=True)
class Materials:
    """What a build is to pack.

    Attributes:
        folds: {fold: rows}, each row what the builder makes one record of.
        record_bytes: size of the largest density.
        metadata: of the dataset, its `archive_sha256` (which data it holds) among them.
    """

    folds: dict[int, Sequence[Any]]
    record_bytes: int
    metadata: dict[str, Any]


class DensityBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A dataset of densities and labels, in a split per fold, of several array_record shards each.

    A builder declares the attributes below, and says which materials it has and how one becomes a
    record. `tfds_builders.load_builder` makes one.

    Attributes:
        OLDER_VERSIONS: versions that it still builds, beside its own.
        OPTIONS: arguments of `load_builder` that it takes.
        OWN_TARGETS: whether its targets, and with them its config, come from what it is built of.
        TAKES_BEAM: whether Apache Beam can build it: `record_maker` gives something to pickle.
        ABOUT: its homepage and licence; description and citations are files beside the builder.

    Args:
        config: name of a config, 'grid32'.
        data_dir: where datasets lie.
        version: one of `OLDER_VERSIONS`; empty is the builder's own.
        **options: of `OPTIONS`.
    """

    OLDER_VERSIONS: ClassVar[tuple[str, ...]] = ()
    OPTIONS: ClassVar[tuple[str, ...]] = ()
    OWN_TARGETS: ClassVar[bool] = False
    TAKES_BEAM: ClassVar[bool] = False
    ABOUT: ClassVar[dict[str, str]] = {}

    def __init__(
        self, *, config: Any, data_dir: str | Path, version: str = "", **options: Any
    ):
        self.options = options
        if version:  # TFDS builds no version but a builder's own or its latest
            self.VERSION = tfds.core.Version(version)
        name = config if isinstance(config, str) else config.name
        self._check_built(name, Path(data_dir).expanduser())
        super().__init__(file_format="array_record", config=config, data_dir=data_dir)
        # What TFDS pickles a builder as.
        self._original_state = {
            "config": config, "data_dir": data_dir, "version": version, **options,
        }

    def _check_built(self, config: str, data_dir: Path) -> None:
        """Raises DatasetSourceError if a dataset is there and its small files are damaged."""
        folder = data_dir / self.name / config / str(self.VERSION)
        if not folder.is_dir():
            return
        for name, key in _SMALL_FILES.items():
            try:
                found = json.loads((folder / name).read_text())
                if key not in found:
                    raise ValueError(f"no '{key}' in it")
            except (OSError, ValueError, TypeError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                remedy = self.build_again(folder, config, data_dir)
                raise DatasetSourceError(
                    f"{folder / name} is damaged ({reason}): {remedy}"
                ) from error

    def build_again(
        self, folder: Path, config: str, data_dir: Path, source: str = "FOLDER"
    ) -> str:
        """What a user does about a damaged dataset that lies in `folder`."""
        if self.OWN_TARGETS:  # its config was named after the folder's content
            config = config.partition("-")[0]
        if str(self.VERSION) in self.OLDER_VERSIONS:
            config += f":{self.VERSION}"
        words = ["python", "-m", "tfds_builders", f"{self.name}/{config}", f"--data_dir={data_dir}"]
        if "source" in self.OPTIONS:
            words.append(f"--source={source}")
        return f"delete the folder {folder} and build it again: {shlex.join(words)}"

    def remedy(self) -> str:
        """`build_again` of this dataset."""
        source = (self.info.metadata or {}).get("source", "FOLDER")
        return self.build_again(
            Path(self.data_dir), self.builder_config.name, Path(self.data_dir_root), source
        )

    @property
    @abc.abstractmethod
    def specs(self) -> Sequence[TargetSpec]:
        """Targets of the dataset."""

    @abc.abstractmethod
    def find_materials(self, download_config: tfds.download.DownloadConfig) -> Materials:
        """Looks through what the dataset is built from.

        Raises:
            DatasetSourceError: it is missing or damaged.
        """

    def record_maker(self, fold: int) -> Callable[[Any], tuple[str, dict[str, Any]]]:
        """(row of `Materials.folds`) -> (key, record); or else the builder has `examples`."""
        raise NotImplementedError

    def after_build(self) -> None:
        """What is left to do once the dataset lies at its place."""

    def is_prepared(self) -> bool:
        """Whether the dataset is there. TFDS takes glob signs in `data_dir` for a pattern."""
        return all((Path(self.data_dir) / name).is_file() for name in _SMALL_FILES)

    def download_and_prepare(self, *, download_config: Any = None, **kwargs: Any) -> None:
        """Builds the dataset unless it is there.

        A build that was killed leaves no dataset, only a directory that this removes; two builds at
        the same place wait for each other.

        Args:
            download_config: of TFDS; with `beam_runner` or `beam_options` Apache Beam builds.
            **kwargs: of TFDS.

        Raises:
            DatasetSourceError: what it is built from is missing or damaged.
        """
        with exclusive(self) as needed:
            if needed:
                self._build(download_config or tfds.download.DownloadConfig(), **kwargs)

    def _build(self, download_config: tfds.download.DownloadConfig, **kwargs: Any) -> None:
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()  # in a log, its control signs are hundreds of lines
        self._beam = bool(download_config.beam_options or download_config.beam_runner)
        materials = self.find_materials(download_config)
        self._folds = materials.folds
        self.info.metadata.update(materials.metadata)
        counts = [len(rows) for rows in materials.folds.values()]
        self._notes = _Notes(self.info.full_name, sum(counts))
        download_config.num_shards = num_shards(counts, materials.record_bytes)
        try:
            super().download_and_prepare(download_config=download_config, **kwargs)
        except RuntimeError as error:
            if "; writing " not in str(error):  # what array_record says of a full or broken disk
                raise
            raise DatasetSourceError(
                f"{self.data_dir} cannot be written ({error}): make room or mend the disk, and run "
                "the command again"
            ) from error
        self.after_build()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=record_features(self.builder_config.grid, self.specs),
            metadata=tfds.core.MetadataDict(), **self.ABOUT,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded here
        folds = sorted(self._folds.items())
        if not self._beam:
            return {f"fold{fold}": self._generate_examples(fold, rows) for fold, rows in folds}
        import apache_beam as beam  # an extra

        return {
            f"fold{fold}": beam.Create(rows, reshuffle=True) | beam.Map(self.record_maker(fold))
            for fold, rows in folds
        }

    def _generate_examples(self, fold: int, rows: Sequence[Any]) -> Iterator[Any]:
        for example in self.examples(fold, rows):
            yield example
            self._notes.add()

    def examples(self, fold: int, rows: Sequence[Any]) -> Iterable[tuple[str, dict[str, Any]]]:
        """(key, record) of rows, one after the other in this process."""
        return map(self.record_maker(fold), rows)


class _Notes:
    """Plain lines on how far a build is, where no terminal shows a bar."""

    def __init__(self, name: str, total: int):
        self._name, self._total = name, total
        self._done, self._last = 0, time.monotonic()

    def add(self) -> None:
        """One more record is packed."""
        self._done += 1
        due = self._done == self._total or time.monotonic() - self._last > _NOTE_SECONDS
        if due and not sys.stderr.isatty():
            self._last = time.monotonic()
            print(
                f"{self._name}: packed {self._done} of {self._total}", file=sys.stderr, flush=True
            )


def record_features(size: int, specs: Iterable[TargetSpec]) -> tfds.features.FeaturesDict:
    """Features of a record: those of `densityjax.density.record.make_record`, names, and labels.

    Args:
        size: voxels along each axis of the stored density, G.
        specs: targets of the dataset.
    """
    tensor = tfds.features.Tensor
    text = tfds.features.Text
    return tfds.features.FeaturesDict({
        # [G, G, G, C] charge in e/Å^3 and, computed with spin, magnetization in μB/Å^3; as a
        # list of floats instead of bytes it takes TFDS several times as long to write
        "density": tensor(shape=(size, size, size, None), dtype=np.float32, encoding="bytes"),
        "lattice": tensor(shape=(3, 3), dtype=np.float32),  # Å, rows
        "species": tensor(shape=(None,), dtype=np.int32),  # atomic numbers
        "positions": tensor(shape=(None, 3), dtype=np.float32),  # fractional
        "num_electrons": np.float32,  # integral over the source file
        "native_grid": tensor(shape=(3,), dtype=np.int32),  # of that file
        "negative_fraction": np.float32,  # of the charge as stored
        "code": text(),
        "functional": text(),
        "material_id": text(),
        "formula": text(),
        "chemical_system": text(),
        "fold": np.int32,
        "index": np.int64,  # row of the table of labels
        "targets": {spec.name: np.int32 if spec.classes else np.float32 for spec in specs},
    })


@contextlib.contextmanager
def exclusive(builder: tfds.core.DatasetBuilder) -> Iterator[bool]:
    """Lets one process at a time build at a place; the others wait for it.

    A build that was killed leaves no dataset, only a directory that this removes.

    Yields:
        Whether the dataset is still to be built.
    """
    if builder.is_prepared():
        yield False  # perhaps at a place that we cannot write to
        return
    folder = Path(builder.data_path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system if we are killed
        if builder.is_prepared():
            builder.info.read_from_directory(builder.data_dir)  # another process has built it
            yield False
            return
        for stale in folder.glob(f"incomplete.*_{builder.version}"):
            shutil.rmtree(stale)
        yield True


def num_shards(counts: Collection[int], record_bytes: int) -> int:
    """Shards of each fold: of about 256 MiB, at least four, none empty.

    Args:
        counts: materials of each fold.
        record_bytes: size of the largest density.
    """
    wanted = -(-max(counts) * record_bytes // SHARD_BYTES)
    return min(max(wanted, MIN_SHARDS_PER_FOLD), min(counts))


def missing_label(spec: TargetSpec) -> Any:
    """What a record holds where there is no label: NaN (regression) or -1 (class)."""
    return np.int32(-1) if spec.classes else np.float32("nan")
