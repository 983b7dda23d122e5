"""Compiled programs kept on disk between runs, by JAX's persistent compilation cache."""

import contextlib
import hashlib
import logging
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax
from jax._src import config as jax_config

log = logging.getLogger("densityjax")

_MAX_BYTES = 2**30  # least recently used entries go first


def enable(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Switches the cache on, before the first compilation of a command.

    The user's own choice stays: JAX_COMPILATION_CACHE_DIR is another directory, and
    JAX_ENABLE_COMPILATION_CACHE=false means none.

    Returns:
        The directory; None without a cache, which is also where it cannot be written.
    """
    if not jax.config.jax_enable_compilation_cache:
        return None
    directory = jax.config.jax_compilation_cache_dir
    ours = not directory
    if ours or "://" not in directory:  # not a bucket, which JAX opens by itself
        try:
            if ours:
                root = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
                directory = str(root / "densityjax" / "jax" / _processor())
            Path(directory).mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=directory, prefix=".writable-"):
                pass
        except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home directory
            log.info("No compilation cache: %s", error)
            jax.config.update("jax_enable_compilation_cache", False)
            return None
    jax.config.update("jax_compilation_cache_dir", directory)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in environ:
        # A run makes dozens of small programs, which take longer together than the large one.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if ours and "JAX_COMPILATION_CACHE_MAX_SIZE" not in environ:
        # A bound also makes JAX lock the directory, so that processes do not read half a file.
        jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
    return Path(directory)


def unwritten() -> contextlib.AbstractContextManager:
    """While it lasts, what this thread compiles is not written to the cache.

    JAX has no public switch for one program; the setting behind it is one for each thread.
    """
    return jax_config.persistent_cache_min_compile_time_secs(float("inf"))


def _processor() -> str:
    """Names the kind of processor: CPU programs of one may end in an illegal instruction elsewhere,
    and a home directory is often shared by several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        lines = sorted({line for line in lines if line.startswith(("model name", "flags"))})
    except OSError:
        lines = [platform.processor()]
    digest = hashlib.sha256("\n".join([platform.machine(), *lines]).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"
