import pytest

from densityjax.runtime.csv_cells import safe_cell


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(1)", "-", "\t=1", "--1"])
def test_what_a_spreadsheet_would_compute_becomes_text(text):
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "value", ["", "mp-149", "a=b", "-3", "+1.5e-7", "-inf", -3, -0.5, None, True, "'x"]
)
def test_numbers_and_other_texts_stay(value):
    assert safe_cell(value) is value
