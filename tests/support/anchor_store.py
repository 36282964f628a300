"""An outside store of audit anchors as docs/audit.md describes it: it keeps what it was given, and never lets go."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class AnchorStore:
    """A write-once store on loopback; a context manager. `failing` answers 503 to everything for a while."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.asked = 0
        self.failing = False
        self._kept: dict[tuple[str, int], str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/anchors"

    def keep(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and answer: 201 for a new anchor, 200 for the same again, 409 for another under its number."""
        self.asked += 1
        if self.failing:
            return 503, {"error": "unavailable"}
        line = body.decode()
        given = json.loads(line)
        key = (given["kind"], given["sequence"])
        if self._kept.setdefault(key, line) != line:
            return 409, {"error": "conflict"}
        if line in self.lines:
            return 200, {"receipt": f"again-{self.lines.index(line)}"}
        self.lines.append(line)
        return 201, {"receipt": f"kept-{len(self.lines) - 1}"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["content-type"] == "application/json"
                status, answer = store.keep(self.rfile.read(int(self.headers["content-length"])))
                self._answer(status, json.dumps(answer).encode())

            def do_GET(self) -> None:
                self._answer(200, "".join(f"{line}\n" for line in store.lines).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
