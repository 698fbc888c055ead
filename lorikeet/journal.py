"""Lines of JSON that stay once they are acknowledged, each written whole and synced: ratings, picks, the owner's decisions. A file belongs to one process."""

import json
import os
import secrets
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import TypeAdapter, ValidationError

from lorikeet.errors import MachineError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kept = TypeVar("Kept")
RATINGS = "ratings-*.jsonl"
"""Files of ratings."""


def read_back(folder: Path, pattern: str, reader: TypeAdapter[Kept]) -> list[Kept]:
    """What the lines of a folder's journals hold; one that holds none is passed over, as the last one of a writer that was killed."""
    found = []
    for path in sorted(folder.glob(pattern)):
        for line in path.read_bytes().splitlines():
            try:
                found.append(reader.validate_json(line))
            except ValidationError:
                continue
    return found


class Journal:
    """Where this process writes ratings: one new file in the folder, begun at the first rating, readable by its owner alone.

    Threads may share it. Used after a fork it begins a file of its own. pattern: the file's name, with * for what makes it the only one.
    """

    def __init__(self, folder: Path, pattern: str = RATINGS) -> None:
        self._folder, self._pattern = folder, pattern
        self._files: dict[int, _File] = {}

    def record(self, rating: "DataclassInstance") -> None:
        """Write a Rating, or another dataclass, down; when this returns it is on the disk. What was changed is recorded again with the same id.

        MachineError where it cannot be kept: the folder cannot be written, or the disk is full.
        """
        line = json.dumps(asdict(rating), ensure_ascii=False).encode(errors="replace") + b"\n"  # half a surrogate pair, which is no character, becomes "?"
        file = self._files.setdefault(os.getpid(), _File(self._folder, self._pattern))
        try:
            file.append(line)
        except OSError as error:
            raise MachineError(f"the rating was not kept: {self._folder} cannot be written: {error.strerror}",
                               "free some space there, or let the folder be written, and rate the reply again") from error  # fmt: skip

    def close(self) -> None:
        """Close the file; a later rating begins another one."""
        if file := self._files.pop(os.getpid(), None):
            file.close()


class _File:
    """A file of one process, with the lock between its threads."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern = folder, pattern
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._torn = False

    def append(self, line: bytes) -> None:
        """One write and one sync of the whole line; OSError where either fails. After a line that was torn the next one begins afresh."""
        with self._lock:
            if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
                self._let_go()  # somebody has removed the file, and what is written to it would be lost
            if self._descriptor is None:
                self._descriptor, self._torn = _new_file(self._folder, self._pattern), False
            whole = b"\n" + line if self._torn else line
            self._torn = True
            if os.write(self._descriptor, whole) < len(whole):
                raise OSError(None, "only a part of the line was taken")
            self._torn = False
            os.fsync(self._descriptor)

    def close(self) -> None:
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def _new_file(folder: Path, pattern: str) -> int:
    """A descriptor of a new file whose name no other has, here or on another machine: the Hub takes whole files, and a name twice would be a loss."""
    folder.mkdir(parents=True, exist_ok=True)
    name = pattern.replace("*", f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(6)}-{os.getpid()}")
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _sync_folder(folder)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Bring a new file's name to the disk, as syncing the file itself does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
