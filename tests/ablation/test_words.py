"""Numbers and names as a reader sees them."""

import pytest

from densityjax.ablation.words import (
    ahead_text,
    chunks,
    mean_text,
    ordered_names,
    p_text,
    plural,
    score_interval,
    signed,
    signed_interval,
    target_labels,
)


def test_numbers():
    assert [signed(v) for v in (0.0123, -0.0123, 0.0, 1e-5, -1e-5, None)] == [
        "+0.012", "−0.012", "0.000", "0.000", "0.000", "–",
    ]
    assert [p_text(v) for v in (0.0123, 0.0002, 1.0, None)] == ["0.012", "< 0.001", "1.000", "–"]
    assert (score_interval(-0.1, 0.2), score_interval(None, None)) == ("[−0.100, 0.200]", "")
    assert (signed_interval(-0.1, 0.2), signed_interval(None, None)) == ("[−0.100, +0.200]", "")
    assert [mean_text(v) for v in (3.0, 1.5, None)] == ["3", "1.50", "–"]


def test_counts():
    assert [plural(1, "target"), plural(2, "target")] == ["1 target", "2 targets"]
    assert [plural(1, "loss", "losses"), plural(0, "loss", "losses")] == ["1 loss", "0 losses"]
    assert ahead_text("win", 2, 3) == "2 of 3 ahead"
    assert ahead_text("same model", 0, 3) == "same model"


def test_the_reference_comes_first_and_averages_last(comparison):
    assert ordered_names(comparison) == [
        "single", "random 0", "random 1", "random 2", "all", "few_2 & more", "random (mean)"
    ]
    assert list(target_labels(comparison)) == [
        "bulk_modulus", "density", "crystal_system", "average", "average without identities"
    ]


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9, 13])
def test_chunks_are_small_and_even(count):
    parts = list(chunks(range(count)))
    assert [item for part in parts for item in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= 4
    assert max(sizes) - min(sizes) <= 1
