"""The long frame holds every number of a comparison; a pivot puts each in its place."""

import csv
import dataclasses
import io

from densityjax.ablation.compare import compare
from densityjax.ablation.frame import FIELDS, difference_rows, long_frame, pivot, score_rows
from tests.ablation.designs import SPECS, change_targets


def test_csv_has_every_number(comparison, frame):
    """In full: the text of the file gives the same float."""
    rows = list(csv.DictReader(io.StringIO(frame.to_csv(index=False))))
    assert tuple(rows[0]) == FIELDS
    found = {(row["variant"], row["reference"], row["target"]): row for row in rows}
    assert len(found) == len(rows)
    for contrast in comparison.contrasts:
        for row in contrast.rows:
            line = found.pop((contrast.variant, contrast.reference, row.target))
            own = comparison.score(contrast.variant, row.target)
            expected = {
                "score": own.value, "low": own.low, "high": own.high, "se": own.se,
                "num_targets": own.num_targets, "difference": row.value, "diff_low": row.low,
                "diff_high": row.high, "diff_se": row.se, "p": row.p, "p_adjusted": row.p_adjusted,
                "ahead": row.ahead, "behind": row.behind, "ties": row.ties,
                "identical": row.identical, "of": row.pairs, "mdd": row.detectable,
                "diff_num_targets": row.num_targets, "undefined_replicates": row.undefined,
            }
            for field, value in expected.items():
                assert (float(line[field]) if line[field] else None) == value, field
            assert (line["verdict"], line["metric"]) == (row.verdict, row.metric)
            assert line["ahead"].isdecimal()  # counts stay whole numbers
    assert {variant for variant, _, _ in found} == {"single"}
    assert all(row["difference"] == "" and row["score"] for row in found.values())


def test_pivot_keeps_the_order_of_the_targets(cells):
    """Although the first variant lacks targets that come before its average."""
    few = [change_targets(c, ["bulk_modulus"]) if c.variant == "single" else c for c in cells]
    few = [dataclasses.replace(c, truth={n: c.truth[n] for n in c.prediction}) for c in few]
    rows = score_rows(long_frame(compare(few, SPECS, "single", replicates=10)))
    table = pivot(rows, ["single", "all"], lambda row: f"{row.variant} {row.target}", missing="-")
    assert list(table.index) == [
        "bulk_modulus", "density", "crystal_system", "average", "average without identities"
    ]
    assert list(table.columns) == ["single", "all"]
    assert list(table.loc["density"]) == ["-", "all density"]


def test_pivot_has_each_difference_in_its_place(comparison, frame):
    names = ["few_2 & more", "all"]
    rows = difference_rows(frame, "single")
    table = pivot(rows, names, lambda row: repr(row.difference), missing="-")
    for name in names:
        for target in table.index:
            row = comparison.contrast(name).row(target)
            assert table.loc[target, name] == (repr(row.value) if row else "-")
    alone = pivot(rows, names[:1], lambda row: "x", missing="-")
    assert list(alone.index) == ["bulk_modulus", "average"]
