"""The page's tables, parsed and held against the comparison's numbers."""

import re

import numpy as np
import pytest

from densityjax.ablation.compare import compare
from densityjax.ablation.frame import long_frame
from densityjax.ablation.markdown import escape, to_markdown
from densityjax.ablation.results import AVERAGE
from densityjax.ablation.words import target_labels
from tests.ablation.designs import POOLS, SPECS, change_targets, design

FACTS = {
    "title": "Names & <signs>",
    "lines": ["Trained on made-up labels."],
    "versions": {"numpy": np.__version__},
    "commits": ["abc", "def"],
    "hardware": "2 cores | no accelerator",
}
Table = list[dict[str, str]]


def parsed_tables(text: str) -> list[Table]:
    """Rows of each table, by the texts of its header."""
    tables = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
        header, dashes, *rows = [[cell.strip() for cell in line] for line in lines]
        assert all(set(cell) <= set("-:") for cell in dashes)
        tables.append([dict(zip(header, row, strict=True)) for row in rows])
    return tables


def numbers(cell: str) -> list[float]:
    """All numbers of a cell, typographic signs read as ASCII."""
    text = cell.replace("−", "-").replace("*", "")
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", text)]


def render(comparison, facts) -> str:
    return to_markdown(comparison, long_frame(comparison), facts)


@pytest.fixture(scope="module")
def text(comparison, frame):
    return to_markdown(comparison, frame, FACTS)


def own_tables(text: str, first: str) -> dict[tuple[str, str], list[str]]:
    """(Label, variant) -> cells of the tables whose first column is so called."""
    found: dict[tuple[str, str], list[str]] = {}
    for table in parsed_tables(text):
        for row in table if first in table[0] else ():
            for name, cell in row.items():
                found.setdefault((row[first].strip("*"), name), []).append(cell)
    return found


def test_every_score_is_in_its_cell(comparison, text):
    cells = own_tables(text, "score")
    for name in (*comparison.variants, *POOLS):
        for target, label in target_labels(comparison).items():
            own, (cell,) = comparison.score(name, target), cells[label, name]
            expected = [own.value, own.low, own.high] if own else []
            assert numbers(cell) == pytest.approx(expected, abs=6e-4)


def test_every_difference_is_in_its_cell(comparison, text):
    cells, limits = own_tables(text, "difference"), own_tables(text, "detectable")
    labels = target_labels(comparison)
    for contrast in comparison.contrasts:
        place = contrast.reference != "single"  # 'all' is compared with two
        for row in contrast.rows:
            cell = cells[labels[row.target], contrast.variant][place]
            limit = limits[labels[row.target], contrast.variant][place]
            assert ("**" in cell) == (row.verdict in ("win", "loss"))
            if row.verdict == "same model":
                assert not numbers(cell + limit)
                continue
            tested = row.p if row.p_adjusted is None else row.p_adjusted
            expected = [row.value, row.low, row.high, max(tested, 0.001)]
            assert numbers(cell) == pytest.approx(expected, abs=6e-4)
            assert f"{row.ahead} of {row.pairs}" in cell
            assert numbers(limit) == pytest.approx([row.detectable], abs=6e-4)
        summary = cells["Targets won, lost, undecided", contrast.variant][place]
        assert summary == f"{contrast.wins}, {contrast.losses}, {contrast.undecided}"


def test_the_first_lines_are_the_averages(comparison, text):
    lines = {m[1]: m[2] for m in re.finditer(r"^- \*\*(.+)\*\*: (.*)$", text, re.MULTILINE)}
    assert next(iter(lines)) == "single"
    for name, line in lines.items():
        own, contrast = comparison.score(name, AVERAGE), comparison.contrast(name)
        expected = [own.value, own.low, own.high]
        if contrast:
            row = contrast.row(AVERAGE)
            expected += [row.value, row.low, row.high]
            for count in (contrast.wins, contrast.losses, contrast.undecided):
                assert re.search(rf"\b{count} ", line)
        assert numbers(line) == pytest.approx(expected, abs=6e-4)


def test_costs_and_origin(comparison, text):
    *_, costs, facts = parsed_tables(text)
    assert costs[0]["per cell"] == "single"
    assert {row["per cell"]: int(row["cells"]) for row in costs} == {
        cost.variant: cost.cells for cost in comparison.costs
    }
    facts = {row["fact"].strip("`"): row["value"] for row in facts}
    assert facts == {
        "versions.numpy": np.__version__, "commits": "abc, def",
        "hardware": r"2 cores \| no accelerator",
    }


def test_tables_are_narrow_and_texts_escaped(text):
    assert all(len(table[0]) <= 7 for table in parsed_tables(text))
    assert text.startswith("# Names & \\<signs\\>\n\nTrained on made-up labels.\n")
    assert escape("a|b *c*\n<d> `e`") == r"a\|b \*c\* \<d\> \`e\`"


def method(text: str) -> str:
    return text.partition("## How it was computed")[2]


def test_what_is_not_compared_or_missing_is_stated(text):
    assert "few_2 & more and single" in method(text)
    assert "density, crystal_system" in method(text)
    cells = [c for c in design(("a", "b"), seeds=(7,)) if (c.variant, c.split) != ("b", "fold1")]
    some = compare(cells, SPECS, "a", replicates=20, allow_missing=True)
    assert some.missing[0] in method(render(some, {}))
    assert some.notes[0] in method(render(some, {}))


def test_seeds_that_are_drawn_are_stated(text):
    assert "2 of the 3 seeds" in method(text)
    one = compare(design(("a", "b"), seeds=(7,)), SPECS, "a", replicates=20)
    assert "one seed is not resampled" in method(render(one, {}))


def test_one_variant_has_nothing_to_be_compared_with():
    """Class targets alone: no average to lead with, no contrast to draw."""
    cells = [change_targets(cell, ["crystal_system"]) for cell in design(("a",))]
    alone = compare(cells, SPECS[2:], "a", replicates=20)
    text = render(alone, {})
    own = alone.scores[0]
    assert numbers(re.search(r"- \*\*a\*\*: (.*)", text)[1]) == pytest.approx(
        [own.value, own.low, own.high], abs=6e-4
    )
    assert not own_tables(text, "difference")
