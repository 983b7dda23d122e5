"""Groups of targets from the labels of each test fold's training folds."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.data.records import load_records
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.target_grouping.clustering import (
    Clustering,
    Stability,
    check_num_groups,
    cluster,
    measure_stability,
)
from densityjax.target_grouping.columns import (
    Column,
    GroupingError,
    Overlap,
    find_overlap,
    resample_systems,
)
from densityjax.target_grouping.label_similarity import compare_labels, compare_resamples
from densityjax.target_grouping.measures import HALF_SAMPLED, MEASURES
from densityjax.target_grouping.series import compare_series
from densityjax.target_grouping.settings import Settings
from densityjax.target_grouping.similarity import Similarity
from densityjax.target_grouping.transfer import compare_transfer
from densityjax.targets import TargetSpec, dataset_targets, get_specs, to_intensive

if TYPE_CHECKING:
    from densityjax.target_grouping.model_similarity import ModelSimilarities

log = logging.getLogger("densityjax")


@dataclasses.dataclass(frozen=True)
class Grouping:
    """One measure in one fold.

    Attributes:
        similarity: its matrices.
        clustering: the groups that it makes.
        stability: of those groups; None for similarities of a training run, whose materials
          cannot be resampled without training again.
    """

    similarity: Similarity
    clustering: Clustering
    stability: Stability | None


@dataclasses.dataclass(frozen=True)
class FoldGroups:
    """Everything about one test fold's groups.

    Attributes:
        train_folds: whose labels were used.
        num_materials, num_systems: with how many materials and chemical systems.
        overlap: shared materials.
        measures: {measure: grouping}.
    """

    train_folds: tuple[int, ...]
    num_materials: int
    num_systems: int
    overlap: Overlap
    measures: dict[str, Grouping]


def rotate_folds(num_folds: int) -> dict[int, tuple[int, ...]]:
    """{test fold f: its training folds f + 2, f + 3, ...}; f + 1 is for validation.

    Raises:
        GroupingError: fewer than 3 folds.
    """
    if num_folds < 3:
        raise GroupingError(
            f"a dataset of {num_folds} folds leaves none to train on beside test and validation"
        )
    return {f: tuple((f + k) % num_folds for k in range(2, num_folds)) for f in range(num_folds)}


def load_columns(
    config: ConfigDict, builder: Any, specs: Sequence[TargetSpec], folds: Sequence[int]
) -> tuple[list[Column], np.ndarray]:
    """Labels as they are trained, of some folds and no others.

    Returns:
        (a column per target of n materials, their chemical systems [n] str).

    Raises:
        DatasetError: as `load_records`.
    """
    records = load_records(
        builder, [f"fold{fold}" for fold in folds], specs, channels=1,
        spin_polarized_only=config.data.spin_polarized_only, cache_in_memory=False,
    )
    columns = []
    for spec in specs:
        values = records.labels[spec.name]
        if spec.kind == "regression":
            values = to_intensive(spec, values, records.num_electrons, records.volume)
        columns.append(Column(spec, values))
    return columns, records.chemical_system


def group_fold(
    columns: Sequence[Column],
    systems: np.ndarray,
    settings: Settings,
    train_folds: Sequence[int],
    models: "ModelSimilarities | None" = None,
) -> FoldGroups:
    """Groups of one test fold, a function of its training labels (and models) alone.

    Stability resamples chemical systems: by the bootstrap, or in halves for measures that would
    take two copies of a material for dependence. For 'transfer' models and neighbours stay.

    Args:
        columns: T targets of n materials.
        systems: [n] chemical systems.
        models: what they say of the training materials, for `settings.model_measures`.

    Raises:
        GroupingError: a target or pair has too few labels.
        ConfigError: settings do not fit.
    """
    overlap = find_overlap(columns)
    draw = settings.bootstraps, settings.seed
    bootstrap, halves = (resample_systems(systems, *draw, half) for half in (False, True))  # [R, n]
    measures = {}
    for name in settings.similarities:
        if name in MEASURES:
            counts = halves if name in HALF_SAMPLED else bootstrap
            similarity, resampled = _compare_labels(columns, name, counts, settings)
        else:
            assert models is not None, f"'{name}' is measured with models"
            similarity, resampled = _compare_models(columns, name, bootstrap, settings, models)
        clustering = cluster(similarity.values, settings.num_groups)
        stability = None
        if resampled is not None:
            stability = measure_stability(clustering.groups, resampled, settings.num_groups)
        measures[name] = Grouping(similarity, clustering, stability)
    return FoldGroups(tuple(train_folds), len(systems), len(np.unique(systems)), overlap, measures)


def _compare_labels(
    columns: Sequence[Column], name: str, counts: np.ndarray, settings: Settings
) -> tuple[Similarity, np.ndarray]:
    """(similarity, values in the resamples [R, T, T]) of a measure of labels."""
    options = {
        "seed": settings.seed, "neighbours": settings.neighbours,
        "max_materials": settings.max_materials,
    }
    similarity = compare_labels(columns, name, permutations=settings.permutations, **options)
    return similarity, compare_resamples(columns, name, counts, **options)


def _compare_models(
    columns: Sequence[Column], name: str, counts: np.ndarray, settings: Settings,
    models: "ModelSimilarities",
) -> tuple[Similarity, np.ndarray | None]:
    """(similarity, values in the resamples [R, T, T] or None) of a measure that uses models."""
    tested = {"permutations": settings.permutations, "seed": settings.seed}
    if name == "transfer":
        return compare_transfer(
            models.features, columns, neighbours=settings.transfer_neighbours, counts=counts,
            **tested,
        )
    if name == "task_affinity":
        return compare_series(models.lookahead, scale_columns=True, **tested), None
    return compare_series(models.cosine, scale_columns=False, **tested), None


def group_targets(config: ConfigDict, builder: Any) -> dict[int, FoldGroups]:
    """{test fold: its groups}, each from the labels of its training folds only.

    Args:
        config: of training, with the section `grouping`.
        builder: TFDS builder of the prepared dataset.

    Raises:
        ConfigError: the section `grouping` or `data` does not do.
        GroupingError: the labels do not do, naming the test fold.
        DatasetError: as `load_records`.
    """
    specs = get_specs(config.targets, dataset_targets(builder))
    settings = Settings.from_config(config.grouping)
    check_num_groups(settings.num_groups, len(specs))
    if config.data.held_out_elements:
        raise ConfigError(
            "config.data.held_out_elements replaces the test fold, and groups are those of a "
            "test fold: leave it empty"
        )
    num_folds = sum(split.startswith("fold") for split in builder.info.splits)
    result = {}
    for fold, train_folds in rotate_folds(num_folds).items():
        started = time.time()
        columns, systems = load_columns(config, builder, specs, train_folds)
        try:
            find_overlap(columns)  # before models are trained
            models = None
            if settings.model_measures:
                models = _fit_models(config, builder, train_folds, specs, settings)
            result[fold] = group_fold(columns, systems, settings, train_folds, models)
        except UserError as error:
            where = f"test fold {fold}, training folds {', '.join(map(str, train_folds))}"
            raise GroupingError(f"{where}: {error}") from error
        log.info(
            "test fold %d: %d materials of folds %s, %.1f s", fold, len(systems),
            ", ".join(map(str, train_folds)), time.time() - started,
        )
    return result


def _fit_models(
    config: ConfigDict, builder: Any, train_folds: Sequence[int], specs: Sequence[TargetSpec],
    settings: Settings,
) -> "ModelSimilarities":
    # Imports JAX, the model and the step, which similarities of labels do not wait for.
    from densityjax.target_grouping.model_similarity import fit_model_similarities

    return fit_model_similarities(config, builder, train_folds, specs, settings.model_measures)
