"""How often conformal intervals hold the truth where it is known: the promise, simulated.

    python -m benchmarks.conformal_coverage --json=benchmarks/results/conformal_coverage.json

Chemical systems are drawn alike, with 1 to 20 rows each: the rows of one share most of their error
and its size (the more rows, the larger), as materials of the same elements do. Of each draw, so
many systems calibrate, and one row of each of 200 new systems is predicted, as a user would.
'systems' is what densityjax does; 'rows' counts every row as one, which is what split conformal
prediction does. The coverage to expect of S systems is between c and c + 1 / (S + 1).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from densityjax.results.conformal import (
    class_scores,
    class_thresholds,
    interval_thresholds,
    largest_coverage,
    prediction_sets,
    system_weights,
)

NEW = 200  # systems that are predicted in each draw


def systems_of(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(system of each row, signed score of each row) of `count` exchangeable systems."""
    sizes = rng.choice([1, 1, 1, 2, 3, 5, 20], count)
    system = np.repeat(np.arange(count), sizes)
    scale = np.exp(rng.normal(0, 0.4, count)) * sizes**0.3
    shared = 0.8**0.5 * rng.standard_t(5, count)
    score = scale[system] * (shared[system] + 0.2**0.5 * rng.normal(size=len(system)) + 0.3)
    return system, score


def one_row_each(system: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A row of every system, drawn at random."""
    order = rng.permutation(len(system))
    return order[np.unique(system[order], return_index=True)[1]]


def regression(
    count: int, coverage: float, draws: int, asymmetric: bool, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Mean coverage over draws and its standard error, by systems and by rows."""
    rng, held = np.random.default_rng(seed), {"systems": [], "rows": []}
    for _ in range(draws):
        system, score = systems_of(count, rng)
        new_system, new_score = systems_of(NEW, rng)
        new = new_score[one_row_each(new_system, rng)]
        for name, weights in (("systems", system_weights(system)), ("rows", np.ones(len(system)))):
            limits = interval_thresholds(score, weights, coverage, asymmetric)
            held[name].append(((new <= limits.upper) & (-new <= limits.lower)).mean())
    return {name: _summary(values) for name, values in held.items()}


def classification(
    count: int, coverage: float, draws: int, kind: str, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Mean coverage of sets of three classes, of which one is rare; over all and of each class."""
    rng = np.random.default_rng(seed)
    held: dict[str, list[float]] = {name: [] for name in ("all", "0", "1", "2 (rare)")}
    prior = np.log([0.62, 0.34, 0.04])
    for _ in range(draws):
        drawn = []
        for number in (count, NEW):
            system, _ = systems_of(number, rng)
            logits = prior + rng.normal(0, 1.5, (number, 3))[system]
            logits = logits + 0.3 * rng.normal(size=logits.shape)
            exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            label = (rng.uniform(size=len(system))[:, None] > exact.cumsum(axis=1)).sum(axis=1)
            said = exact**1.7  # surer of itself than it should be
            said /= said.sum(axis=1, keepdims=True)
            drawn.append((system, said, label))
        (system, said, label), (new_system, new_said, new_label) = drawn
        limits = class_thresholds(class_scores(kind, said), label, system, coverage)
        chosen = one_row_each(new_system, rng)
        new_said, new_label = new_said[chosen], new_label[chosen]
        sets = prediction_sets(class_scores(kind, new_said), limits, new_said)
        hit = sets[np.arange(len(sets)), new_label]
        held["all"].append(hit.mean())
        for k, name in enumerate(list(held)[1:]):
            if (new_label == k).any():
                held[name].append(hit[new_label == k].mean())
    return {name: _summary(values) for name, values in held.items()}


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "coverage": round(float(np.mean(values)), 4),
        "standard_error": round(float(np.std(values) / len(values) ** 0.5), 4),
    }


def main() -> None:
    """Runs every study and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    start, found = time.perf_counter(), []
    for count in (9, 30, 150, 700):
        for coverage in (0.8, 0.9, 0.95):
            for asymmetric in (False, True):
                side = (1 + coverage) / 2 if asymmetric else coverage
                if side > largest_coverage(count):
                    continue
                found.append({
                    "study": "asymmetric" if asymmetric else "symmetric", "systems": count,
                    "coverage": coverage,
                    "held": regression(count, coverage, options.draws, asymmetric),
                })
                print(found[-1], flush=True)
    for kind in ("lac", "aps"):
        for count in (150, 700):
            held = classification(count, 0.9, options.draws // 4, kind)
            found.append({"study": kind, "systems": count, "coverage": 0.9, "held": held})
            print(found[-1], flush=True)
    if options.json:
        content = {
            "draws": options.draws, "new_systems": NEW, "studies": found,
            "seconds": round(time.perf_counter() - start, 1),
        }
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
