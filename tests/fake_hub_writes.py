"""A stand-in for the Hugging Face Hub on a loopback port that takes commits: one data set, as far as the real client asks for it."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlparse

from fake_json import send_json
from ports import stand_in

TOKEN = "hf_the-secret-of-this-test"
Answer = tuple[int, dict[str, Any]]


@dataclass
class WritableHub:
    """name: owner/name; token: the one that may write; there, private: of the data set; fails: statuses that the next requests of a step (create, info,
    preupload, commit) are answered with; slow: seconds that the answers to a step take.

    files: what was committed, by path; commits: the paths of each; asked: the steps that were asked for; made: what the data set was asked to be made as.
    """

    name: str
    token: str = TOKEN
    there: bool = False
    private: bool = True
    fails: dict[str, list[int]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, path: str, token: str, body: bytes) -> Answer:
        """Status and document for a request."""
        here = f"/api/datasets/{self.name}"
        steps = {
            "/api/repos/create": "create",
            here: "info",
            f"{here}/revision/main": "info",
            f"{here}/preupload/main": "preupload",
            f"{here}/commit/main": "commit",
        }
        step = steps.get(path, path)
        self.asked.append(step)
        time.sleep(self.slow.get(step, 0))
        if token != self.token:
            return 401, {"error": f"{token} is not known here"}
        if waiting := self.fails.get(step):
            return waiting.pop(0), {"error": "not now"}
        if step == "create":
            return self._create(json.loads(body))
        if step == "info" and self.there:
            return 200, {"id": self.name, "sha": "c0ffee" + "0" * 34, "private": self.private, "tags": [], "siblings": []}
        if step == "preupload":
            wanted = [file["path"] for file in json.loads(body)["files"]]
            return 200, {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False, "oid": self._oid(p)} for p in wanted]}
        if step == "commit":
            return self._commit([json.loads(line) for line in body.splitlines()])
        return 404, {"error": "not found"}

    def _create(self, wanted: dict[str, Any]) -> Answer:
        self.made.append(wanted)
        status, self.there = 409 if self.there else 200, True
        return status, {"url": f"{self.endpoint}/datasets/{self.name}"}

    def _oid(self, path: str) -> str | None:
        content = self.files.get(path)
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() if content is not None else None

    def _commit(self, lines: list[dict[str, Any]]) -> Answer:
        added = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
        self.files.update(added)
        self.commits.append(sorted(added))
        return 200, {"commitUrl": f"{self.endpoint}/datasets/{self.name}/commit/1", "commitOid": "1" * 40, "success": True}


@contextmanager
def serving_writes(hub: WritableHub, port: int = 0) -> Iterator[WritableHub]:
    """The hub, listening at `hub.endpoint`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = hub.answer(urlparse(self.path).path, self.headers.get("Authorization", "").removeprefix("Bearer "), body)
            send_json(self, status, document)

        def do_POST(self) -> None:
            self.do_GET()

    with stand_in(Handler, port) as hub.endpoint:
        yield hub
