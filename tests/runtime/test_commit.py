"""The commit is densityjax's own, whatever repository lies around it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from densityjax.runtime.commit import BUILT_FROM, clone_commit, running_commit

IDENTITY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b"}


def git(folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True,
        env=os.environ | IDENTITY,
    )
    return result.stdout.strip()


def repository(folder: Path, *files: str) -> str:
    """Makes a repository that tracks these files; returns its commit."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content\n")
    git(folder, "init", "--quiet")
    if files:
        git(folder, "add", *files)
    git(folder, "commit", "--quiet", "--allow-empty", "--message=first")
    return git(folder, "rev-parse", "HEAD")[:12]


def test_a_clone_tells_its_commit_and_whether_it_was_changed(tmp_path):
    commit = repository(tmp_path, "densityjax/__init__.py")
    package = tmp_path / "densityjax"
    assert clone_commit(package) == running_commit(package) == commit
    (package / "__init__.py").write_text("changed\n")
    assert clone_commit(package) == f"{commit}-dirty"


@pytest.mark.parametrize(
    "place",
    [
        "venv/lib/python3.12/site-packages/densityjax",  # an environment in another project
        "third_party/densityjax/densityjax",  # a copy of the code that the project tracks
        "densityjax",  # a copy at its top that it does not track
    ],
)
def test_a_repository_around_it_is_not_asked(place, tmp_path):
    tracked = [f"{place}/__init__.py"] if place.startswith("third_party") else []
    repository(tmp_path, "README", *tracked)
    package = tmp_path / place
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    assert clone_commit(package) == ""
    assert re.fullmatch(r"unknown, version \S+", running_commit(package))
    (package / BUILT_FROM).write_text("0123456789ab\n")
    assert running_commit(package) == "0123456789ab"


def test_the_repository_of_a_git_hook_is_not_asked(tmp_path, monkeypatch):
    commit = repository(tmp_path / "ours", "densityjax/__init__.py")
    repository(tmp_path / "other", "README")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert clone_commit(tmp_path / "ours" / "densityjax") == commit


def test_without_git_it_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert running_commit(tmp_path).startswith("unknown, version ")
