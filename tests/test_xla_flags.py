from importlib import metadata

import pytest

from densityjax import xla_flags

FLAG = "--xla_cpu_experimental_ynn_fusion_type="


@pytest.fixture
def jaxlib(monkeypatch):
    return lambda version: monkeypatch.setattr(metadata, "version", lambda name: version)


@pytest.mark.parametrize("version", ["0.10.2", "0.11.0", "0.12.0.1"])
def test_tried_releases_get_the_flag_beside_the_users(version, jaxlib):
    jaxlib(version)
    environ = {}
    assert xla_flags.set_defaults(environ) == environ["XLA_FLAGS"] == FLAG
    environ = {"XLA_FLAGS": "--xla_dump_to=/tmp"}
    assert xla_flags.set_defaults(environ) == environ["XLA_FLAGS"] == f"--xla_dump_to=/tmp {FLAG}"
    assert xla_flags.set_defaults(environ) == f"--xla_dump_to=/tmp {FLAG}"


@pytest.mark.parametrize("version", ["0.9.2", "0.13.0", "0.1.75", "1.10.0"])
def test_untried_releases_do_not(version, jaxlib):
    jaxlib(version)
    environ = {}
    assert xla_flags.set_defaults(environ) == ""
    assert environ == {}


def test_the_users_choice_stays(jaxlib):
    jaxlib("0.10.2")
    environ = {"XLA_FLAGS": f"{FLAG}LIBRARY_FUSION_TYPE_DOT"}
    assert xla_flags.set_defaults(environ) == f"{FLAG}LIBRARY_FUSION_TYPE_DOT"
    assert environ == {"XLA_FLAGS": f"{FLAG}LIBRARY_FUSION_TYPE_DOT"}
