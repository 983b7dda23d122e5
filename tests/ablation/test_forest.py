"""The plot has the width it says, a panel per contrast, and something in each."""

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from densityjax.ablation.forest import PIXELS, to_png
from densityjax.report.style import BLUE, VERMILION


@pytest.fixture(scope="module")
def pixels(comparison):
    return matplotlib.image.imread(io.BytesIO(to_png(comparison)))


def test_picture_has_its_width_and_content(pixels):
    assert pixels.shape[1] == PIXELS
    assert pixels.std() > 0.05


def test_wins_and_losses_have_their_colours(comparison, pixels):
    """Blue and vermilion are drawn where there are such rows, and only there."""
    verdicts = {row.verdict for contrast in comparison.contrasts for row in contrast.rows}
    assert "loss" in verdicts
    for verdict, colour in (("win", BLUE), ("loss", VERMILION)):
        inside = pixels[40:, :, :3]  # below the legend, which shows all
        assert np.isclose(inside, to_rgb(colour), atol=2e-3).all(-1).any() == (verdict in verdicts)
