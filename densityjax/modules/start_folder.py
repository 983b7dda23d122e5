"""A composed trunk as a folder that config.init takes."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densityjax.model.layers import ADAPTER
from densityjax.modules.hub import Module
from densityjax.results.manifest import write_manifest
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.files import replace_json
from densityjax.step.weights import save_weights

_TEXT = """# A start

A trunk that densityjax modules composed, for --config.init. Its heads are those of one module, on
another trunk: it predicts nothing.
"""


def carrier_of(modules: Sequence[Module], weights: Sequence[float], target: str) -> Module:
    """The module that lends scalers and heads: the heaviest that is of another target."""
    ranked = sorted(zip(weights, modules), key=lambda pair: -pair[0])
    others = [module for _, module in ranked if module.target != target]
    return (others or [ranked[0][1]])[0]


def write_start_folder(
    folder: Path, carrier: Module, trunk: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Writes the folder in one step, in the place of what is there.

    Args:
        carrier: whose scalers, descriptors, heads and autoencoder come with the trunk.
        trunk: parameters of the network without heads; with the adapters of the carrier, or with
          none.
        facts: JSON for model.json.
    """
    source = RunDirectory(carrier.path)
    heads = {name: own for name, own in carrier.parameters.items() if name not in carrier.trunk}
    state = carrier.model.state
    state = state.replace(ema_params={**state.ema_params, "model": {**trunk, **heads}})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        made = RunDirectory(Path(place) / folder.name)
        made.path.mkdir()
        for path in (
            source.facts, source.targets, source.statistics, source.descriptors,
            source.applicability, source.encoder,
        ):
            if path.exists():
                shutil.copyfile(path, made.path / path.name)
        config = source.read_config("model")
        if not _has_adapters(trunk):
            config["model"]["adapter"] = 0
        replace_json(made.config, config)
        save_weights(made.weights, [state])
        (made.path / "README.md").write_text(_TEXT, encoding="utf-8")
        write_manifest(made.path, facts)
        if folder.exists():
            shutil.rmtree(folder)
        made.path.rename(folder)


def _has_adapters(trunk: Mapping[str, Any]) -> bool:
    return any(ADAPTER in module for module in trunk.values())
