"""Tables of benchmarks/ecd.py: accuracy under each protocol, and what each leak adds to it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ecd_protocol import OURS, THEIRS
from benchmarks.study_tables import REPLICATES, interval, weighted_scores
from densityjax.ablation.bootstrap import Draws, estimate
from densityjax.runtime.files import replace_text
from densityjax.targets import TargetSpec

_SPLIT = "all"
# Of arXiv 2605.07227, R2: latent CNN and boosted trees with composition; 6,059 materials.
PUBLISHED = {
    "network: latent and composition": {
        "bulk_modulus": 0.942, "shear_modulus": 0.841, "youngs_modulus": 0.881,
        "debye_temperature": 0.903, "formation_energy_per_atom": 0.808,
    },
    "trees: latent and composition": {
        "youngs_modulus": 0.888, "debye_temperature": 0.885, "formation_energy_per_atom": 0.957,
    },
}


class Judge:
    """R2 and MAE with their replicates over chemical systems.

    Args:
        systems: [n] chemical system of every material.
    """

    def __init__(self, systems: np.ndarray):
        draws = Draws({_SPLIT: systems}, REPLICATES, 0)
        self._weights = draws.systems(_SPLIT) @ draws.group(_SPLIT)  # [R + 1, n]

    def scores(self, truth: np.ndarray, said: np.ndarray) -> dict[str, np.ndarray]:
        """{r2, mae}, [R + 1] each; rows without a truth or a prediction do not count."""
        rows = np.isfinite(truth) & np.isfinite(said)
        return weighted_scores(self._weights[:, rows], truth[rows], said[rows])


def summary(
    results: Sequence[Mapping[str, Any]], truth: Mapping[str, Mapping[str, np.ndarray]],
    systems: np.ndarray,
) -> list[dict[str, Any]]:
    """A row for each protocol and learner, with differences to the same learner under 'ours'.

    Args:
        results: {protocol, learner, said: {target: [n], NaN = not predicted}} each.
        truth: {protocol: {target: [n]}}, NaN = missing or left out.
        systems: [n].
    """
    judge = Judge(systems)
    results = _of_common_rows(results)
    whole: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
    rows = []
    said_of = {(r["protocol"], r["learner"]): r["said"] for r in results}
    for (protocol, learner), said in said_of.items():
        own = {
            name: judge.scores(values, np.asarray(said[name], float))
            for name, values in truth[protocol].items()
        }
        whole[protocol, learner] = own
    for (protocol, learner), own in whole.items():
        base = whole.get((OURS.name, learner))
        row: dict[str, Any] = {"protocol": protocol, "learner": learner, "targets": {}}
        for name, values in own.items():
            found = {key: estimate(value) for key, value in values.items()}
            said = np.asarray(said_of[protocol, learner][name], float)
            found["rows"] = int((np.isfinite(said) & np.isfinite(truth[protocol][name])).sum())
            if base is not None and protocol != OURS.name:
                found["r2_difference"] = estimate(values["r2"] - base[name]["r2"])
            row["targets"][name] = found
        average = _average(own, "r2")
        row["average_r2"] = estimate(average)
        if base is not None and protocol != OURS.name:
            row["average_r2_difference"] = estimate(average - _average(base, "r2"))
            ratios = [values["mae"] / base[name]["mae"] for name, values in own.items()]
            row["mae_change"] = estimate(np.mean(ratios, axis=0) - 1)
        composition = said_of.get((protocol, "trees: composition"))
        if composition is not None and learner != "trees: composition":
            same = {  # rows, of each target
                name: judge.scores(
                    np.where(np.isfinite(said_of[protocol, learner][name]), values, np.nan),
                    composition[name],
                )
                for name, values in truth[protocol].items()
            }
            row["over_composition"] = estimate(average - _average(same, "r2"))
        rows.append(row)
    return rows


def _of_common_rows(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of trees, the rows that all of them predict under every protocol: all, once all has run.

    Networks are judged on the parts that there are, which are of other rows under each protocol.
    """
    trees = [result for result in results if result["learner"].startswith("trees")]
    common = np.all([
        np.any([np.isfinite(values) for values in result["said"].values()], axis=0)
        for result in trees
    ], axis=0)
    return [
        result if not result["learner"].startswith("trees") else result | {"said": {
            name: np.where(common, values, np.nan) for name, values in result["said"].items()
        }}
        for result in results
    ]


def _average(scores: Mapping[str, Mapping[str, np.ndarray]], key: str) -> np.ndarray:
    return np.mean([values[key] for values in scores.values()], axis=0)


def _percent(found: Mapping[str, Any]) -> str:
    return f"{found['value']:+.0%} [{found['low']:+.0%}, {found['high']:+.0%}]"


def write_tables(rows: Sequence[Mapping[str, Any]], specs: Sequence[TargetSpec], out: Path) -> None:
    """Writes ecd.json and table.md, which the README.md there has."""
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / "ecd.json", json.dumps(rows, indent=1) + "\n")
    labels = [spec.label for spec in specs]
    lines = ["**R2 (MAE) of the two protocols**", "", "| learner | protocol | "
             + " | ".join(f"{spec.label} ({spec.unit})" for spec in specs) + " | average R2 |",
             "| --- |" + " --- |" * (len(specs) + 2)]
    by_key = {(row["protocol"], row["learner"]): row for row in rows}
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    for learner in learners:
        for protocol in (OURS.name, THEIRS.name):
            row = by_key.get((protocol, learner))
            if row is None:
                continue
            cells = [
                f"{row['targets'][s.name]['r2']['value']:.3f} "
                f"({row['targets'][s.name]['mae']['value']:.3g})" for s in specs
            ]
            average = row["average_r2"]["value"]
            lines.append(f"| {learner} | {protocol} | " + " | ".join(cells) + f" | {average:.3f} |")
        if learner in PUBLISHED:
            cells = [f"{PUBLISHED[learner].get(s.name, ''):}" for s in specs]
            lines.append(f"| {learner} | published | " + " | ".join(cells) + " | |")
    lines += ["", "**What a leak adds to R2** (95 % intervals over chemical systems, paired)", "",
              "| learner | leak | " + " | ".join(labels)
              + " | average | change of MAE |", "| --- |" + " --- |" * (len(specs) + 3)]
    for learner in learners:
        for row in rows:
            if row["learner"] != learner or "average_r2_difference" not in row:
                continue
            cells = [interval(row["targets"][spec.name].get("r2_difference")) for spec in specs]
            lines.append(f"| {learner} | {row['protocol']} | " + " | ".join(cells)
                         + f" | {interval(row['average_r2_difference'])} | "
                         f"{_percent(row['mae_change'])} |")
    lines += ["", "**Average R2 over that of composition alone, trees, same protocol**", "",
              "| learner | " + " | ".join((OURS.name, THEIRS.name)) + " |", "| --- | --- | --- |"]
    for learner in learners:
        cells = [
            interval(by_key.get((protocol, learner), {}).get("over_composition"))
            for protocol in (OURS.name, THEIRS.name)
        ]
        if any(cells):
            lines.append(f"| {learner} | " + " | ".join(cells) + " |")
    replace_text(out / "table.md", "\n".join(lines) + "\n")
