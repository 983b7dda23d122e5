"""Texts in tables for people: no formula for a spreadsheet, and every text comes back."""

import pytest

from densityjax.runtime.csv_cells import protect, restore, safe_cell

FORMULAS = ["=1+1", "+1", "-1", "@SUM(1)", "=HYPERLINK(1)", "\t=1", "\r=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text(text):
    assert protect(text) == "'" + text


@pytest.mark.parametrize("text", [*FORMULAS, "'=1", "''-1", "'", "it's", "'quoted'", "mp-1", ""])
def test_every_text_comes_back(text):
    assert restore(protect(text)) == text


@pytest.mark.parametrize("text", ["mp-149", "Al2O3", "'quoted'", "", "a=b", "é"])
def test_other_texts_stay_as_they_are(text):
    assert protect(text) == restore(text) == text


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(1)", "-", "--1"])
def test_what_a_spreadsheet_would_compute_becomes_a_text(text):
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "value", ["", "mp-149", "a=b", "-3", "+1.5e-7", "-inf", -3, -0.5, None, True, "'x"]
)
def test_numbers_and_other_cells_stay(value):
    assert safe_cell(value) is value
