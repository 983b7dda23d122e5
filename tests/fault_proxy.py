"""An HTTP server in front of another one that cuts, shortens, delays or refuses its answers."""

import contextlib
import http.client
import http.server
import threading
import time
from collections.abc import Iterator


class _Handler(http.server.BaseHTTPRequestHandler):
    """Forwards one connection's requests; `server.proxy` says with which faults."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        fault = self.server.proxy.take_fault(self.command, self.path, self.headers.get("Range"))
        with contextlib.suppress(OSError):  # a client that gave up
            self._answer(fault)

    do_HEAD = do_GET

    def _answer(self, fault: str | None) -> None:
        if fault == "slow":
            time.sleep(self.server.proxy.silence)
        if fault == "refuse":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, headers, body = self._forward()
        promised = headers["Content-Length"]
        if fault in ("cut", "short"):
            body = body[: len(body) // 2]
        if fault == "short":
            promised = str(len(body))
        if fault == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(status)
        for name, value in headers.items():
            if name not in ("Content-Length", "Transfer-Encoding", "Connection"):
                self.send_header(name, value)
        if promised is not None:
            self.send_header("Content-Length", promised)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if fault == "cut":
            self.close_connection = True

    def _forward(self) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body that the server behind answers."""
        server = http.client.HTTPConnection("127.0.0.1", self.server.proxy.port)
        headers = {name: value for name, value in self.headers.items() if name != "Connection"}
        server.request(self.command, self.path, headers=headers)
        answer = server.getresponse()
        body = answer.read()
        server.close()
        return answer.status, answer.headers, body

    def log_message(self, *args) -> None:
        pass


class FaultProxy:
    """Forwards GET and HEAD to a server on loopback, with faults for some paths.

    Attributes:
        faults: path -> faults of its next GETs, each used once: 'cut' (half of the promised bytes,
            then the connection closes), 'short' (half of them, as if that were all), 'flip' (one
            byte changed), 'slow' (silence for `silence` seconds), 'refuse' (503), None.
        requests: (method, path, Range header or None) of all requests so far.
    """

    silence = 1.5  # seconds

    def __init__(self, port: int):
        self.port = port
        self.faults: dict[str, list[str | None]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self._lock = threading.Lock()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.proxy = self
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take_fault(self, method: str, path: str, wanted: str | None) -> str | None:
        """Notes a request for the bytes `wanted` and takes the fault that is next for its path."""
        with self._lock:
            self.requests.append((method, path, wanted))
            faults = self.faults.get(path) if method == "GET" else None
            return faults.pop(0) if faults else None

    @classmethod
    @contextlib.contextmanager
    def in_front_of(cls, port: int) -> Iterator["FaultProxy"]:
        """Runs a proxy in a thread for the duration of a `with` block."""
        proxy = cls(port)
        thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.server.shutdown()
            proxy.server.server_close()
