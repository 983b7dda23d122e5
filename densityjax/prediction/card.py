"""The README.md of an exported model: what it is, how good, and what it is not for."""

from collections.abc import Mapping, Sequence
from typing import Any

from densityjax.config import NO_FOLD
from densityjax.results.baselines import BASELINES
from densityjax.results.calibration import Calibration
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.files import replace_text
from densityjax.targets import TargetSpec

_TEXT = """# {name}

A densityjax model that predicts {targets} of a crystal from its electronic charge density.

```
densityjax predict --model={name} CHGCAR
```

(`--model` takes the path of this folder, too.) `model.json` has the hash of every file, the commit
and the versions that made it; nothing in the folder is code.

## Trained on

{count} materials of {dataset}{folds}. {who}

## How good it is

{rows}. R2 beside baselines and yardsticks without a network on the same rows.

{table}

## Intervals

{intervals}

## What it must not be used for

- Densities of other pseudopotentials or PAW data sets, with other numbers of valence electrons:
  {code} `predict` says in its first line when a file is from elsewhere.
- Materials with elements that it was not trained on ({elements} are known to it): intervals are
  then those of elements left out of the training, where there are any.
- Molecules, surfaces, defects, charged cells: all training cells are bulk crystals.
- Decisions that nobody checks: the intervals hold on average over chemical systems, not for yours.
"""


def write_card(
    folder: RunDirectory, name: str, facts: Mapping[str, Any], calibration: Calibration | None,
    specs: Sequence[TargetSpec], codes: Sequence[str], elements: int, more: str = "",
) -> None:
    """Writes README.md.

    Args:
        folder: of the model, with metrics.json.
        facts: run.json of its training.
        codes: that made the training densities.
        elements: how many it was trained on.
        more: sections that follow, Markdown.
    """
    dataset = facts["dataset"]
    metrics = folder.read_metrics("test", "validation", "baselines.test")
    kept_back = dataset.get("test_fold") != NO_FOLD
    split = "test" if kept_back else "validation"
    rows = (
        f"On {dataset.get('test_examples')} materials of fold {dataset.get('test_fold')}, which "
        "had no part in training" if kept_back else
        "Out of fold: each material as predicted by the one member that did not train on its "
        "chemical system; what is given away has seen all of them"
    )
    text = _TEXT.format(
        name=name, targets=", ".join(spec.name for spec in specs),
        count=dataset.get("train_examples"), dataset=dataset["name"],
        folds=f", folds {', '.join(map(str, dataset.get('train_folds', ())))}",
        who=f"The densities are of {', '.join(codes)}.",
        rows=rows,
        table=_table(metrics[split], metrics["baselines"][split], specs, calibration),
        intervals=_intervals(calibration), code=f"it knows those of {', '.join(codes)} alone.",
        elements=f"{elements} elements",
    )
    replace_text(folder.path / "README.md", text + more)


def _table(
    metrics: Mapping[str, Any], baselines: Mapping[str, Any], specs: Sequence[TargetSpec],
    calibration: Calibration | None,
) -> str:
    """Markdown; yardsticks that were fitted, and how often 90 % intervals held."""
    others = [name for name in baselines if name not in BASELINES]
    regression = [spec for spec in specs if spec.kind == "regression"]
    head = ["target", "R2", "MAE", *others, "mean: MAE", "90 % intervals held"]
    lines = [head, ["---"] * len(head)]
    facts = {} if calibration is None else calibration.facts
    for spec in regression:
        own = metrics[spec.name]
        held = facts.get(spec.name, {}).get("held_out_coverage")
        lines.append([
            spec.name, _score(own.get("r2")), f"{own['mae']:.3g} {spec.unit}".strip(),
            *(_score(baselines[name].get(spec.name, {}).get("r2")) for name in others),
            f"{baselines['mean'][spec.name]['mae']:.3g}",
            "" if held is None else f"{100 * held:.1f} %",
        ])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    classes = [spec for spec in specs if spec.kind == "classification"]
    for spec in classes:
        text += f"\n\n{spec.name}: accuracy {_score(metrics[spec.name].get('accuracy'))}."
    return text


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _intervals(calibration: Calibration | None) -> str:
    if calibration is None:
        return "None: the run was not calibrated (`densityjax calibrate`)."
    return (
        f"Conformal, calibrated by chemical system on {calibration.source}. *held*, above: by "
        "thresholds of other chemical systems."
    )
