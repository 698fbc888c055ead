"""A run folder on another file system, named by a URL (s3://, gs://, hf://, sftp://, ...): a copy here that is worked in, and over there what is finished.

A step's folder goes over file by file with its manifest last, and counts by that manifest alone: one that is half over is not there. What comes back is held
against the manifest's hashes. Checkpoints of a training that is not done go over as they are written, so that another machine can go on from them. Any file
system that fsspec knows will do, with the package that fsspec asks for.
"""

import hashlib
import json
import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

from lorikeet.artifact import COMPLETE, MANIFEST, NOTES, Artifact, produced_files
from lorikeet.bases import cache_folder
from lorikeet.errors import BusyError, LorikeetError, MachineError, ModelError, RecipeError, first_line

Value = TypeVar("Value")
MARK = ".storage"
"""File in a copy that holds the URL of what it is a copy of."""
LOCK = ".lock"
CHECKPOINTS = f"{NOTES}/checkpoints"
UNSENT = ("checkpoints", "ray")
"""What of the notes stays here when a folder is finished."""
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "az"}
"""File systems that have buckets and no folders."""
BEAT, STALE = 15.0, 90.0
"""Seconds between two signs of life of whoever works in a run, and after how many without one it is taken for dead."""


def folder(text: str) -> Path:
    """The run folder that a command names: a path as it is, and for a URL the place of its copy here. ValueError for a URL without a place."""
    system, sign, place_there = text.partition("://")
    if not sign:
        return Path(text)
    name = PurePosixPath(place_there).name
    if not name:
        raise ValueError(f"{text} names no run folder: write for example s3://bucket/runs/first-aid")
    url = f"{system}://{place_there.rstrip('/')}"
    place = cache_folder() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    place.mkdir(parents=True, exist_ok=True)
    (place / MARK).write_text(url, encoding="utf-8")
    return place


def brought(directory: Path) -> Path:
    """A run folder with everything that is finished of it over there, where it is a copy."""
    if elsewhere := of(directory):
        elsewhere.fetch_all()
        if not any(path.name != MARK for path in directory.iterdir()):
            raise RecipeError(f"there is no run at {elsewhere.url}", "check the address; `lorikeet run RECIPE --out URL` makes one")
    return directory


def of(directory: Path) -> "Storage | None":
    """Where a folder is a copy of, if it is one, or lies in one."""
    for place in (directory, *directory.parents):
        if (place / MARK).is_file():
            url = (place / MARK).read_text(encoding="utf-8")
            return Storage(url, place) if place == directory else Storage(f"{url}/{directory.relative_to(place).as_posix()}", directory)
    return None


class Storage:
    """A run folder at a URL and its copy here. Raises MachineError where the file system is unknown, cannot be reached, or refuses."""

    def __init__(self, url: str, here: Path) -> None:
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MachineError(f"{url}: {first_line(error)}", "install what it names, for example: pip install 'lorikeet[storage]'") from error
        except ValueError as error:
            raise RecipeError(f"{url}: {first_line(error)}", "name a file system that fsspec knows: s3://, gs://, hf://, sftp://, ...") from error
        self.url, self.here = url, here

    def fetch(self, name: str) -> None:
        """Bring a finished folder here, if it is finished over there and not here yet. ModelError where a file is not what its manifest says."""
        if (self.here / name / MANIFEST).is_file():
            return
        text = self._try(lambda: self._read(f"{name}/{MANIFEST}"))
        if text is None:
            return
        part = self.here / f"{name}.fetched"
        shutil.rmtree(part, ignore_errors=True)
        for path in self._try(lambda: self._files(name)):
            self._get(f"{name}/{path}", part / path)
        listed = json.loads(text)["files"]
        if produced_files(part) != listed:
            shutil.rmtree(part)
            raise ModelError(f"{self.url}/{name} is not what its manifest says", f"remove that folder there, and give the same command: {name} is made again")
        shutil.rmtree(self.here / name, ignore_errors=True)
        part.rename(self.here / name)

    def fetch_all(self) -> None:
        """Bring everything here that is finished: folders of steps, and the loose files beside them."""
        found = self._try(lambda: self._files(""))
        names = {PurePosixPath(path).parts[0] for path in found if path.endswith(f"/{MANIFEST}")}
        for path in found:
            first = PurePosixPath(path).parts[0]
            if first not in names and not first.endswith(".part") and path != LOCK:
                self._get(path, self.here / path)
        for name in sorted(names):
            self.fetch(name)

    def fetch_notes(self, part: str) -> None:
        """Bring here the checkpoints of a training that was begun elsewhere, whole ones only."""
        found = self._try(lambda: self._files(f"{part}/{CHECKPOINTS}"))
        whole = {PurePosixPath(path).parts[0] for path in found if path.endswith(f"/{COMPLETE}")}
        for path in sorted(found, key=lambda path: path.endswith(f"/{COMPLETE}")):
            target = self.here / part / CHECKPOINTS / path
            if PurePosixPath(path).parts[0] in whole and not target.exists():
                self._get(f"{part}/{CHECKPOINTS}/{path}", target)

    def send(self, made: Artifact) -> None:
        """Take a finished folder over, its manifest last; what was kept of it while it was under way goes."""
        name = made.path.name
        files = [path.relative_to(made.path).as_posix() for path in sorted(made.path.rglob("*")) if path.is_file()]
        kept = [path for path in files if path != MANIFEST and not path.startswith(tuple(f"{NOTES}/{unsent}/" for unsent in UNSENT))]
        for path in [*kept, MANIFEST]:
            self._put(made.path / path, f"{name}/{path}")
        self._try(lambda: self._remove(f"{name}.part"))

    def send_loose(self) -> None:
        """Take over what lies beside the folders of steps: run.json, the report, rounds and their verdicts."""
        for path in sorted(self.here.rglob("*")):
            inside = path.relative_to(self.here)
            steps = any((self.here / parent / MANIFEST).is_file() or parent.name.endswith((".part", ".fetched")) for parent in inside.parents)
            if path.is_file() and not steps and not path.name.startswith(".") and not path.name.endswith(".tmp") and inside.parts[0] != "feedback":
                self._put(path, inside.as_posix())

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the run over there for this process; checkpoints go over as they are written. BusyError where somebody else works in it.

        Whoever has given no sign of life for STALE seconds is taken for dead.
        """
        ticket = uuid.uuid4().hex
        self._try(lambda: self._take(ticket))
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(BEAT):
                with suppress(MachineError):  # the work here does not hang on it; what lasts until the end is told there
                    self._try(lambda: self._fs.pipe_file(f"{self._root}/{LOCK}", self._sign(ticket)))
                    self._try(self._send_checkpoints)

        beating = threading.Thread(target=keep, daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            self._try(self._send_checkpoints)
            self._try(lambda: self._fs.rm_file(f"{self._root}/{LOCK}"))

    def _send_checkpoints(self) -> None:
        """Whole checkpoints that are not over there yet, each with its mark last; those that are gone here go there too."""
        for part in self.here.glob("*.part"):
            there = {PurePosixPath(path).parts[0] for path in self._files(f"{part.name}/{CHECKPOINTS}") if path.endswith(f"/{COMPLETE}")}
            here = {path.parent.name for path in part.glob(f"{CHECKPOINTS}/*/{COMPLETE}")}
            for name in sorted(here - there):
                place = part / CHECKPOINTS / name
                for path in sorted((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.name == COMPLETE):
                    if path.exists():
                        self._put(path, path.relative_to(self.here).as_posix())
            for name in there - here if here else ():
                self._remove(f"{part.name}/{CHECKPOINTS}/{name}")

    def _take(self, ticket: str) -> None:
        found = self._read(LOCK)
        holder = json.loads(found) if found else {}
        if found and time.time() - holder["seen"] < STALE and (holder["host"] != platform.node() or _runs(holder["process"])):
            raise BusyError(f"{holder['host']} works in {self.url}", "wait for it to end, or give this run another folder with --out")
        self._make(self._root)
        self._fs.pipe_file(f"{self._root}/{LOCK}", self._sign(ticket))
        if json.loads(self._read(LOCK) or "{}").get("ticket") != ticket:
            raise BusyError(f"somebody else has begun to work in {self.url} at this moment", "give the same command again")

    @staticmethod
    def _sign(ticket: str) -> bytes:
        return json.dumps({"ticket": ticket, "host": platform.node(), "process": os.getpid(), "seen": time.time()}).encode()

    def _get(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._try(lambda: self._fs.get_file(f"{self._root}/{name}", str(path)))

    def _put(self, path: Path, name: str) -> None:
        there = f"{self._root}/{name}"

        def put() -> None:
            self._make(there.rpartition("/")[0])
            self._fs.put_file(str(path), there)

        self._try(put)

    def _make(self, place: str) -> None:
        """Make a folder, on file systems that have any; a bucket is nobody's to make in passing: there a name that is mistyped has to be told."""
        if not _BUCKETS.intersection([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol):
            self._fs.makedirs(place, exist_ok=True)

    def _read(self, name: str) -> str | None:
        self._fs.invalidate_cache()
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}")).decode()
        except FileNotFoundError:
            return None

    def _files(self, name: str) -> list[str]:
        """Files below a folder over there, by their paths in it; none where it is not there."""
        self._fs.invalidate_cache()
        top = f"{self._root}/{name}".rstrip("/")
        found: list[str] = self._fs.find(top)
        beginning = top.lstrip("/") + "/"
        return [path.lstrip("/").removeprefix(beginning) for path in found if path.lstrip("/").startswith(beginning)]

    def _remove(self, name: str) -> None:
        self._fs.invalidate_cache()
        if self._fs.exists(f"{self._root}/{name}"):
            self._fs.rm(f"{self._root}/{name}", recursive=True)

    def _try(self, what: Callable[[], Value]) -> Value:
        """Do something over there; whatever the file system's client raises is told as the world's error."""
        try:
            return what()
        except LorikeetError:
            raise
        except Exception as error:  # each file system's client has errors of its own
            cure = "check the address, the credentials and the connection, and give the same command: what is finished here stays"
            raise MachineError(f"{self.url}: {first_line(error) or type(error).__name__}", cure) from error


def _runs(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))
