"""Tables of benchmarks/modules.py: errors, and differences to other starts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.study_tables import REPLICATES, interval
from densityjax.ablation.bootstrap import Draws, estimate
from densityjax.report.style import INK, STYLE
from densityjax.runtime.files import replace_text
from densityjax.targets import get_specs

SCRATCH, START, BEST = "from scratch", "start", "best module"
OTHERS = ("all, uniform", "chosen, uniform", "random")  # whose differences are in the JSON alone

Fit = Mapping[str, Any]
Key = tuple[str, str, int]  # (target, method, seed)


def scores(fits: Mapping[Key, Fit], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{method: {'mae', 'r2': {target: [R + 1]}}} of one number of labels, means over seeds.

    Errors are in spreads of the labels that judge, on the scale that was trained. Row 0 is of the
    data; the others are of replicates that draw chemical systems, jointly for all targets, and
    seeds.

    Args:
        fits: of every method alike.
    """
    targets = list(dict.fromkeys(key[0] for key in fits))
    seeds = sorted({key[2] for key in fits})
    first = {target: fits[target, methods[0], seeds[0]] for target in targets}
    judged = {target: ~np.array(own["choice"], bool) for target, own in first.items()}
    draws = Draws(
        {target: np.array(first[target]["system"])[judged[target]] for target in targets},
        REPLICATES, 0,
    )
    of_seeds = draws.members([str(seed) for seed in seeds])  # [seeds, R + 1]
    found: dict[str, dict[str, Any]] = {m: {"mae": {}, "r2": {}} for m in methods}
    for target in targets:
        rows = judged[target]
        weights = draws.systems(target) @ draws.group(target)  # [R + 1, n]
        weights = weights / weights.sum(axis=1, keepdims=True)
        truth = np.array(first[target]["truth"])[rows]
        truth = (truth - truth.mean()) / truth.std()  # [n]
        spread = weights @ truth**2 - (weights @ truth) ** 2
        scale = np.array(first[target]["truth"])[rows]
        for method in methods:
            mae = r2 = 0.0
            for seed, share in zip(seeds, of_seeds, strict=True):
                said = np.array(fits[target, method, seed]["said"])[rows]
                error = (said - scale.mean()) / scale.std() - truth
                mae = mae + share * (weights @ abs(error))
                r2 = r2 + share * (1 - weights @ error**2 / spread)
            found[method]["mae"][target], found[method]["r2"][target] = mae, r2
    return found


def _complete(results: Sequence[Fit], count: Any, methods: Sequence[str]) -> dict[Key, Fit]:
    """Fits of one number of labels, of seeds and methods that all targets have."""
    own = {
        (fit["target"], fit["method"], fit["seed"]): fit
        for fit in results if fit["labels"] == count
    }
    targets = {key[0] for key in own}
    there = {(method, seed) for _, method, seed in own
             if all((target, method, seed) in own for target in targets)}
    kept = [method for method in methods if any(m == method for m, _ in there)]
    seeds = {seed for _, seed in there if all((method, seed) in there for method in kept)}
    return {key: fit for key, fit in own.items() if key[1] in kept and key[2] in seeds}


def summary(results: Sequence[Fit], methods: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each number of labels and method."""
    rows = []
    counts = {fit["labels"] for fit in results}
    for count in sorted(counts, key=lambda one: float("inf") if one == "all" else one):
        fits = _complete(results, count, methods)
        own = [method for method in methods if any(key[1] == method for key in fits)]
        if not own:
            continue
        found = scores(fits, own)
        for method in own:
            row: dict[str, Any] = {
                "labels": count, "method": method, "seeds": len({key[2] for key in fits}),
                "targets": {},
            }
            for measure, values in found[method].items():
                mean = np.mean(list(values.values()), axis=0)
                row[measure] = float(mean[0])
                for base in (SCRATCH, START, BEST, *OTHERS):
                    if base in own and base != method:
                        other = np.mean(list(found[base][measure].values()), axis=0)
                        row[f"{measure}, less {base}"] = estimate(mean - other)
                for target, value in values.items():
                    part = row["targets"].setdefault(target, {})
                    part[measure] = float(value[0])
                    if method != SCRATCH:
                        part[f"{measure}, less {SCRATCH}"] = estimate(
                            value - found[SCRATCH][measure][target]
                        )
            rows.append(row)
    return rows


def write_tables(results: Sequence[Fit], methods: Sequence[str], out: Path) -> None:
    """Writes modules.json and table.md, which the README.md there has."""
    out.mkdir(parents=True, exist_ok=True)
    rows = summary(results, methods)
    content = {"scores": rows, "weights": weights_of(results)}
    replace_text(out / "modules.json", json.dumps(content, indent=1) + "\n")
    lines = []
    for count in dict.fromkeys(row["labels"] for row in rows):
        own = [row for row in rows if row["labels"] == count]
        targets = list(own[0]["targets"])
        lines += [
            f"**{count} labels**, draws of them: {own[0]['seeds']}; {len(targets)} properties", "",
            "| start | average error | less from scratch | less the start | less best module |"
            " average R2 | less from scratch |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in own:
            cells = [
                row["method"], f"{row['mae']:.3f}",
                *(interval(row.get(f"mae, less {base}")) for base in (SCRATCH, START, BEST)),
                f"{row['r2']:.3f}", interval(row.get(f"r2, less {SCRATCH}")),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        specs = get_specs(targets)
        lines += [
            "", "| start | " + " | ".join(spec.label for spec in specs) + " |",
            "| --- |" + " --- |" * len(specs),
        ]
        for row in own:
            cells = [f"{row['targets'][target]['mae']:.3f}" for target in targets]
            lines.append("| " + " | ".join([row["method"], *cells]) + " |")
        lines.append("")
    replace_text(out / "table.md", "\n".join(lines))
    draw(rows, out / "modules.png")


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """PNG: average error by the number of labels, and differences to scratch with intervals."""
    counts = list(dict.fromkeys(row["labels"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    places = np.arange(len(counts))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.6))
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        for number, method in enumerate(methods):
            own = {row["labels"]: row for row in rows if row["method"] == method}
            shift = 0.1 * (number - len(methods) / 2)
            colour = INK if method == SCRATCH else f"C{number - 1}"
            there = [place for place, count in zip(places, counts) if count in own]
            left.plot(
                there, [own[counts[place]]["mae"] for place in there], "o-", color=colour,
                label=method, markersize=4, linewidth=2.2 if method == "composed" else 1,
            )
            if method == SCRATCH:
                continue
            found = [own[counts[place]][f"mae, less {SCRATCH}"] for place in there]
            right.plot(
                np.array(there) + shift, [one["value"] for one in found], "o", color=colour,
                markersize=4,
            )
            right.vlines(
                np.array(there) + shift, [one["low"] for one in found],
                [one["high"] for one in found], color=colour,
            )
        right.axhline(0, color=INK, linewidth=1)
        left.set_title("Average error, spreads of the labels")
        right.set_title("less from scratch, 95 %")
        for axes in (left, right):
            axes.set_xticks(places, map(str, counts))
            axes.set_xlabel("labels")
        left.legend(fontsize=7)
        figure.savefig(path)


def weights_of(results: Sequence[Fit]) -> list[dict[str, Any]]:
    """Weights of every composition, each once, and how often the start was taken."""
    found = {
        (fit["target"], str(fit["labels"]), fit["seed"]): fit
        for fit in results if fit["method"] == "composed"
    }
    return [
        {name: fit[name] for name in
         ("target", "labels", "rows", "seed", "fallback", "proxy", "weights")}
        for fit in found.values()
    ]
