import jax
import jax.numpy as jnp
import pytest

from densityjax.step.compiler_options import COMPILE_FAST, OLD_EMITTERS, compiled, on_cpu

LEVEL = {"xla_backend_optimization_level": 2}


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    assert on_cpu(LEVEL, OLD_EMITTERS) == LEVEL | OLD_EMITTERS
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert on_cpu(LEVEL, OLD_EMITTERS) == OLD_EMITTERS
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert on_cpu(LEVEL, OLD_EMITTERS) == {}


@pytest.mark.parametrize("known", [True, False])
def test_a_release_without_the_choice_of_emitters_compiles_all_the_same(monkeypatch, known):
    """As 0.12: it refuses the option."""
    options = COMPILE_FAST | OLD_EMITTERS
    lowered, asked = jax.jit(lambda x: 2 * x).lower(jnp.ones(3)), []

    class Lowered:
        def compile(self, options):
            asked.append(options)
            if "xla_cpu_use_fusion_emitters" in options and not known:
                raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option: 'x'")
            return lowered.compile({})

    assert compiled(Lowered(), options)(jnp.ones(3)).tolist() == [2, 2, 2]
    assert asked == ([options] if known else [options, COMPILE_FAST])


def test_other_errors_are_told():
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_option_of_this_name"):
        compiled(jax.jit(lambda x: x).lower(1.0), {"no_option_of_this_name": 1})
