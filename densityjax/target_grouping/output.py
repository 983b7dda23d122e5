"""The files of groups: a config that `config.groups` names, every number as JSON, and pictures."""

import dataclasses
import itertools
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any

import numpy as np
import orjson
from ml_collections import ConfigDict

from densityjax.config import check
from densityjax.data.dataset import open_from_config, resolve_targets
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replaced
from densityjax.target_grouping.measures import HALF_SAMPLED
from densityjax.target_grouping.plot import draw_folds, draw_measures
from densityjax.target_grouping.select import FoldGroups, Grouping, group_targets
from densityjax.target_grouping.settings import Settings
from densityjax.target_grouping.similarity import SIGNIFICANT
from densityjax.targets import TargetSpec, dataset_targets, get_specs
from densityjax.training.groups import DatasetIdentity, read_groups_file

_METHODS = {
    "pearson": "absolute Pearson correlation (eta, Cramér's V for classes)",
    "spearman": "absolute Spearman correlation (eta of ranks, Cramér's V for classes)",
    "distance_correlation": "distance correlation",
    "mutual_information": "informational correlation (mutual information)",
    "transfer": "transfer by leave-one-out nearest neighbours",
    "task_affinity": "task affinity (lookahead loss change)",
    "gradient_cosine": "cosine of gradients",
}
_WIDTH = 100  # characters of a line of the config
_NAMED_PAIRS = 4  # in a comment


def write_groups(
    config: ConfigDict, out: str | Path, command: str, details: str | Path | None = None
) -> list[Path]:
    """Computes the groups of all test folds and writes them.

    Args:
        out: the config to write, 'configs/target_groups.py'.
        command: that its header shows.
        details: folder of the numbers and pictures, made where it is not there; None: beside `out`
          and named after it, 'configs/target_groups'.

    Returns:
        The files written: the config; in `details` NAME.json with every number, NAME.png with the
        similarities that made the groups and, of several measures, NAME_measures.png with all.

    Raises:
        ConfigError: a setting has a value that it cannot have; before a dataset is opened.
        UserError: a path cannot be written to; and as `group_targets`.
    """
    out = Path(out)
    details = _check_paths(out, Path(details) if details else out.with_suffix(""))
    check(config)
    settings = Settings.from_config(config.grouping)
    config = resolve_targets(config)
    builder = open_from_config(config.data)
    specs = get_specs(config.targets, dataset_targets(builder))
    folds = group_targets(config, builder)
    facts = {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "dataset": {"config": config.data.name} | dataclasses.asdict(DatasetIdentity.of(builder)),
        "method": _method(settings),
        "targets": [spec.name for spec in specs],
        "settings": dataclasses.asdict(settings) | {
            "linkage": "average", "spin_polarized_only": config.data.spin_polarized_only,
        },
    }
    numbers = facts | {"folds": describe_folds(folds, specs, settings)}
    files = {
        out: _config_text(facts, folds, specs, settings).encode(),
        details / f"{out.stem}.png": draw_folds(folds, specs, settings),
    }
    if len(settings.similarities) > 1:
        files[details / f"{out.stem}_measures.png"] = draw_measures(folds, specs, settings)
    files[details / f"{out.stem}.json"] = to_json(numbers)
    details.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        with replaced(path) as partial:
            partial.write_bytes(content)
    read_groups_file(out)  # what was written can be read
    print(_table(folds, specs, settings))
    return list(files)


def _check_paths(out: Path, details: Path) -> Path:
    """`details`, after a look at both paths: groups take minutes."""
    if out.suffix != ".py":
        raise UserError(f"--out={out}: must end in .py, as config.groups names it")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.parent}; make it")
    if details.exists() and not details.is_dir():
        raise UserError(f"--details={details}: is a file; name a folder")
    return details


def _method(settings: Settings) -> str:
    cut = f"into {settings.num_groups}" if settings.num_groups else "by silhouette"
    return f"{_METHODS[settings.similarity]}, average linkage, cut {cut}"


def _names(group: Sequence[int], specs: Sequence[TargetSpec]) -> tuple[str, ...]:
    return tuple(specs[target].name for target in group)


# The config.


def _config_text(
    facts: Mapping[str, Any], folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec],
    settings: Settings,
) -> str:
    """Plain Python that `densityjax.training.groups` reads: literals and comments."""
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
    identity = ("dataset", "version", "fingerprint")
    lines += [_assignment(name.upper(), dataset[name]) for name in identity]
    lines.append(_assignment("TARGETS", tuple(facts["targets"])))
    lines.append("# Folds whose labels each test fold's groups were computed from.")
    train_folds = {fold: result.train_folds for fold, result in folds.items()}
    lines.append(_assignment("TRAIN_FOLDS", train_folds))
    lines += [_assignment("SETTINGS", facts["settings"]), "GROUPS = {"]
    for fold, result in folds.items():
        lines.append(f"    {fold}: (")
        for group, comment in _described_groups(result.measures[settings.similarity], specs):
            lines += _wrap(comment, "        # ", "        # ")
            lines.append(textwrap.indent(_literal(group, 8) + ",", " " * 8))
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
            named = ", ".join(" and ".join(_names(pair, specs)) for pair in weak[:_NAMED_PAIRS])
            more = f" and {len(weak) - _NAMED_PAIRS} more pairs" if weak[_NAMED_PAIRS:] else ""
            parts.append(f"perhaps by chance (adjusted p ≥ {SIGNIFICANT}): {named}{more}")
        described.append((_names(group, specs), "; ".join(parts)))
    return described


def _wrap(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )


def _assignment(name: str, value: Any) -> str:
    return f"{name} = {_literal(value, len(name) + 3)}"


def _literal(value: Any, column: int) -> str:
    """Python literal for a line that starts at a column."""
    return pformat(value, width=_WIDTH - column - 1, compact=True, sort_dicts=False)


# The numbers.


def describe_folds(
    folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec], settings: Settings
) -> dict[str, Any]:
    """{fold: every number}; matrices [T, T] in the order of the targets."""
    content = {}
    for fold, result in folds.items():
        measures = {
            name: _describe_measure(name, grouping, specs, settings)
            for name, grouping in result.measures.items()
        }
        content[str(fold)] = {
            "train_folds": result.train_folds,
            "materials": result.num_materials,
            "chemical_systems": result.num_systems,
            "shared": result.overlap.shared,
            "overlap": result.overlap.fraction,
            "low_overlap": result.overlap.low,
            "groups": measures[settings.similarity]["groups"],
            "measures": measures,
        }
    return content


def _describe_measure(
    name: str, grouping: Grouping, specs: Sequence[TargetSpec], settings: Settings
) -> dict[str, Any]:
    matrices = dict(vars(grouping.similarity))
    stability = None
    if grouping.stability is not None:
        stability = {
            "resampling": "halves of the chemical systems" if name in HALF_SAMPLED
            else "bootstrap over chemical systems",
            "resamples": settings.bootstraps,
        } | vars(grouping.stability)
    return {"similarity": matrices.pop("values")} | matrices | {
        "linkage": grouping.clustering.linkage,
        "silhouettes": grouping.clustering.silhouettes,
        "groups": [_names(group, specs) for group in grouping.clustering.groups],
        "stability": stability,
    }


def to_json(content: Any) -> bytes:
    """JSON of mappings, sequences and arrays; what is not finite is null."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2
    return orjson.dumps(content, default=np.ndarray.tolist, option=options) + b"\n"


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
