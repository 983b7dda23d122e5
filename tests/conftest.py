"""Tests run on the CPU with eight simulated devices, which must be settled before JAX starts."""

import os

_COUNT = "--xla_force_host_platform_device_count"
os.environ["JAX_PLATFORMS"] = "cpu"
if _COUNT not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_COUNT}=8".strip()

import densityjax  # noqa: E402, F401  adds its own XLA flag, so it precedes jax

# isort: split
import jax  # noqa: E402
import pytest  # noqa: E402


def pytest_sessionstart() -> None:
    """Fails at once, with the reason, when something started JAX too early."""
    if jax.device_count() != 8:
        pytest.exit(f"Tests need 8 simulated CPU devices, found {jax.devices()}", returncode=4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts slow tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
