"""Which commit of densityjax runs: of its clone, or the one that a wheel was built from.

Imports the standard library alone: setup.py runs this file where nothing is installed yet.
"""

import os
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
BUILT_FROM = "built_from.txt"  # setup.py writes it into the package that it builds


def running_commit(package: Path = PACKAGE) -> str:
    """Commit of the code in `package`, with '-dirty' where its clone has uncommitted changes.

    An installed package names the commit that it was built from, or 'unknown, version 0.1.0'.
    """
    return clone_commit(package) or _built_from(package) or f"unknown, version {_version()}"


def clone_commit(package: Path = PACKAGE) -> str:
    """Commit of the clone that `package` is in; '' where it is in no clone of densityjax.

    A clone of densityjax has the package at its top and tracks it. The repository of another
    project may lie around an environment or a copy of this code, and is not asked.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != package.parent:
        return ""
    if not _git(package, "ls-files", "--", "__init__.py"):
        return ""
    return _git(package, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _built_from(package: Path) -> str:
    try:
        return (package / BUILT_FROM).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _version() -> str:
    try:
        return metadata.version("densityjax")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    """What git prints in a folder; '' where it fails or is not installed."""
    # A hook of another repository sets GIT_DIR, which would answer for that repository.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
