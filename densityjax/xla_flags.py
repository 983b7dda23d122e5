"""XLA flags that the CPU kernels need, set before JAX starts."""

import os
from collections.abc import MutableMapping
from importlib import metadata

# With the default, XLA's CPU compiler moves a convolution whose consumer it can fuse into a
# fusion that runs 8 times slower (measured on two cores of an AMD EPYC with JAX 0.10.2).
_FLAG = "--xla_cpu_experimental_ynn_fusion_type="
# XLA aborts the process on a flag it does not know, so the flag is given only to tried releases.
TESTED_JAXLIB = ("0.10.", "0.11.", "0.12.")


def set_defaults(environ: MutableMapping[str, str] = os.environ) -> str:
    """Adds the flag to `XLA_FLAGS` unless the user set it or this jaxlib is untried.

    Returns:
        The value of `XLA_FLAGS` afterwards.
    """
    flags = environ.get("XLA_FLAGS", "")
    known = metadata.version("jaxlib").startswith(TESTED_JAXLIB)
    if known and _FLAG.rstrip("=") not in flags:
        flags = f"{flags} {_FLAG}".strip()
        environ["XLA_FLAGS"] = flags
    return flags
