"""An HTTP server that answers as the Materials Project's API does, for the client to talk to.

What it does with a request is what emmet-api's operators do (fbe8656): ids in either spelling are
brought to the stored one, fields are projected, dotted or not, pages have 100 to 1000 documents.
"""

import contextlib
import copy
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlparse

from emmet.core.mpid import AlphaID

KEY = "k" * 32
VERSION = "2026.08.01"
GNOME = "gnome_r2scan_statics"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(path.query).items()}
        place = path.path.strip("/").removeprefix("materials/")
        status, body = self.server.api.answer(place, query, self.headers.get("x-api-key"))
        data = json.dumps(body).encode()
        with contextlib.suppress(OSError):  # a client that gave up
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class StandIn:
    """The server; tests may change its documents and make it fail.

    Attributes:
        documents: by collection, as `entries.documents` makes them.
        failures: collection -> what its next requests meet, each used once: a status, or seconds
            of silence below 100.
        requests: (collection, query) of all requests so far.
        knows_dotted: whether parts of fields can be asked for.
        url: of the API.
    """

    def __init__(self, documents: dict[str, list[dict[str, Any]]]):
        self.documents = documents
        self.failures: dict[str, list[float]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.knows_dotted = True
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.api, self.server.daemon_threads = self, True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def answer(self, place: str, query: dict[str, str], key: str | None) -> tuple[int, Any]:
        """Status and body for a request."""
        if place == "heartbeat":
            return 200, {
                "db_version": VERSION, "access_controlled_batch_ids": [GNOME], "version": "0.87.3",
            }
        if key != KEY:
            return 403, {"message": "Invalid authentication credentials"}
        self.requests.append((place, query))
        failure = self.failures[place].pop(0) if self.failures.get(place) else 0
        if failure >= 100:
            return int(failure), {"detail": "made to fail"}
        time.sleep(failure)
        return self._find(place, query)

    def _find(self, place: str, query: dict[str, str]) -> tuple[int, Any]:
        limit, skip = int(query.get("_limit", 100)), int(query.get("_skip", 0))
        if limit > 1000:
            return 422, {"detail": "the limit is 1000"}
        found = [doc for doc in self.documents[place] if _matches(doc, query)]
        fields = query["_fields"].split(",")
        if not self.knows_dotted:
            fields = [field for field in fields if "." not in field]
        page = [_project(doc, fields) for doc in found[skip : skip + limit]]
        return 200, {"data": copy.deepcopy(page), "meta": {"total_doc": len(found)}}


def _matches(document: dict[str, Any], query: dict[str, str]) -> bool:
    batch = (document.get("builder_meta") or {}).get("batch_id")
    has = document.get("has_props") or {}
    wanted = {
        "material_ids": lambda text: document["material_id"] in _stored_ids(text, "mp"),
        "task_ids": lambda text: document["task_id"] in _stored_ids(text, None),
        "thermo_types": lambda text: document["thermo_type"] in text.split(","),
        "has_props": lambda text: all(has.get(name) for name in text.split(",")),
        "deprecated": lambda text: document["deprecated"] == (text == "True"),
        "batch_id_not_eq": lambda text: batch != text,
    }
    unknown = {name for name in query if name[0] != "_"} - set(wanted)
    assert not unknown, unknown
    return all(wanted[name](text) for name, text in query.items() if name[0] != "_")


def _stored_ids(text: str, prefix: str | None) -> set[str]:
    """As emmet.api.utils.process_identifiers does."""
    numbers = (identifier.split("-")[-1].strip() for identifier in text.split(","))
    return {str(AlphaID(number, prefix=prefix, padlen=8)) for number in numbers}


def _project(document: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields:
        head, _, rest = field.partition(".")
        if head in document:
            value = document[head]
            found[head] = found.get(head, {}) | _project(value or {}, [rest]) if rest else value
    return found


@contextlib.contextmanager
def serve(documents: dict[str, list[dict[str, Any]]]) -> Iterator[StandIn]:
    """Runs the server in a thread for the duration of a `with` block."""
    api = StandIn(documents)
    threading.Thread(target=api.server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()
