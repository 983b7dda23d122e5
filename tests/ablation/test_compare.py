"""Scores, intervals and differences against loops written out."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score, recall_score

from densityjax.ablation.bootstrap import Draws
from densityjax.ablation.compare import compare
from densityjax.ablation.results import (
    AVERAGE,
    AVERAGE_WITHOUT_IDENTITIES,
    CellResult,
    ComparisonError,
)
from densityjax.results.metrics import average_r2, target_metrics
from tests.ablation.designs import POOLS, SPECS, VARIANTS, basic, change, change_targets, made


def brute_score(cell: CellResult, spec, rows) -> float:
    """Score by scikit-learn of the listed materials, repeated ones repeated."""
    truth, prediction = cell.truth[spec.name][rows], cell.prediction[spec.name][rows]
    if spec.classes:
        keep = truth >= 0
        return recall_score(
            truth[keep], np.argmax(prediction[keep], 1), average="macro",
            labels=np.unique(truth[keep]),
        )
    keep = np.isfinite(truth)
    return r2_score(truth[keep], prediction[keep])


@pytest.fixture(scope="module")
def result(cells):
    extra = [("all", "random (mean)")]
    return compare(cells, SPECS, "single", POOLS, extra, replicates=300)


def test_scores_are_those_of_evaluation(cells, result):
    for variant in VARIANTS:
        own = [cell for cell in cells if cell.variant == variant]
        tables = []
        for spec in SPECS:
            key = "balanced_accuracy" if spec.classes else "r2"
            values = [
                target_metrics(spec, cell.truth[spec.name], cell.prediction[spec.name])[key]
                for cell in own
            ]
            value = result.score(variant, spec.name).value
            assert value == pytest.approx(np.mean(values), rel=1e-12)
            tables.append(np.mean(values))
        metrics = {s.name: {"r2": v} for s, v in zip(SPECS, tables, strict=True)}
        for target, identities in ((AVERAGE, True), (AVERAGE_WITHOUT_IDENTITIES, False)):
            expected = average_r2(metrics, SPECS, identities)
            assert result.score(variant, target).value == pytest.approx(expected)
    pooled = [result.score(v, AVERAGE).value for v in POOLS["random (mean)"]]
    assert result.score("random (mean)", AVERAGE).value == pytest.approx(np.mean(pooled))
    assert result.score("single", AVERAGE).num_targets == 2
    assert result.score("single", AVERAGE_WITHOUT_IDENTITIES).num_targets == 1


def test_bootstrap_is_that_of_loops(cells):
    """The same draws, but materials listed one by one and scored by scikit-learn."""
    count, specs = 6, (SPECS[0], SPECS[2])  # values, some missing, and classes
    result = compare(cells, SPECS, "single", POOLS, [("all", "random (mean)")], replicates=count)
    by_name = {(c.variant, c.split, c.seed): c for c in cells}
    draws = Draws({c.split: c.systems for c in cells}, count, 0)
    for spec in specs:
        table = np.zeros((len(VARIANTS), count))
        for r in range(1, count + 1):
            for split in ("fold0", "fold1"):
                cell = by_name["single", split, 0]
                systems = np.unique(cell.systems)
                drawn = draws.systems(split)[r]
                rows = []
                for name, times in zip(systems, drawn, strict=True):
                    rows += list(np.flatnonzero(cell.systems == name)) * int(times)
                weights = draws.seeds(split, (0, 1, 2))[:, r]
                for v, variant in enumerate(VARIANTS):
                    for seed in range(3):
                        score = brute_score(by_name[variant, split, seed], spec, np.array(rows))
                        table[v, r - 1] += weights[seed] * score / 2
        members = draws.members(POOLS["random (mean)"])[:, 1:]
        pooled = np.sum(members * table[2:], axis=0)
        expected = {
            ("all", "single"): table[1] - table[0],
            ("random (mean)", "single"): pooled - table[0],
            ("all", "random (mean)"): table[1] - pooled,
        }
        for (a, b), values in expected.items():
            row = result.contrast(a, b).row(spec.name)
            assert (row.low, row.high) == pytest.approx(basic(row.value, values))
            assert row.se == pytest.approx(values.std(ddof=1))
            assert row.detectable == pytest.approx(2.8016 * row.se, rel=1e-4)
        score = result.score("all", spec.name)
        low, high = basic(score.value, table[1])
        assert (score.low, score.high) == pytest.approx((low, min(high, 1)))


def test_wins_signs_and_adjusted_p(cells, result):
    contrast = result.contrast("all")
    rows = [contrast.row(spec.name) for spec in SPECS]
    adjusted = stats.false_discovery_control([row.p for row in rows])
    assert [row.p_adjusted for row in rows] == pytest.approx(adjusted)
    by_name = {(c.variant, c.split, c.seed): c for c in cells}
    for spec, row in zip(SPECS, rows, strict=True):
        gaps = [
            brute_score(by_name["all", split, seed], spec, slice(None))
            - brute_score(by_name["single", split, seed], spec, slice(None))
            for split in ("fold0", "fold1")
            for seed in range(3)
        ]
        assert row.value == pytest.approx(np.mean(gaps))
        assert (row.ahead, row.behind) == (np.sum(np.array(gaps) > 0), np.sum(np.array(gaps) < 0))
        assert row.pairs == 6
    assert contrast.wins == sum(row.low > 0 for row in rows)
    assert contrast.losses == sum(row.high < 0 for row in rows)
    assert contrast.wins + contrast.losses + contrast.undecided == 3
    assert (contrast.better, contrast.worse) == (
        sum(row.value > 0 for row in rows), sum(row.value < 0 for row in rows)
    )
    assert [c.variant for c in result.contrasts] == [*VARIANTS[1:], "random (mean)", "all"]
    json.dumps(result.to_json(), allow_nan=False)


def test_rerun_gives_the_same_and_another_seed_does_not(cells):
    first, again = (compare(cells, SPECS, "single", replicates=50) for _ in range(2))
    assert first.to_json() == again.to_json()
    other = compare(cells, SPECS, "single", replicates=50, seed=1)
    assert other.contrast("all").rows[0].se != first.contrast("all").rows[0].se


def test_identical_variants_differ_by_exactly_nothing(cells):
    """One target shares its model with the reference, as a group of one target does."""
    twins = [
        change(b, density=a.prediction["density"])
        for a, b in zip(cells[:3], cells[3:6], strict=True)
    ]
    twins += [
        dataclasses.replace(cell, variant=name) for cell in cells[:3] for name in ("copy", "copy 2")
    ]
    pools = {"copies": ("copy", "copy 2")}
    result = compare([*cells[:3], *twins], SPECS, "single", pools, replicates=100)
    density, bulk = (result.contrast("all").row(n) for n in ("density", "bulk_modulus"))
    assert (density.value, density.low, density.high, density.se) == (0, 0, 0, 0)
    assert density.p is density.p_adjusted is density.detectable is None
    assert (density.ahead, density.ties, density.identical) == (0, 3, 3)
    assert result.contrast("all").same == 1
    assert bulk.p_adjusted is not None
    assert bulk.identical == 0
    assert bulk.value != 0
    for name in ("copy", "copies"):
        contrast = result.contrast(name)
        assert all((r.value, r.low, r.high, r.identical) == (0, 0, 0, 3) for r in contrast.rows)
        assert (contrast.same, contrast.better, contrast.worse, contrast.wins) == (3, 0, 0, 0)


def test_materials_of_a_system_come_together():
    """Every material four times over in its system: the interval must not shrink."""
    rng = np.random.default_rng(5)
    truth = rng.normal(0, 1, 50)
    errors = {v: rng.normal(0, 0.5, 50) for v in "ab"}
    once = [made(v, 0, truth, e) for v, e in errors.items()]
    names = np.repeat(once[0].systems, 4)
    often = [
        dataclasses.replace(
            made(v, 0, np.repeat(truth, 4), np.repeat(e, 4)), systems=names
        )
        for v, e in errors.items()
    ]
    first, second = (compare(c, SPECS[:1], "a", replicates=500) for c in (once, often))
    assert second.contrast("b").rows[0].se == pytest.approx(first.contrast("b").rows[0].se)
    assert "one seed" in first.notes[0]


def test_splits_with_common_systems_are_drawn_together(cells):
    """The same materials tested twice are not two samples."""
    one = [cell for cell in cells if cell.split == "fold0" and cell.seed == 0]
    twice = one + [dataclasses.replace(cell, split="without O") for cell in one]
    first, second = (compare(c, SPECS, "single", replicates=200) for c in (one, twice))
    assert "in common" in second.notes[-1]
    assert "one seed" in first.notes[0]
    assert first.contrast("all").rows[0].se > 0
    for a, b in zip(first.contrast("all").rows, second.contrast("all").rows, strict=True):
        assert a.se == pytest.approx(b.se)


def test_variants_with_fewer_targets(cells):
    few = [change_targets(c, ("bulk_modulus",)) if c.variant == "all" else c for c in cells]
    few = [
        dataclasses.replace(c, truth={n: c.truth[n] for n in c.prediction}) for c in reversed(few)
    ]
    result = compare(few, SPECS, "single", replicates=20)
    contrast = result.contrast("all")
    assert [row.target for row in contrast.rows] == ["bulk_modulus", AVERAGE]
    assert contrast.not_compared == ("density", "crystal_system")
    assert result.score("all", "density") is None
    assert result.score("all", AVERAGE).num_targets == 1
    assert result.splits[0].labels.keys() == {spec.name for spec in SPECS}
    apart = [
        change_targets(c, ("density",) if c.variant == "single" else ("bulk_modulus",))
        for c in cells
    ]
    with pytest.raises(ComparisonError, match="no target in common"):
        compare(apart, SPECS[:2], "single", replicates=5)


def test_undefined_scores_are_counted(cells):
    """Labels of one value in a replicate: no R2. In all of a split: the split is left out."""
    truth = np.r_[np.zeros(18), 1.0, 2.0]
    error = np.random.default_rng(0).normal(0, 0.1, 20)
    pair = [made("a", 0, truth, error), made("b", 0, truth, 2 * error)]
    result = compare(pair, SPECS[:1], "a", replicates=2000)
    row = result.contrast("b").rows[0]
    expected = 2000 * (18 / 20) ** 20  # neither of the two is drawn
    assert row.undefined == pytest.approx(expected, abs=5 * expected**0.5)
    assert row.low < row.value < row.high
    flat = np.full(20, 0.1)
    more = [*pair, made("a", 0, flat, error, "fold1"), made("b", 0, flat, error, "fold1")]
    with_flat = compare(more, SPECS[:1], "a", replicates=2000)
    assert with_flat.contrast("b").rows[0].value == row.value
    assert with_flat.contrast("b").rows[0].pairs == 1
    assert "fewer than two different labels in fold1" in " ".join(with_flat.notes)
    nothing = compare(more[2:], SPECS[:1], "a", replicates=50).contrast("b")
    assert nothing.rows[0].value is None
    assert nothing.rows[0].verdict == "undecided"
    assert len(nothing.rows) == 1


def test_missing_cells_are_named_or_left_out(cells):
    some = [c for c in cells if (c.variant, c.split, c.seed) != ("all", "fold1", 2)]
    with pytest.raises(ComparisonError, match=r"1 of 30 cells are missing: 'all', fold1, seed 2"):
        compare(some, SPECS, "single", replicates=5)
    result = compare(some, SPECS, "single", replicates=50, allow_missing=True)
    full = compare(cells, SPECS, "single", replicates=50)
    assert result.missing == ("'all', fold1, seed 2",)
    assert result.contrast("random 0") == full.contrast("random 0")
    row = result.contrast("all").row("density")
    assert row.pairs == 5
    by_name = {(c.variant, c.split, c.seed): c for c in cells}
    gaps = {
        split: np.mean([
            brute_score(by_name["all", split, s], SPECS[1], slice(None))
            - brute_score(by_name["single", split, s], SPECS[1], slice(None))
            for s in seeds
        ])
        for split, seeds in {"fold0": (0, 1, 2), "fold1": (0, 1)}.items()
    }
    assert row.value == pytest.approx(np.mean(list(gaps.values())))
    lone = [c for c in cells if c.variant != "all" or c.split == "fold0"]
    assert compare(lone, SPECS, "single", replicates=5, allow_missing=True).contrast("all")
    apart = [c for c in cells if (c.variant == "all") == (c.split == "fold0")]
    with pytest.raises(ComparisonError, match="all and single: no split and seed"):
        compare(
            [c for c in apart if c.variant in ("all", "single")],
            SPECS, "single", replicates=5, allow_missing=True,
        )


def test_costs(cells):
    cells = [dataclasses.replace(c, trunks=1 + (c.split == "fold1")) for c in cells]
    cost = compare(cells, SPECS, "single", replicates=5).costs[1]
    assert (cost.variant, cost.cells, cost.trunks, cost.parameters) == ("all", 6, 1.5, 1001)
    assert (cost.updates, cost.device_seconds, cost.total_device_seconds) == (300, 2.0, 12.0)
