"""Colours and settings of every figure."""

# Okabe and Ito's colours, told apart under every common colour blindness; lines differ in dash too.
BLUE, VERMILION, GREY, INK = "#0072B2", "#D55E00", "#6b7280", "#1f2937"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.edgecolor": GREY,
    "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#e5e7eb", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "legend.frameon": False, "figure.constrained_layout.use": True, "savefig.dpi": 170,
    "text.parse_math": False,
}
