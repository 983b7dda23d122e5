"""Against a stand-in for the hub on this machine, which answers what huggingface_hub asks."""

import hashlib
import json
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from densityjax.results.hub import fetch, parse
from densityjax.results.manifest import ModelFolderError, read_manifest, write_manifest
from densityjax.results.pretrained import find_model
from densityjax.runtime.errors import UserError

constants = pytest.importorskip("huggingface_hub.constants")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Models by 'owner/name' -> file -> content, at COMMIT."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of /owner/name/resolve/commit/file."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/resolve/" not in self.path:  # what huggingface_hub asks once a day of itself
            return self._error(404, "")
        owner, name, _, commit, file = urllib.parse.unquote(self.path).strip("/").split("/", 4)
        self.server.asked.append(f"{self.command} {file}")
        model = self.server.models.get(f"{owner}/{name}")
        if model is None:
            return self._error(404, "RepoNotFound")
        if "gated" in model:
            return self._error(403, "GatedRepo")
        if "broken" in model:
            return self._error(500, "")
        if commit != COMMIT:
            return self._error(404, "RevisionNotFound")
        if file not in model:
            return self._error(404, "EntryNotFound")
        content = model[file]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    do_HEAD = do_GET

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Hub]:
    """The hub with the model 'crystal/tiny', in whose repository is more than the model's files."""
    folder = tmp_path / "model"
    (folder / "member0").mkdir(parents=True)
    (folder / "member0" / "network.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    write_manifest(folder, {"name": "tiny"})
    with Hub() as found:
        found.models["crystal/tiny"] = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()
        } | {"README.md": b"card", "run_me.py": b"raise SystemExit"}
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE",
            found.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between its five tries
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        found.shutdown()


def test_the_files_that_the_model_names_are_fetched_once(server):
    folder = find_model(f"hf:crystal/tiny@{COMMIT}")
    assert read_manifest(folder)["name"] == "tiny"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"model.json", "config.json", "member0/network.safetensors"}
    count = len(server.asked)
    assert count
    assert fetch(f"hf:crystal/tiny@{COMMIT}") == folder
    assert len(server.asked) == count  # of the cache


def test_a_file_that_is_not_the_exported_one_is_refused(server):
    server.models["crystal/tiny"]["config.json"] = b"[]"
    with pytest.raises(ModelFolderError, match="is not the file that was exported"):
        read_manifest(fetch(f"hf:crystal/tiny@{COMMIT}"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "the hub has no model crystal/other, or it is private"),
        ({"gated": b""}, "the owner must admit you"),
        ({"broken": b""}, "the hub cannot be reached"),
        ({}, "is no densityjax model, it has no model.json"),
        ({"model.json": b"{}"}, "its model.json is not that of a densityjax model"),
        ({"model.json": b"\xff"}, "its model.json is not that of a densityjax model"),
        *(
            ({"model.json": json.dumps({"files": {name: {"bytes": 1}}}).encode()}, "no model has")
            for name in ("run.py", "../a.json", "/a.json", "*.json", "a/../b.json", "x.pkl",
                         ".json", "a\n.json")
        ),
        ({"model.json": b'{"files": {"a.npz": {"bytes": 2000000000}}}'}, "expected at most"),
        ({"model.json": b'{"files": {"a.npz": {"bytes": 2}}}'}, "has no a.npz at that commit"),
    ],
)
def test_no_such_model(server, files, message):
    if files is not None:
        server.models["crystal/other"] = files
    with pytest.raises(UserError, match=message) as raised:
        fetch(f"hf:crystal/other@{COMMIT}")
    assert str(raised.value).startswith(f"hf:crystal/other@{COMMIT}: ")
    assert "\n" not in str(raised.value)


def test_no_such_commit(server):
    with pytest.raises(UserError, match=f"crystal/tiny has no commit {COMMIT[::-1]}"):
        fetch(f"hf:crystal/tiny@{COMMIT[::-1]}")


def test_no_network(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"the hub cannot be reached, and model\.json is not"):
        fetch(f"hf:crystal/tiny@{COMMIT}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.shutdown()
    server.server_close()  # nothing listens any more
    with pytest.raises(UserError, match=r"the hub cannot be reached, and model\.json is not"):
        fetch(f"hf:crystal/tiny@{COMMIT}")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hf:crystal/tiny@main", "'main' is a branch or a tag, which may be another"),
        ("hf:crystal/tiny@v1.0", "is a branch or a tag"),
        ("hf:crystal/tiny@0123456", "'0123456' is 7 digits"),
        (f"hf:crystal/tiny@{COMMIT.upper()}", "not in lower case"),
        (f"hf:crystal/tiny@{COMMIT}\n", "is a branch or a tag"),
        ("hf:crystal/tiny", "lists them under 'History'"),
        ("hf:crystal/tiny@", "lists them under 'History'"),
        (f"hf:tiny@{COMMIT}", "'tiny' is no owner/name"),
        (f"hf:a/../b@{COMMIT}", "is no owner/name"),
        (f"hf:../b@{COMMIT}", "is no owner/name"),
        (f"hf:a/b c@{COMMIT}", "is no owner/name"),
    ],
)
def test_names_that_are_none(name, reason):
    with pytest.raises(UserError, match=reason):
        parse(name)


def test_a_name_that_the_hub_refuses(server):
    with pytest.raises(UserError, match="is no owner/name of the hub"):
        fetch(f"hf:crystal/ti--ny@{COMMIT}")


def test_the_extra_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'densityjax\[hub\]'"):
        fetch(f"hf:crystal/tiny@{COMMIT}")
