"""Tables of benchmarks/pretraining.py: accuracy, and differences to a network from scratch."""

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


def scores(results: Sequence[Mapping[str, Any]], fold: str) -> dict[str, np.ndarray]:
    """{'mae', 'r2': [T, R + 1]} of the fits of one start and share, means over seeds.

    Column 0 is of the data; the others are of replicates that draw chemical systems and seeds.

    Args:
        results: one for each seed, in the same order for every start.
        fold: 'validation' or 'test'.
    """
    draws = Draws({fold: np.array(results[0]["system"][fold])}, REPLICATES, 0)
    of_seeds = draws.seeds(fold, tuple(result["seed"] for result in results))  # [seeds, R + 1]
    weights = draws.systems(fold) @ draws.group(fold)  # [R + 1, n]
    found = []
    for name, labels in results[0]["truth"][fold].items():
        truth = np.array(labels)  # [n]
        known = np.isfinite(truth)
        found.append(mean_of_seeds(of_seeds, [
            weighted_scores(
                weights[:, known], truth[known], np.array(result["said"][fold][name])[known]
            )
            for result in results
        ]))
    return {key: np.stack([own[key] for own in found]) for key in ("mae", "r2")}


def summary(
    results: Sequence[Mapping[str, Any]], starts: Sequence[str], base: str, fold: str
) -> list[dict[str, Any]]:
    """A row for each share of the labels and start, of the seeds that the start and `base` have."""
    rows = []
    for share in sorted({result["share"] for result in results}):
        by_start = {
            name: {r["seed"]: r for r in results if (r["start"], r["share"]) == (name, share)}
            for name in starts
        }
        for name, fits in by_start.items():
            seeds = sorted(fits.keys() & by_start[base].keys())
            if not seeds:
                continue
            own, scratch = (
                scores([found[seed] for seed in seeds], fold) for found in (fits, by_start[base])
            )
            targets = list(fits[seeds[0]]["truth"][fold])
            change = 100 * (own["mae"] / scratch["mae"] - 1)  # [T, R + 1] %
            rows.append({
                "share": share, "start": name, "seeds": seeds,
                "labelled": [fits[seed]["labelled"] for seed in seeds],
                "r2": float(own["r2"][:, 0].mean()),
                "r2_difference": estimate((own["r2"] - scratch["r2"]).mean(axis=0)),
                "mae_change": estimate(change.mean(axis=0)),
                "targets": {
                    target: {
                        "mae": float(own["mae"][place, 0]), "r2": float(own["r2"][place, 0]),
                        "mae_change": estimate(change[place]),
                    }
                    for place, target in enumerate(targets)
                },
            })
    return rows


def _marked(found: Mapping[str, Any]) -> str:
    """A change in %, in bold where its interval is on one side of 0."""
    text = f"{found['value']:+.1f}"
    return f"**{text}**" if found["low"] * found["high"] > 0 else text


def lines_of(rows: Sequence[Mapping[str, Any]], base: str) -> list[str]:
    """A table for each share of the labels."""
    lines = []
    for share in dict.fromkeys(row["share"] for row in rows):
        own = [row for row in rows if row["share"] == share]
        specs = get_specs(list(own[0]["targets"]))
        counts = ", ".join(map(str, own[0]["labelled"]))
        lines += [
            f"**{100 * share:.0f} % of the labels** ({counts} materials)", "",
            "| start | average R2 | difference | MAE, mean change in % | "
            + " | ".join(f"{spec.label}, %" for spec in specs) + " |",
            "| --- |" + " --- |" * (len(specs) + 3),
        ]
        for row in own:
            if row["start"] == base:
                cells = ["", ""] + [
                    f"{row['targets'][spec.name]['mae']:.3g} {spec.unit}" for spec in specs
                ]
            else:
                cells = [interval(row["r2_difference"], 3), interval(row["mae_change"], 1)]
                cells += [_marked(row["targets"][spec.name]["mae_change"]) for spec in specs]
            few = "" if len(row["seeds"]) == 3 else f" ({len(row['seeds'])} seeds)"
            lines.append(f"| {row['start']}{few} | {row['r2']:.3f} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def short_lines(rows: Sequence[Mapping[str, Any]], base: str) -> list[str]:
    """One table of all shares: mean change of the errors against another start."""
    shares = list(dict.fromkeys(row["share"] for row in rows))
    lines = [
        f"**Against {base}**: MAE, mean change in %", "",
        "| start | " + " | ".join(f"{100 * share:.0f} % of the labels" for share in shares) + " |",
        "| --- |" + " --- |" * len(shares),
    ]
    for name in dict.fromkeys(row["start"] for row in rows if row["start"] != base):
        own = {row["share"]: row["mae_change"] for row in rows if row["start"] == name}
        cells = [interval(own[share], 1) if share in own else "" for share in shares]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _compact(found: Mapping[str, Mapping[str, Sequence[Any]]]) -> str:
    """JSON with a row a line and four digits; single targets against the first base alone."""

    def short(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: short(own) for key, own in value.items() if key != "undefined"}
        return float(f"{value:.4g}") if isinstance(value, float) else value

    lines = [
        json.dumps({"fold": fold, "base": base} | {
            key: short(value) for key, value in row.items() if key != "targets" or place == 0
        })
        for fold, groups in found.items()
        for place, (base, rows) in enumerate(groups.items()) for row in rows
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def write_tables(
    results: Sequence[Mapping[str, Any]], out: Path, groups: Mapping[str, Sequence[str]],
    test: bool,
) -> None:
    """Writes pretraining.json and table.md, parts of which the README.md there has.

    Args:
        groups: {base: starts that are compared with it}; the first in full, others in short.
        test: write the table of fold 0, too, as test.md.
    """
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    for fold, name in (("validation", "table.md"), ("test", "test.md")):
        if fold == "test" and not test:
            continue
        found[fold] = {
            base: summary(results, starts, base, fold) for base, starts in groups.items()
        }
        first, *others = groups
        lines = lines_of(found[fold][first], first)
        for base in others:
            if found[fold][base]:
                lines += short_lines(found[fold][base], base)
        replace_text(out / name, "\n".join(lines))
    replace_text(out / "pretraining.json", _compact(found))
