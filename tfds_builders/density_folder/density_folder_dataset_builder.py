"""Packs a folder of densities and its labels.csv into sharded array_record files."""

import functools
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax.targets import TargetSpec, specs_from_json, specs_to_json
from tfds_builders.density_builder import DensityBuilder, GridConfig, Materials, record_features
from tfds_builders.density_folder import problems as problem_table
from tfds_builders.density_folder import staging
from tfds_builders.density_folder.consistency import odd_ones
from tfds_builders.density_folder.folds import assign_folds
from tfds_builders.density_folder.inventory import Inventory, Row, take_inventory
from tfds_builders.density_folder.problems import Problem
from tfds_builders.errors import DatasetSourceError

_CONFIG = re.compile(r"grid(\d+)(?:-([0-9a-f]{12}))?")


class Builder(DensityBuilder):
    """Builder of a folder.

    The dataset lies in data_dir/density_folder/gridG-DIGEST/VERSION; the digest is of the folder's
    content, so that a changed folder is built anew and never read stale. Beside it lies
    problems.csv. Named with its digest, 'gridG-DIGEST', a built dataset opens without the folder.

    Args:
        config: 'grid32', or 'grid32-DIGEST'.
        data_dir: where datasets lie.
        source: the folder.
        split: how materials are put into folds, see `inventory.SPLITS`.
        labels: 'required', a table labels.csv with a target; 'none', every density of the folder
          and no target, see `inventory.take_inventory`; 'optional', the first if there is a table.
        strict: stop at problems of the folder instead of listing them.
        workers: processes that read densities; 0: one per core, if there are many densities.

    Raises:
        DatasetSourceError: the folder, its table or targets.toml is missing or damaged.
    """

    VERSION = tfds.core.Version("1.0.0")
    OPTIONS = ("source", "split", "strict", "workers", "labels")
    OWN_TARGETS = True
    TAKES_BEAM = True
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar = [
        GridConfig(name=f"grid{size}", description=f"Densities on {size}^3 points.", grid=size)
        for size in (32, 24, 48, 64, 128)
    ]

    specs: tuple[TargetSpec, ...] = ()

    def __init__(self, *, config: str, data_dir: str | Path, **options: Any):
        grid, digest = _CONFIG.fullmatch(config).groups()
        source = options.get("source", "")
        self._inventory = None
        if source or not digest:
            self._inventory = take_inventory(
                source, options.get("split", "auto"), options.get("labels", "required")
            )
            found = self._inventory.digest
            if digest not in (None, found):
                raise DatasetSourceError(
                    f"{source} is not, or no longer, the folder of config '{config}': its content "
                    f"and split give {found}; name the dataset without a digest to build it"
                )
            self.specs = tuple(column.spec for column in self._inventory.columns)
            digest = found
        else:
            self.specs = self._stored_specs(Path(data_dir), config)
        # The folder as a TFDS config: it decides where the dataset lies.
        self._config = GridConfig(
            name=f"grid{grid}-{digest}", description=f"Densities on {grid}^3 points.",
            grid=int(grid),
        )
        super().__init__(config=self._config, data_dir=data_dir, **options)
        self._original_state["config"] = config  # what TFDS pickles a builder as

    def _create_builder_config(self, builder_config: Any, version: Any) -> GridConfig:
        """TFDS would warn of a config that is not in BUILDER_CONFIGS."""
        del builder_config, version
        return self._config

    def _stored_specs(self, data_dir: Path, config: str) -> tuple[TargetSpec, ...]:
        path = data_dir.expanduser() / "density_folder" / config / str(self.VERSION)
        try:
            stated = json.loads((path / "metadata.json").read_text())["targets"]
        except (OSError, ValueError, KeyError) as error:
            raise DatasetSourceError(
                f"{path} is not a built dataset: name the folder to build it from, "
                "--config.data.source=/my/folder"
            ) from error
        return tuple(specs_from_json(stated).values())

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Densities and labels of a folder.",
            features=record_features(self._config.grid, self.specs),
            metadata=tfds.core.MetadataDict(),
        )

    @property
    def problems_path(self) -> Path:
        """The table of what is wrong with the folder."""
        return Path(self.data_path).parent / "problems.csv"

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Builds the dataset unless it is there, and then says what is wrong with the folder.

        A build that was killed leaves no dataset, and goes on from the densities that it has read.

        Args:
            **kwargs: of TFDS; a `download_config` with `beam_runner` or `beam_options` reads and
              writes with Apache Beam.

        Raises:
            DatasetSourceError: no density is left, a fold is empty, or, with `strict`, there is
              any problem.
        """
        needed = not self.is_prepared()
        super().download_and_prepare(**kwargs)
        if needed or self._strict:
            self._report(self.info.metadata["problems"], self.info.metadata["materials"])

    @property
    def _strict(self) -> bool:
        return self.options.get("strict", False)

    def _report(self, counts: dict[str, int], materials: int) -> None:
        """Says how much is wrong, or stops at it."""
        counts = {kind: times for kind, times in counts.items() if kind not in problem_table.NOTES}
        if not counts:
            return
        text = problem_table.describe_counts(counts)
        if self._strict:
            raise DatasetSourceError(
                f"strict, and there are problems ({text}), listed in {self.problems_path}: mend "
                "them, or go on without strict"
            )
        print(
            f"{materials} materials in the dataset; problems, listed in {self.problems_path}: "
            f"{text}", file=sys.stderr, flush=True,
        )

    def find_materials(self, download_config: tfds.download.DownloadConfig) -> Materials:
        """Reads every density, leaves its record on the disk, and writes problems.csv."""
        inventory = self._inventory
        if inventory is None:
            raise DatasetSourceError(
                f"{self.data_path} is not a complete dataset: name its folder, "
                "--config.data.source=/my/folder"
            )
        if reason := inventory.unusable():
            problem_table.write_problems(self.problems_path, inventory.problems)
            raise DatasetSourceError(f"{reason} (all problems are in {self.problems_path})")
        print(
            f"{inventory.source}: {len(inventory.rows)} densities, targets:\n"
            + (describe(inventory) or "  none"),
            *problem_table.describe(inventory.problems), sep="\n", file=sys.stderr, flush=True,
        )
        kept, wrong = select(inventory.rows, self._stage(inventory.rows, download_config))
        found = (*inventory.problems, *wrong)
        print(*problem_table.describe(wrong), sep="\n", end="\n" * bool(wrong), file=sys.stderr)
        problem_table.write_problems(self.problems_path, found)
        if self._strict or not kept:
            self._report(problem_table.count(found), len(kept))
        if not kept:
            raise DatasetSourceError(
                f"{inventory.source}: no density is left, see {self.problems_path}"
            )
        rows, results = zip(*kept)
        folds = assign_folds(
            inventory.split, [row.material_id for row in rows],
            [result.chemical_system for result in results], [row.fold for row in rows],
            may_be_empty=not inventory.columns,
        )
        by_fold = {
            fold: [row for row, own in zip(rows, folds) if own == fold]
            for fold in sorted(set(folds))
        }
        content = hashlib.sha256(json.dumps(specs_to_json(self.specs)).encode())
        for row, fold, result in zip(rows, folds, results):
            content.update(f"{row.index} {row.material_id} {fold} {result.content}\n".encode())
        for column in inventory.columns:
            content.update(column.labels.tobytes())
        metadata = {
            "archive_sha256": content.hexdigest(),  # of what the records hold
            "targets": specs_to_json(self.specs),
            "source": str(inventory.source.resolve()),
            "split": inventory.split,
            "materials": len(rows),
            "problems": problem_table.count(found),
        }
        return Materials(by_fold, max(result.num_bytes for result in results), metadata)

    def _stage(
        self, rows: Sequence[Row], download_config: tfds.download.DownloadConfig
    ) -> list[staging.Outcome]:
        """What became of each density; the records lie in a folder beside the dataset."""
        self._staging = Path(self.data_path).parent / "staging"
        self._staging.mkdir(parents=True, exist_ok=True)
        size = self._config.grid
        if self._beam:
            return staging.stage_with_beam(
                rows, self._staging, size, download_config.beam_options,
                download_config.beam_runner,
            )
        many = len(rows) >= staging.MANY
        workers = self.options.get("workers") or (os.cpu_count() if many else 1)
        return staging.stage_all(rows, self._staging, size, workers)

    def after_build(self) -> None:
        """The records are in the dataset now."""
        shutil.rmtree(self._staging)

    def record_maker(self, fold: int) -> Any:
        """(row) -> (key, record); holds labels and no builder, so that workers can unpickle it."""
        labels = {c.spec.name: c.labels for c in self._inventory.columns}
        return functools.partial(make_example, fold=fold, folder=str(self._staging), labels=labels)


def make_example(
    row: Row, *, fold: int, folder: str, labels: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Key and record of one material, from what `staging.stage` left of it.

    Args:
        labels: {target: [n] by row of labels.csv}.
    """
    return row.material_id, staging.load_staged(row.index, folder) | {
        "functional": "unknown",
        "material_id": row.material_id,
        "fold": fold,
        "index": row.index,
        "targets": {name: values[row.index] for name, values in labels.items()},
    }


def select(
    rows: Sequence[Row], outcomes: Sequence[staging.Outcome]
) -> tuple[list[tuple[Row, staging.Outcome]], list[Problem]]:
    """The materials of the dataset: files that could be read, each content once."""
    kept, wrong = [], []
    first: dict[str, Row] = {}
    for row, outcome in zip(rows, outcomes, strict=True):
        known = {"row": row.line, "file": row.file, "material_id": row.material_id}
        if outcome.error:
            wrong.append(Problem(outcome.kind, "row left out", outcome.error, **known))
            continue
        same = first.setdefault(outcome.content, row)
        if same is not row:
            place = f" of row {same.line}" if same.listed else ""
            message = f"the same density as {same.file}{place}, which is kept"
            wrong.append(Problem("duplicate content", "row left out", message, **known))
            continue
        kept.append((row, outcome))
        wrong += [Problem("doubtful density", "kept", text, **known) for text in outcome.warnings]
    return kept, wrong + contradictions(kept)


def contradictions(kept: Sequence[tuple[Row, staging.Outcome]]) -> list[Problem]:
    """Materials whose electrons are not those of the same elements in the others."""
    if not kept:
        return []
    found = odd_ones(
        [outcome.num_electrons for _, outcome in kept],
        [np.array(outcome.species, np.int64) for _, outcome in kept],
    )
    return [
        Problem(
            "doubtful density", "kept",
            f"{odd.electrons:.6g} electrons, where its atoms have {odd.expected:.6g} in the other "
            "materials: one spin, another unit, or another potential; mend it or take the row out",
            row=kept[odd.place][0].line, file=kept[odd.place][0].file,
            material_id=kept[odd.place][0].material_id,
        )
        for odd in found
    ]


def describe(inventory: Inventory) -> str:
    """Targets as they were understood, one a line."""
    lines = []
    for column in inventory.columns:
        spec = column.spec
        what = f"classes {', '.join(spec.classes)}" if spec.classes else spec.unit or "no unit"
        changed = "" if column.column == spec.name else f" (column '{column.column}')"
        lines.append(f"  {spec.name}: {spec.kind}, {what}{changed}")
    return "\n".join(lines)
