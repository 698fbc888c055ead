"""A stand-in for the Hugging Face Hub on a loopback port: one data set at one commit, as far as the real client asks for it."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """name: owner/name; files: content by path; asked: every path that was requested; sent: bytes of files that were taken."""

    name: str
    files: Mapping[str, bytes]
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)
    sent: int = 0

    def answer(self, path: str, ranged: str | None) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers for a request."""
        self.asked.append(path)
        if found := re.fullmatch(rf"/datasets/{self.name}/resolve/{COMMIT}/(.+)", path):
            content = self.files.get(found[1])
            return self._part(content, ranged) if content is not None else _missing()
        if path in (f"/api/datasets/{self.name}", f"/api/datasets/{self.name}/revision/main", f"/api/datasets/{self.name}/revision/{COMMIT}"):
            told = {"id": self.name, "sha": COMMIT, "private": False, "tags": [], "siblings": [{"rfilename": f} for f in self.files]}
            return 200, json.dumps(told).encode(), {}
        if path.startswith(f"/api/datasets/{self.name}/tree/{COMMIT}"):
            return self._listed(path.partition(COMMIT)[2].strip("/"))
        return _missing()

    def _listed(self, folder: str) -> tuple[int, bytes, dict[str, str]]:
        under = {f.removeprefix(f"{folder}/") if folder else f: len(c) for f, c in self.files.items() if f.startswith(f"{folder}/" if folder else "")}
        entries = {name.split("/")[0]: ("directory", 0) if "/" in name else ("file", size) for name, size in under.items()}
        listed = [{"type": kind, "path": "/".join(filter(None, (folder, name))), "size": size, "oid": "0" * 40} for name, (kind, size) in entries.items()]
        return (200, json.dumps(listed).encode(), {}) if listed else _missing()

    def _part(self, content: bytes, ranged: str | None) -> tuple[int, bytes, dict[str, str]]:
        head = {"ETag": f'"{"0" * 40}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if not ranged:
            return 200, content, head
        first, last = ranged.removeprefix("bytes=").split("-")
        begin, end = int(first), min(int(last or len(content)), len(content) - 1)
        return 206, content[begin : end + 1], {**head, "Content-Range": f"bytes {begin}-{end}/{len(content)}"}


def _missing() -> tuple[int, bytes, dict[str, str]]:
    return 404, b"{}", {"X-Error-Code": "EntryNotFound"}


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub, listening at `hub.endpoint`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            status, body, head = hub.answer(unquote(urlparse(self.path).path), self.headers.get("Range"))
            self.send_response(status)
            for name, value in {**head, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                hub.sent += len(body[start : start + (1 << 16)])

        def do_HEAD(self) -> None:
            self.do_GET()

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # the client has enough
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
