"""Modules that cannot be used together are refused in one message."""

from types import SimpleNamespace

import numpy as np
import pytest

from densityjax.configs import elastic
from densityjax.modules.hub import HubError, Module, check_agreement, check_config, read_hub, usable


def _module(
    target: str, start: str = "1", field: float = 0.0, encoder: str = "", **changes
) -> Module:
    config = elastic.get_config()
    config.update_from_flattened_dict(changes)
    statistics = SimpleNamespace(field_mean=np.full(2, field), field_std=np.ones(2))
    model = SimpleNamespace(
        config=config, statistics=statistics, specs=(),
        encoder=SimpleNamespace(sha256=encoder) if encoder else None,
    )
    return Module(target, None, target, {"start": start}, model)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model.widths": (8, 64)}, "modules c11 and c44 have other trunks, views or inputs:\n"
         "  config.model.widths: [32, 64] in c11, [8, 64] in c44"),
        ({"model.adapter": 4}, "config.model.adapter: 0 in c11, 4 in c44"),
        ({"view.spacing": 0.4}, "config.view.spacing: 0.3 in c11, 0.4 in c44"),
        ({"start": "2"}, "modules c11 and c44 began from other starts"),
        ({"encoder": "3"}, "modules c11 and c44 see densities through other autoencoders"),
        ({"field": 1.0}, "modules c11 and c44 scale the density in other ways"),
    ],
)
def test_modules_that_do_not_fit(other, message):
    with pytest.raises(HubError) as error:
        check_agreement([_module("c11"), _module("c44", **other)])
    assert message in str(error.value)
    check_agreement([_module("c11"), _module("c44")])


def test_a_config_of_another_trunk(tmp_path):
    config = elastic.get_config()
    config.view.spacing = 0.4
    with pytest.raises(HubError, match=r"take its values: --config.view.spacing=0.3"):
        check_config(config, [_module("c11")], tmp_path)


def test_modules_that_determine_the_target_are_left_out(caplog):
    modules = [_module(name) for name in ("bulk_modulus", "c11", "c12", "band_gap", "c44")]
    left = [module.target for module in usable(modules, "bulk_modulus")]
    assert left == ["band_gap", "c44"]
    assert "Module c12 is left out: it determines bulk_modulus (K = (c11 + 2" in caplog.text
    assert len(usable(modules, "bulk_modulus", keep=True)) == 5
    assert "Module bulk_modulus is used all the same" in caplog.text
    # One of two that are needed gives nothing away.
    assert len(usable([_module("c11"), _module("c44")], "bulk_modulus")) == 2
    with pytest.raises(HubError, match="every module of the hub determines c11"):
        usable([_module("c11")], "c11")


def test_no_hub(tmp_path):
    with pytest.raises(HubError, match="no such folder: densityjax modules train"):
        read_hub(tmp_path / "none")
    with pytest.raises(HubError, match="has no module"):
        read_hub(tmp_path)
