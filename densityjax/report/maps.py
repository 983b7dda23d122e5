"""The maps of a run, where `densityjax explain --report` has left them."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from densityjax.report.text import number, with_unit
from densityjax.results.run_directory import RunDirectory, RunDirectoryError, field_value
from densityjax.targets import TargetSpec

_KEYS = ("target", "kind", "id", "formula", "picture", "truth", "prediction", "method", "said_by")


@dataclasses.dataclass(frozen=True)
class MapPicture:
    """A map of one material as a data URI, with what it shows.

    Attributes:
        formula, id: of the material.
        caption: target, kind, numbers.
    """

    formula: str
    id: str
    uri: str
    caption: str

    @property
    def alt(self) -> str:
        """The picture in words."""
        return f"Map over the cell of {self.formula}: {self.caption}"


def map_pictures(run: RunDirectory, specs: Sequence[TargetSpec]) -> list[MapPicture]:
    """Those of maps/maps.json, in its order; none where there is no such file.

    Raises:
        RunDirectoryError: the file, or a picture that it names, is missing or damaged.
    """
    index = run.maps / "maps.json"
    if not index.exists():
        return []
    remedy = "run densityjax explain --report again"
    known, found = {spec.name: spec for spec in specs}, []
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
        for entry in entries:
            values = {key: field_value(entry, index, key) for key in _KEYS}
            picture = run.maps / values["picture"]
            if not picture.resolve().is_relative_to(run.maps.resolve()):
                raise ValueError(f"{values['picture']} lies elsewhere")
            encoded = base64.b64encode(picture.read_bytes()).decode("ascii")
            if values["target"] in known:
                caption = _caption(known[values["target"]], values, entry)
                found.append(MapPicture(
                    str(values["formula"]), str(values["id"]), f"data:image/png;base64,{encoded}",
                    caption,
                ))
    except (OSError, ValueError, TypeError) as error:
        raise RunDirectoryError(f"{index} is damaged ({error}): {remedy}") from error
    return found


def _caption(spec: TargetSpec, values: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    text = f"{spec.label}, {values['kind']} prediction: "
    if spec.kind == "classification":
        text += f"{entry.get('class')}, is {values['truth']}. "
    else:
        text += (
            f"{number(float(values['prediction']))}, is "
            f"{with_unit(number(float(values['truth'])), spec)}. "
        )
    if entry.get("completeness_error") is not None:
        text += f"The map misses {100 * float(entry['completeness_error']):.2g} % of the change "
        text += f"from {entry['reference_is']}; through descriptors passes "
        text += f"{number(float(entry['through_descriptors']))}. "
    return text + str(values["said_by"])
