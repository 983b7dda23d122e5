"""Settings under which a model compiles in seconds; what tests of whole runs train."""

from typing import Any

SMALL_MODEL: dict[str, Any] = {
    "view.size": 8, "view.spacing": 0.9, "view.evaluation_views": 2, "model.widths": (4,),
    "model.blocks": (0,), "model.attention": (), "model.dilations": (1,), "model.head_width": 4,
}
