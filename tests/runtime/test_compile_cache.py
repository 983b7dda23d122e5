"""The compilation cache: where it lies, the user's choice, what is not written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process
CODE = """
import json, logging, pathlib, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
import densityjax
from densityjax.runtime import compile_cache
import jax, jax.numpy as jnp
path = compile_cache.enable()
with compile_cache.unwritten():
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
before = [] if path is None else [p.name for p in path.glob("*-cache")]
def kept(x):
    return x * 5 - 2
value = jax.jit(kept)(jnp.ones(7)).tolist()
after = [] if path is None else [p.name for p in path.glob("*-cache")]
print(json.dumps({"path": path and str(path), "before": before, "after": after, "value": value}))
"""


def _run(home: Path, **environ: str) -> tuple[dict, str]:
    inherited = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=inherited | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | environ,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_default_directory_holds_what_is_to_be_written(tmp_path: Path):
    found, errors = _run(tmp_path)
    assert Path(found["path"]).parent == tmp_path / ".cache" / "densityjax" / "jax"
    assert not any("lambda" in name for name in found["before"])
    assert any("kept" in name for name in found["after"])
    again, errors_again = _run(tmp_path)
    assert again["value"] == found["value"] == [3.0] * 7
    assert sorted(again["after"]) == sorted(found["after"])
    assert "Warning" not in errors + errors_again


def test_the_users_directory_and_refusal_stay(tmp_path: Path):
    found, _ = _run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert found["path"] == str(tmp_path / "mine")
    assert found["after"]
    found, _ = _run(tmp_path / "other", JAX_ENABLE_COMPILATION_CACHE="false")
    assert found["path"] is None
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"])
def test_a_directory_that_cannot_be_written_ends_nothing(name: str, tmp_path: Path):
    (tmp_path / "file").touch()  # no directory can be made below it, not even by root
    found, errors = _run(tmp_path, **{name: str(tmp_path / "file" / "cache")})
    assert found["path"] is None
    assert found["value"] == [3.0] * 7
    assert errors.count("No compilation cache") == 1
