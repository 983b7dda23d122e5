"""Models of the Hugging Face hub: 'hf:owner/name@commit' -> a folder of the hub's cache."""

import json
import re
from pathlib import Path

from densityjax.runtime.errors import UserError

PREFIX = "hf:"
_MANIFEST = "model.json"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"hf:({_PART}/{_PART})@([0-9a-f]{{40}})")
# Of a model: arrays and text, nothing that runs. No name is a pattern or leaves the folder.
_FILE = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*"
                   r"\.(?:json|npz|safetensors|md|txt|csv)")
_MOST = 2**30  # bytes that the files of a model have together
_INSTALL = "pip install 'densityjax[hub]'"


def fetch(name: str) -> Path:
    """The folder of a model of the hub, downloaded if the cache lacks it.

    Files come to the cache of huggingface_hub (HF_HOME), from where they are read without a
    network the next time. Fetched are the model's `model.json` and the files that it names, and
    only what holds arrays or text. Who opens the folder compares hashes
    (`results.manifest.read_manifest`).

    Args:
        name: 'hf:owner/name@commit' with the 40 hexadecimal digits of a commit. A branch or tag
          names another model tomorrow; shorter commits the hub does not take.

    Raises:
        UserError: the name is none, huggingface_hub is not installed, or there is no network, no
          such repository, commit or file.
    """
    repository, commit = parse(name)
    manifest = _download(name, repository, commit, _MANIFEST)
    for file in _files_of(manifest, name):
        _download(name, repository, commit, file)
    return manifest.parent


def parse(name: str) -> tuple[str, str]:
    """('owner/name', commit) of 'hf:owner/name@commit'.

    Raises:
        UserError: it is no such name, or names a branch.
    """
    if found := _NAME.fullmatch(name):
        return found[1], found[2]
    repository, _, revision = name.partition("@")
    expected = "expected hf:owner/name@commit, with the 40 hexadecimal digits of a commit"
    if not revision:
        raise UserError(f"{name}: {expected}: the page of the model lists them under 'History'")
    if not re.fullmatch(rf"hf:{_PART}/{_PART}", repository):
        raise UserError(f"{name}: {expected}: '{repository.removeprefix(PREFIX)}' is no owner/name")
    reason = "a branch or a tag, which may be another model tomorrow"
    if re.fullmatch(r"[0-9a-fA-F]{7,}", revision):
        reason = f"{len(revision)} digits, or not in lower case"
    raise UserError(f"{name}: {expected}: '{revision}' is {reason}")


def _files_of(manifest: Path, name: str) -> list[str]:
    """The files that model.json names."""
    try:
        files = dict(json.loads(manifest.read_text(encoding="utf-8"))["files"])
        total = sum(int(own["bytes"]) for own in files.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: its {_MANIFEST} is not that of a densityjax model") from error
    for file in files:
        if not _FILE.fullmatch(file):
            raise UserError(f"{name}: its {_MANIFEST} names {file!r}, which no model has")
    if total > _MOST:
        raise UserError(f"{name}: {total} bytes; expected at most {_MOST}, this reader's limit")
    return sorted(files)


def _download(name: str, repository: str, commit: str, file: str) -> Path:
    """The file in the cache."""
    try:
        # An extra, which takes half a second.
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise UserError(f"{name}: huggingface_hub is not installed: {_INSTALL}") from error
    try:
        return Path(hf_hub_download(
            repository, file, revision=commit, library_name="densityjax"
        ))
    except errors.HFValidationError as error:
        raise UserError(f"{name}: '{repository}' is no owner/name of the hub") from error
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name}: the owner must admit you: ask on the model's page, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: the hub has no model {repository}, or it is private: `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name}: {repository} has no commit {commit}") from error
    except errors.LocalEntryNotFoundError as error:  # neither reached nor in the cache
        raise UserError(
            f"{name}: the hub cannot be reached, and {file} is not in its cache: check the "
            "network, or copy the model's folder and name that"
        ) from error
    except errors.EntryNotFoundError as error:
        what = "is no densityjax model, it has" if file == _MANIFEST else "has"
        raise UserError(f"{name}: {repository} {what} no {file} at that commit") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise UserError(f"{name}: {file} could not be fetched: {error}") from error
