"""Numbers as they are printed, and file names made of names of targets."""

import pytest

from densityjax.report.text import duration, file_stem, number, score


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (float("nan"), "–"), (0.0, "0"), (18.8149, "18.8"), (-0.0123456, "−0.0123"),
        (1660.4, "1,660"), (0.0009996, "0.00100"), (1.5e-7, "1.50×10⁻⁷"), (9.999, "10.0"),
        (12, "12"), (183240, "183,240"), (99999.6, "100,000"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_score_and_duration():
    assert (score(-0.0001), score(-0.05), score(None)) == ("0.000", "−0.050", "–")
    assert [duration(s) for s in (3.21, 59.7, 571, 7321)] == [
        "3.21 s", "1 min 00 s", "9 min 31 s", "2 h 02 min",
    ]


@pytest.mark.parametrize("name", ["bulk_modulus", "密度", "_2"])
def test_a_plain_name_is_the_file_name(name):
    assert file_stem(name) == name


def test_any_other_name_becomes_one_short_file_name_of_its_own():
    names = ["a/b", "a\\b", "../x", ".hidden", "", "a b", "x" * 101, "x" * 250, "密" * 200, "a\0"]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    assert all(len(stem.encode()) <= 113 for stem in stems)
    assert not any(set(stem) & set("/\\\0") or stem.startswith(".") for stem in stems)
