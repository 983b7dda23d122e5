"""Tables of benchmarks/fine_tune.py: errors, and differences to a network from scratch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study_tables import (
    REPLICATES,
    interval,
    mean_of_seeds,
    weighted_scores,
)
from densityjax.ablation.bootstrap import Draws, estimate
from densityjax.runtime.files import replace_text
from densityjax.targets import get_specs

BASE = "from scratch"


def scores(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """{target: {mae, r2}} of the fits of one method, means over seeds, [R + 1] each.

    Row 0 is of the data; the others are of replicates that draw chemical systems and seeds.

    Args:
        results: one for each seed, in the same order for every method.
    """
    draws = Draws({str(r["seed"]): np.array(r["system"]) for r in results}, REPLICATES, 0)
    of_seeds = draws.members([str(r["seed"]) for r in results])  # [seeds, R + 1]
    found = {}
    for name in results[0]["truth"]:
        parts = []
        for result in results:
            seed = str(result["seed"])
            weights = draws.systems(seed) @ draws.group(seed)  # [R + 1, n]
            truth, said = (np.array(result[key][name]) for key in ("truth", "said"))  # [n]
            parts.append(weighted_scores(weights, truth, said))
        found[name] = mean_of_seeds(of_seeds, parts)
    return found


def summary(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each case and method."""
    rows, whole = [], {}
    for case in dict.fromkeys(r["case"] for r in results):
        own = [r for r in results if r["case"] == case]
        for method in dict.fromkeys(r["method"] for r in own):
            fits = sorted((r for r in own if r["method"] == method), key=lambda r: r["seed"])
            whole[case, method] = found = scores(fits)
            base = whole[case, BASE]
            row = {
                "case": case, "method": method, "seeds": len(fits), "labels": fits[0]["labels"],
                "judged": [len(fit["system"]) for fit in fits],
            }
            for name, values in found.items():
                row[name] = {key: float(value[0]) for key, value in values.items()}
                difference = estimate(values["mae"] - base[name]["mae"])
                row[name]["mae_difference"] = difference
            means = [np.mean([v["r2"] for v in one.values()], axis=0) for one in (found, base)]
            row["r2"] = float(means[0][0])
            row["r2_difference"] = estimate(means[0] - means[1])
            rows.append(row)
    return rows


def write_tables(results: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes fine_tune.json and table.md, which the README.md there has."""
    out.mkdir(parents=True, exist_ok=True)
    rows = summary(results)
    replace_text(out / "fine_tune.json", json.dumps(rows, indent=1) + "\n")
    specs = get_specs(list(results[0]["truth"]))
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        lines += [
            f"**{case}** (judged on {', '.join(map(str, own[0]['judged']))} materials)", "",
            "| start | " + " | ".join(f"{s.label}: MAE, {s.unit} | difference" for s in specs)
            + " | average R2 | difference |",
            "| --- |" + " --- |" * (2 * len(specs) + 2),
        ]
        for row in own:
            is_base = row["method"] == BASE
            cells = [row["method"]]
            for spec in specs:
                values = row[spec.name]
                cells += [
                    f"{values['mae']:.1f}",
                    "" if is_base else interval(values["mae_difference"], 1),
                ]
            cells += [f"{row['r2']:.3f}", "" if is_base else interval(row["r2_difference"], 3)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    replace_text(out / "table.md", "\n".join(lines))
