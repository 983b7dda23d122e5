"""Groups of targets from the labels of each test fold's training folds, written as a config.

python -m densityjax.target_grouping --config=configs/elastic.py --out=configs/target_groups.py

Writes OUT.py (which `config.groups` can name), OUT.json with every number, OUT.png with the
similarities that made the groups, and OUT_measures.png with all that were computed.
"""

import dataclasses
import itertools
import logging
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.data.dataset import open_from_config, resolve_targets
from densityjax.data.records import load_records
from densityjax.target_grouping.clustering import Clustering, Stability, cluster, measure_stability
from densityjax.target_grouping.similarity import (
    HALF_SAMPLED,
    LOW_OVERLAP,
    MEASURES,
    MIN_SHARED,
    Column,
    GroupingError,
    Overlap,
    Similarity,
    compare_labels,
    compare_resamples,
    compare_series,
    compare_transfer,
    find_overlap,
    resample_systems,
)
from densityjax.targets import TargetSpec, dataset_targets, get_specs, to_intensive
from densityjax.training.groups import DatasetIdentity, read_groups_file

log = logging.getLogger("densityjax")

MODEL_MEASURES = ("transfer", "task_affinity", "gradient_cosine")
SIGNIFICANT = 0.05  # adjusted p-values below it
_NAMED_PAIRS = 4  # in a comment
METHODS = {
    "pearson": "absolute Pearson correlation (eta, Cramér's V for classes)",
    "spearman": "absolute Spearman correlation (eta of ranks, Cramér's V for classes)",
    "distance_correlation": "distance correlation",
    "mutual_information": "informational correlation (mutual information)",
    "transfer": "transfer by leave-one-out nearest neighbours",
    "task_affinity": "task affinity (lookahead loss change)",
    "gradient_cosine": "cosine of gradients",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `config.grouping` says; see configs/elastic.py."""

    similarity: str
    similarities: tuple[str, ...]
    num_groups: int
    permutations: int
    bootstraps: int
    neighbours: int
    transfer_neighbours: int
    max_materials: int
    epochs: int
    seed: int

    @classmethod
    def from_config(cls, grouping: ConfigDict) -> "Settings":
        """Checks and takes the section; `similarity` is computed whether listed or not.

        Raises:
            GroupingError: a name is unknown or a number too small.
        """
        values = {field.name: grouping[field.name] for field in dataclasses.fields(cls)}
        names = tuple(dict.fromkeys((*values["similarities"], values["similarity"])))
        known = (*MEASURES, *MODEL_MEASURES)
        for name in names:
            if name not in known:
                raise GroupingError(
                    f"unknown similarity '{name}' in config.grouping: known are {', '.join(known)}"
                )
        least = dict(
            permutations=99, bootstraps=1, neighbours=1, transfer_neighbours=1,
            max_materials=MIN_SHARED, epochs=1, num_groups=0, seed=0,
        )
        for name, smallest in least.items():
            if values[name] < smallest:
                raise GroupingError(
                    f"config.grouping.{name}={values[name]}: must be at least {smallest}"
                )
        return cls(**values | {"similarities": names})

    @property
    def model_measures(self) -> tuple[str, ...]:
        """Those of the similarities for which models are trained."""
        return tuple(name for name in self.similarities if name in MODEL_MEASURES)


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
    models: Any = None,
) -> FoldGroups:
    """Groups of one test fold, a function of its training labels (and models) alone.

    Stability resamples chemical systems: by the bootstrap, or in halves for measures that would
    take two copies of a material for dependence. For 'transfer' models and neighbours stay.

    Args:
        columns: T targets of n materials.
        systems: [n] chemical systems.
        models: `features` {target: [n, E]}, `lookahead` and `cosine` [epochs, T, T], as
          densityjax.model_similarity fits them; needed for the measures that use them.

    Raises:
        GroupingError: a target or pair has too few labels, or settings do not fit.
    """
    overlap = find_overlap(columns)
    draw = settings.bootstraps, settings.seed
    bootstrap, halves = (resample_systems(systems, *draw, half) for half in (False, True))  # [R, n]
    measures = {}
    for name in settings.similarities:
        common = {"permutations": settings.permutations, "seed": settings.seed}
        resampled = None
        if name in MEASURES:
            options = {
                "seed": settings.seed, "neighbours": settings.neighbours,
                "max_materials": settings.max_materials,
            }
            counts = halves if name in HALF_SAMPLED else bootstrap
            similarity = compare_labels(columns, name, **common | options)
            resampled = compare_resamples(columns, name, counts, **options)
        elif name == "transfer":
            similarity, resampled = compare_transfer(
                models.features, columns, neighbours=settings.transfer_neighbours,
                counts=bootstrap, **common,
            )
        elif name == "task_affinity":
            similarity = compare_series(models.lookahead, scale_columns=True, **common)
        else:
            similarity = compare_series(models.cosine, scale_columns=False, **common)
        clustering = cluster(similarity.values, settings.num_groups)
        stability = None
        if resampled is not None:
            stability = measure_stability(clustering.groups, resampled, settings.num_groups)
        measures[name] = Grouping(similarity, clustering, stability)
    return FoldGroups(tuple(train_folds), len(systems), len(np.unique(systems)), overlap, measures)


def group_targets(config: ConfigDict, builder: Any) -> dict[int, FoldGroups]:
    """{test fold: its groups}, each from the labels of its training folds only.

    Raises:
        GroupingError, DatasetError, ValueError: the config or the labels do not do, naming the
        test fold.
    """
    specs = get_specs(config.targets, dataset_targets(builder))
    settings = Settings.from_config(config.grouping)
    if config.data.held_out_elements:
        raise GroupingError(
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
        except GroupingError as error:
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
) -> Any:
    # Imports JAX and compiles: not for similarities of labels.
    from densityjax.target_grouping import model_similarity
    from densityjax.training.errors import RunError

    try:
        return model_similarity.fit_model_similarities(
            config, builder, train_folds, specs, settings.model_measures
        )
    except RunError as error:
        raise GroupingError(str(error)) from error


def write_groups(config: ConfigDict, out: str | Path, command: str) -> list[Path]:
    """Computes the groups of all test folds and writes them.

    Args:
        out: the config to write, 'configs/target_groups.py'.
        command: that its header shows.

    Returns:
        The files written.

    Raises:
        GroupingError: `out` cannot be written to; and as `group_targets`.
    """
    out = Path(out)
    if out.suffix != ".py":
        raise GroupingError(f"--out={out}: must end in .py, as config.groups names it")
    if not out.parent.is_dir():
        raise GroupingError(f"--out={out}: there is no folder {out.parent}; make it")
    config = resolve_targets(config)
    builder = open_from_config(config.data)
    specs = get_specs(config.targets, dataset_targets(builder))
    settings = Settings.from_config(config.grouping)
    folds = group_targets(config, builder)
    identity, date = DatasetIdentity.of(builder), time.strftime("%Y-%m-%d")
    facts = {
        "command": command,
        "date": date,
        "dataset": {"config": config.data.name} | dataclasses.asdict(identity),
        "method": _method(settings),
        "targets": [spec.name for spec in specs],
        "settings": _settings(settings, config),
    }
    files = {
        out: _config_text(facts, folds, specs, settings).encode(),
        out.with_suffix(".png"): _draw_folds(folds, specs, settings),
    }
    if len(settings.similarities) > 1:
        files[out.with_name(f"{out.stem}_measures.png")] = _draw_measures(folds, specs, settings)
    for path, content in files.items():
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        partial.replace(path)
    from densityjax.runtime.files import replace_json as write_json

    write_json(out.with_suffix(".json"), facts | {"folds": _folds_json(folds, specs, settings)})
    read_groups_file(out)  # what was written can be read
    print(_table(folds, specs, settings))
    return [*files, out.with_suffix(".json")]


def _settings(settings: Settings, config: ConfigDict) -> dict[str, Any]:
    return dataclasses.asdict(settings) | {
        "linkage": "average",
        "spin_polarized_only": config.data.spin_polarized_only,
    }


def _method(settings: Settings) -> str:
    cut = f"into {settings.num_groups}" if settings.num_groups else "by silhouette"
    return f"{METHODS[settings.similarity]}, average linkage, cut {cut}"


def _names(group: Sequence[int], specs: Sequence[TargetSpec]) -> tuple[str, ...]:
    return tuple(specs[target].name for target in group)


# The config.


def _config_text(
    facts: Mapping[str, Any], folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec],
    settings: Settings,
) -> str:
    """Plain Python that densityjax.groups reads: literals and comments."""
    dataset = facts["dataset"]
    lines = ['"""Target groups by similarity; generated, do not edit by hand.', ""]
    header = {
        "Command": facts["command"],
        "Dataset": f"{dataset['config']} {dataset['version']}, archive {dataset['fingerprint']}",
        "Method": facts["method"],
        "Date": facts["date"],
    }
    for name, text in header.items():
        safe = text.replace("\\", "/").replace('"', "'")
        lines += _wrap(f"{name}: {safe}", "", "    ")
    lines += ['"""', ""]
    for name in ("dataset", "version", "fingerprint"):
        lines.append(f"{name.upper()} = {_literal(dataset[name])}")
    lines += _tuple_lines("TARGETS = ", _names(range(len(specs)), specs), "", "")
    lines += ["# Folds whose labels each test fold's groups were computed from.", "TRAIN_FOLDS = {"]
    lines += [f"    {fold}: {_literal(result.train_folds)}," for fold, result in folds.items()]
    lines += ["}", "SETTINGS = {"]
    for key, value in facts["settings"].items():
        start = f"    {_literal(key)}: "
        if isinstance(value, tuple):
            lines += _tuple_lines(start, value, "    ", ",")
        else:
            lines.append(f"{start}{_literal(value)},")
    lines += ["}", "GROUPS = {"]
    for fold, result in folds.items():
        lines.append(f"    {fold}: (")
        for group, comment in _described_groups(result.measures[settings.similarity], specs):
            lines += _wrap(comment, "        # ", "        # ")
            lines += _tuple_lines("        ", group, "        ", ",")
        lines.append("    ),")
    return "\n".join([*lines, "}"]) + "\n"


def _described_groups(
    grouping: Grouping, specs: Sequence[TargetSpec]
) -> list[tuple[tuple[str, ...], str]]:
    """(names, what to know about the group) of each group."""
    described = []
    for number, group in enumerate(grouping.clustering.groups):
        parts = []
        if grouping.stability is None:
            parts.append("stability not measured")
        else:
            jaccard = grouping.stability.jaccard[number]
            again = grouping.stability.recovered[number]
            parts.append(f"stability {jaccard:.2f}, exactly again in {again:.0%} of resamples")
        inside = list(itertools.combinations(group, 2))
        if inside:
            values = [grouping.similarity.values[pair] for pair in inside]
            parts.append(f"similarity {min(values):.2f} to {max(values):.2f}")
        weak = [pair for pair in inside if grouping.similarity.p_adjusted[pair] >= SIGNIFICANT]
        if weak:
            pairs = ", ".join(" and ".join(_names(pair, specs)) for pair in weak[:_NAMED_PAIRS])
            more = f" and {len(weak) - _NAMED_PAIRS} more pairs" if weak[_NAMED_PAIRS:] else ""
            parts.append(f"perhaps by chance (adjusted p ≥ {SIGNIFICANT}): {pairs}{more}")
        described.append((_names(group, specs), "; ".join(parts)))
    return described


def _wrap(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, 100, initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )


def _literal(value: Any) -> str:
    """Python literal with double quotes."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        inner = ", ".join(map(_literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _tuple_lines(start: str, values: tuple[str, ...], indent: str, end: str) -> list[str]:
    """A tuple on one line, or on several where it is long."""
    line = f"{start}{_literal(values)}{end}"
    if len(line) <= 100:
        return [line]
    inside = indent + "    "
    items = _wrap(", ".join(map(_literal, values)) + ",", inside, inside)
    return [f"{start}(", *items, f"{indent}){end}"]


# The numbers.


def _folds_json(
    folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec], settings: Settings
) -> dict[str, Any]:
    """{fold: every number}; matrices in the order of the targets."""
    content = {}
    for fold, result in folds.items():
        measures = {}
        for name, grouping in result.measures.items():
            matrices = dataclasses.asdict(grouping.similarity)
            matrices = {"similarity": matrices.pop("values")} | matrices
            stability = None
            if grouping.stability is not None:
                stability = {
                    "resampling": "halves of the chemical systems" if name in HALF_SAMPLED
                    else "bootstrap over chemical systems",
                    "resamples": settings.bootstraps,
                } | dataclasses.asdict(grouping.stability)
            measures[name] = matrices | {
                "linkage": grouping.clustering.linkage,
                "silhouettes": grouping.clustering.silhouettes,
                "groups": [_names(group, specs) for group in grouping.clustering.groups],
                "stability": stability,
            }
        content[str(fold)] = _json(
            {
                "train_folds": result.train_folds,
                "materials": result.num_materials,
                "chemical_systems": result.num_systems,
                "shared": result.overlap.shared,
                "overlap": result.overlap.fraction,
                "low_overlap": result.overlap.low,
                "groups": measures[settings.similarity]["groups"],
                "measures": measures,
            }
        )
    return content


def _json(value: Any) -> Any:
    """Plain lists, numbers and strings; NaN as None."""
    if isinstance(value, np.ndarray | np.generic):
        return _json(value.tolist())
    if isinstance(value, dict):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec], settings: Settings) -> str:
    """Groups of each test fold, for a person."""
    lines = [f"Groups by {_method(settings)}", "fold  materials  groups (stability)"]
    for fold, result in folds.items():
        grouping = result.measures[settings.similarity]
        for number, group in enumerate(grouping.clustering.groups):
            head = f"{fold:>4}  {result.num_materials:>9}" if not number else " " * 15
            text = " + ".join(_names(group, specs))
            if grouping.stability is not None:
                text += f" ({grouping.stability.jaccard[number]:.2f})"
            lines.append(f"{head}  {text}")
    return "\n".join(lines)


# The pictures.

_NOTES = (
    "Tree: average linkage.",
    "Boxes and red branches: the groups.",
)


def _marks(weak: str) -> tuple[str, ...]:
    return (
        f"(.12)  {weak}",
        f"  .12*  under {100 * LOW_OVERLAP:.0f} % of the materials shared",
    )


def _draw_folds(
    folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec], settings: Settings
) -> bytes:
    from densityjax.target_grouping.plot import (  # imports JAX, by way of report's style
        Panel,
        draw_panels,
    )

    panels = []
    for fold, result in folds.items():
        grouping = result.measures[settings.similarity]
        panels.append(
            Panel(
                f"Test fold {fold} ({result.num_materials} materials)",
                grouping.similarity.values,
                grouping.clustering,
                grouping.similarity.p_adjusted >= SIGNIFICANT,
                result.overlap.low,
            )
        )
    return draw_panels(
        panels,
        _labels(specs),
        "Similarity of targets in the training folds of each test fold",
        _short(settings.similarity),
        (*_NOTES, *_marks(f"adjusted p ≥ {SIGNIFICANT}")),
    )


def _draw_measures(
    folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec], settings: Settings
) -> bytes:
    from densityjax.target_grouping.plot import Panel, draw_panels

    panels = []
    for name in settings.similarities:
        found = [result.measures[name].similarity for result in folds.values()]
        mean = np.mean([similarity.values for similarity in found], axis=0)
        panels.append(
            Panel(
                _short(name),
                mean,
                cluster(mean, settings.num_groups),
                np.max([similarity.p_adjusted for similarity in found], axis=0) >= SIGNIFICANT,
                np.any([result.overlap.low for result in folds.values()], axis=0),
            )
        )
    return draw_panels(
        panels,
        _labels(specs),
        "Similarity of targets by each measure, mean over the folds",
        "Similarity",
        (
            *_NOTES,
            "Here groups of the mean, for comparison:",
            "those of the config are made fold by fold.",
            *_marks(f"adjusted p ≥ {SIGNIFICANT} in a fold"),
        ),
    )


def _labels(specs: Sequence[TargetSpec]) -> list[str]:
    """What was compared: extensive targets are divided as they are for training."""
    per = {None: "", "electron": " / electron", "volume": " / volume"}
    return [spec.label + per[spec.per] for spec in specs]


def _short(measure: str) -> str:
    return {
        "pearson": "Pearson, absolute",
        "spearman": "Spearman, absolute",
        "mutual_information": "Informational correlation",
    }.get(measure, measure.replace("_", " ").capitalize())
