"""Files of a comparison, read back and held against its numbers."""

import csv
import io
import json
import re

import matplotlib.image
import numpy as np
import pytest

from densityjax.ablation.comparison import AVERAGE, Comparison, compare
from densityjax.ablation.comparison_report import FIELDS, p_value, signed, tex, write_comparison
from densityjax.report.text import score
from tests.ablation.test_comparison import POOLS, SPECS, change, change_targets, design

FACTS = {
    "title": "Names & <signs>",
    "lines": ["Trained on made-up labels."],
    "versions": {"numpy": np.__version__},
    "commits": ["abc", "def"],
    "hardware": "2 cores | no accelerator",
}
FILES = ["table.md", "table.csv", "table.tex", "comparison.png", "comparison.json"]


def fixed_cells():
    """'all' shares a model with 'single'; 'few_2' has one target."""
    cells = design((*POOLS["random (mean)"], "single", "all", "few_2 & more"))
    single = {(c.split, c.seed): c for c in cells if c.variant == "single"}
    for cell in cells:
        if cell.variant == "all":
            own = single[cell.split, cell.seed].prediction
            yield change(cell, density=own["density"])
        else:
            yield change_targets(cell, ["bulk_modulus"]) if "few" in cell.variant else cell


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    extra = [("all", "random (mean)")]
    return compare(list(fixed_cells()), SPECS, "single", POOLS, extra, replicates=200)


@pytest.fixture(scope="module")
def files(comparison, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("comparison") / "docs" / "table"
    paths = write_comparison(folder, comparison, FACTS)
    assert [path.name for path in paths] == FILES
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)  # no partial ones
    return {path.name: path.read_bytes() for path in paths}


def test_csv_has_every_number(comparison, files):
    rows = list(csv.DictReader(io.StringIO(files["table.csv"].decode())))
    assert tuple(rows[0]) == FIELDS
    found = {(row["variant"], row["reference"], row["target"]): row for row in rows}
    assert len(found) == len(rows)
    for contrast in comparison.contrasts:
        for row in contrast.rows:
            line = found.pop((contrast.variant, contrast.reference, row.target))
            own = comparison.score(contrast.variant, row.target)
            expected = {
                "score": own.value, "low": own.low, "high": own.high, "difference": row.value,
                "diff_low": row.low, "diff_high": row.high, "diff_se": row.se, "p": row.p,
                "p_adjusted": row.p_adjusted, "ahead": row.ahead, "behind": row.behind,
                "ties": row.ties, "identical": row.identical, "of": row.pairs,
                "mdd": row.detectable, "undefined_replicates": row.undefined,
            }
            for field, value in expected.items():
                assert line[field] == ("" if value is None else repr(value)), field
            assert (line["verdict"], line["metric"]) == (row.verdict, row.metric)
    assert {variant for variant, _, _ in found} == {"single"}
    assert all(row["difference"] == "" and row["score"] for row in found.values())


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Cells of each table, without the line of dashes."""
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    split = [
        [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()] for table in tables
    ]
    for table in split:
        assert len({len(row) for row in table}) == 1, table
    return [[[cell.strip() for cell in row] for k, row in enumerate(t) if k != 1] for t in split]


def test_markdown(comparison, files):
    text = files["table.md"].decode()
    tables = markdown_tables(text)
    assert text.startswith("# Names & \\<signs\\>\n\nTrained on made-up labels.\n")
    assert all(len(table[0]) <= 7 for table in tables)
    columns = {name: (t, k) for t in tables if t[0][0] == "score" for k, name in enumerate(t[0])}
    assert {*comparison.variants, *POOLS} < set(columns)
    for name in (*comparison.variants, *POOLS):
        table, column = columns[name]
        assert table[3][0] == "Crystal system, balanced accuracy"
        for target, line in ((SPECS[0].name, table[1]), (AVERAGE, table[4])):
            own = comparison.score(name, target)
            expected = f"{score(own.value)}<br>[{score(own.low)}, {score(own.high)}]"
            assert line[column].startswith(expected)
    assert columns["few_2 & more"][0][2][columns["few_2 & more"][1]] == "–"
    assert "0<br>same model" in text
    assert "few_2 & more and single do not both have density, crystal_system." in text
    average = comparison.contrast("all").row(AVERAGE)
    headline = next(line for line in text.splitlines() if line.startswith("- **all**"))
    assert f"; {signed(average.value)} [{signed(average.low)}, {signed(average.high)}]" in headline
    assert "## Difference to random (mean)" in text
    assert "2 of the 3 seeds" in text
    facts = {row[0]: row[1] for row in tables[-1][1:]}
    assert facts["`commits`"] == "abc, def"
    assert facts["`versions.numpy`"] == np.__version__
    assert facts["`hardware`"] == r"2 cores \| no accelerator"


def test_latex_is_balanced_and_escaped(comparison, files):
    text = files["table.tex"].decode()
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 2
    for body in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns = len(re.match(r"\{([lr]+)\}", body)[1])
        rows = re.findall(r"^(.*) \\\\$", body, re.MULTILINE)
        assert len(rows) > 4
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == columns - 1
        assert [body.count(rule) for rule in (r"\toprule", r"\bottomrule")] == [1, 1]
    assert r"few\_2 \& more" in text
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert text.isascii()


def test_tex_escapes():
    assert tex("50 % of a_b & {c} # $1") == r"50 \% of a\_b \& \{c\} \# \$1"
    assert tex("a\\b~^") == r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}"
    assert tex("−0.1 R²") == r"$-$0.1 R$^2$"


def test_numbers():
    assert [signed(v) for v in (0.0123, -0.0123, 0.0, 1e-5, -1e-5, None)] == [
        "+0.012", "−0.012", "0.000", "0.000", "0.000", "–",
    ]
    assert [p_value(v) for v in (0.0123, 0.0002, 1.0, None)] == ["0.012", "< 0.001", "1.000", "–"]


def test_picture_is_1200_pixels_wide(files):
    pixels = matplotlib.image.imread(io.BytesIO(files["comparison.png"]))
    assert pixels.shape[1] == 1200
    assert pixels.std() > 0.05


def test_json(comparison, files):
    content = json.loads(files["comparison.json"])
    assert content["comparison"] == json.loads(json.dumps(comparison.to_json()))
    assert content["facts"]["hardware"] == FACTS["hardware"]


def test_same_comparison_gives_the_same_files(comparison, files, tmp_path):
    for path in write_comparison(tmp_path, comparison, FACTS):
        assert path.read_bytes() == files[path.name]


def test_missing_cells_and_a_single_seed_are_stated(tmp_path):
    cells = [c for c in design(("a", "b"), seeds=(7,)) if (c.variant, c.split) != ("b", "fold1")]
    some = compare(cells, SPECS[:3], "a", replicates=20, allow_missing=True)
    write_comparison(tmp_path, some, {})
    text = (tmp_path / "table.md").read_text()
    assert "Missing cells, left out on both sides of a difference: 'b', fold1, seed 7" in text
    assert "one seed is not resampled" in text
    assert "There is one seed" in text


def test_one_variant_has_nothing_to_be_compared_with(tmp_path):
    """Class targets alone: no average to lead with, no contrast to draw."""
    cells = [change_targets(cell, ["crystal_system"]) for cell in design(("a",))]
    alone = compare(cells, SPECS[2:], "a", replicates=20)
    assert len(write_comparison(tmp_path, alone, {})) == 5
    text = (tmp_path / "table.md").read_text()
    assert f"- **a**: {score(alone.scores[0].value)}" in text
