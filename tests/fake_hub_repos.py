"""A stand-in for the Hugging Face Hub on a loopback port: accounts, repositories of every kind, large files by the LFS protocol, commits, and its troubles."""

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

LARGE = (".gguf", ".safetensors", "tokenizer.json")
Answer = tuple[int, Any]


@dataclass
class Repo:
    """What a repository holds: content by path, which of them are large, and how often it was committed to."""

    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    commits: int = 0
    made: dict[str, Any] = field(default_factory=dict)

    def tree(self) -> list[dict[str, Any]]:
        """The files as the Hub lists them."""
        found = []
        for path, content in self.files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
            if path in self.large:
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            found.append(entry)
        return found


@dataclass
class Hub:
    """tokens: role (write, read) of each; user, orgs: whose they are. fails: statuses that the next requests of a step are answered with (0 cuts the line);
    retry_after: seconds that a 429 asks for. spoils: a path whose content arrives changed.

    repos: by kind and name; stored: large files by sha256; asked: the steps that were asked for; uploads: how many large files were brought up.
    """

    user: str = "me"
    orgs: tuple[str, ...] = ("lab",)
    tokens: dict[str, str] = field(default_factory=lambda: {"hf_may-write-this-in-tests": "write", "hf_may-read-this-in-tests": "read"})
    fails: dict[str, list[int]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    retry_after: str = "0"
    spoils: str = ""
    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    uploads: int = 0

    def step_of(self, method: str, path: str) -> str:
        """The step of a request, by which trouble is named."""
        if path == "/api/whoami-v2":
            return "whoami"
        if path == "/api/repos/create":
            return "create"
        if path == "/api/validate-yaml":
            return "card"
        if path.startswith("/lfs/"):
            return "upload"
        if "/xet-write-token/" in path:
            return "xet"
        for part in ("preupload", "commit", "tree", "revision"):
            if f"/{part}/" in path:
                return part
        return "batch" if path.endswith("/info/lfs/objects/batch") else "info"

    def answer(self, method: str, path: str, token: str, body: bytes) -> Answer:
        """Status and document for a request."""
        step = self.step_of(method, path)
        self.asked.append(step)
        time.sleep(self.slow.get(step, 0))
        if waiting := self.fails.get(step):
            return waiting.pop(0), {"error": "not now"}
        if step == "upload":
            self.stored[path.rpartition("/")[2]] = body
            self.uploads += 1
            return 200, {}
        if token not in self.tokens:
            return 401, {"error": f"Invalid credentials: {token}"}
        if step == "card":
            return 200, {"errors": [], "warnings": []}
        if step == "whoami":
            return 200, {"type": "user", "name": self.user, "orgs": [{"name": org} for org in self.orgs],
                         "auth": {"accessToken": {"role": self.tokens[token], "displayName": "test"}}}  # fmt: skip
        if step == "create":
            wanted = json.loads(body)
            owner = wanted.get("organization") or self.user
            key = f"{wanted.get('type', 'model')}s/{owner}/{wanted['name']}"
            status = 409 if key in self.repos else 200
            self.repos.setdefault(key, Repo(made=wanted))
            return status, {"url": f"{self.endpoint}/{key}"}
        return self._of_repo(step, path, body)

    def _of_repo(self, step: str, path: str, body: bytes) -> Answer:
        key = self._key(path)
        repo = self.repos.get(key)
        if repo is None:
            return 404, {"error": "Repository not found"}
        if step == "preupload":
            wanted = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular", "shouldIgnore": False, "oid": None}
                                   for f in wanted]}  # fmt: skip
        if step == "batch":
            asked = json.loads(body)["objects"]
            new = [{**o, "actions": {"upload": {"href": f"{self.endpoint}/lfs/{o['oid']}"}}} if o["oid"] not in self.stored else o for o in asked]
            return 200, {"transfer": "basic", "objects": new}
        if step == "commit":
            return self._commit(repo, key, [json.loads(line) for line in body.splitlines()])
        if step == "tree":
            return 200, repo.tree()
        return 200, {
            "id": key.partition("/")[2],
            "sha": f"{repo.commits:040x}",
            "private": False,
            "tags": [],
            "siblings": [{"rfilename": p} for p in repo.files],
        }

    def _key(self, path: str) -> str:
        if path.endswith(".git/info/lfs/objects/batch"):
            parts = path.removesuffix(".git/info/lfs/objects/batch").strip("/").split("/")
            return "/".join(parts if len(parts) == 3 else ["models", *parts])
        return "/".join(path.removeprefix("/api/").split("/")[:3])

    def _commit(self, repo: Repo, key: str, lines: list[dict[str, Any]]) -> Answer:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.stored:
                    return 400, {"error": "the content of a large file is missing"}
                repo.files[value["path"]] = self.stored[value["oid"]]
                repo.large.add(value["path"])
            elif line["key"] == "deletedFile":
                del repo.files[value["path"]]
            if value.get("path") == self.spoils != "":
                repo.files[value["path"]] += b" "
        repo.commits += 1
        return 200, {
            "commitUrl": f"{self.endpoint}/{key.removeprefix('models/')}/commit/{repo.commits:040x}",
            "commitOid": f"{repo.commits:040x}",
            "success": True,
        }


@contextmanager
def hub_on_a_port(hub: Hub) -> Iterator[Hub]:
    """The hub, listening at `hub.endpoint`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = hub.answer(self.command, urlparse(self.path).path, self.headers.get("Authorization", "").removeprefix("Bearer "), body)
            if not status:
                self.close_connection = True
                self.connection.close()
                return
            if status == 429:
                self.send_response(429)
                self.send_header("Retry-After", hub.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            send_json(self, status, document)

        do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815  # the server's own names

    with stand_in(Handler) as hub.endpoint:
        yield hub
