"""Writes a comparison of variants as Markdown, CSV, LaTeX, JSON and a plot."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densityjax.ablation.forest import to_png
from densityjax.ablation.frame import long_frame
from densityjax.ablation.latex import to_latex
from densityjax.ablation.markdown import to_markdown
from densityjax.ablation.results import Comparison
from densityjax.runtime.files import replaced


def write_comparison(folder: Path, comparison: Comparison, facts: Mapping[str, Any]) -> list[Path]:
    """Writes table.md, table.csv, table.tex, comparison.png and comparison.json.

    Args:
        folder: made where it is missing; each file is replaced in one go.
        comparison: of `compare.compare`.
        facts: where the numbers come from, shown as a table (nested mappings get dotted keys,
          lists commas). 'title', a string, heads the page; 'lines', strings, follow as paragraphs.

    Returns:
        Paths of the files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frame = long_frame(comparison)
    content = {"comparison": comparison.to_json(), "facts": dict(facts)}
    files = {
        "table.md": to_markdown(comparison, frame, facts).encode(),
        "table.csv": frame.to_csv(index=False, lineterminator="\n").encode(),
        "table.tex": to_latex(comparison, frame).encode(),
        "comparison.png": to_png(comparison),
        # str: a fact may be anything, such as a path.
        "comparison.json": json.dumps(content, indent=1, ensure_ascii=False, default=str).encode()
        + b"\n",
    }
    for name, data in files.items():
        with replaced(folder / name) as partial:
            partial.write_bytes(data)
    return [folder / name for name in files]
