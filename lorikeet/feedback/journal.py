"""Ratings on disk, a line each: written so that what was acknowledged stays, and read back whatever happened to the writer.

A file belongs to one process. Nothing is sent anywhere here; that is sync.py's.
"""

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter, ValidationError

from lorikeet.conversation import Rating
from lorikeet.errors import DataError, MachineError, first_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PATTERN = "ratings-*.jsonl"
OLD = "feedback.jsonl"
"""The file of chats that kept ratings before there were journals."""
TORN = "the last line is cut off"
"""Why a line is skipped that its writer did not live to end: it was never acknowledged."""
_LATER = ("id", "model_name", "model_sha256", "adapter_sha256", "persona", "mode", "app_version", "system", "comment", "correction", "rater")
"""Texts that a line may lack, as old files do, and `controls` beside them."""
_READER = TypeAdapter(Rating)


class Journal:
    """Where this process writes ratings: one new file in the folder, begun at the first rating, readable by its owner alone.

    Threads may share it. Used after a fork it begins a file of its own. pattern: the file's name, with * for what makes it the only one.
    """

    def __init__(self, folder: Path, pattern: str = PATTERN) -> None:
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


class Skipped(NamedTuple):
    """A line that holds no rating: in which file, which line (1 is the first), and why."""

    file: str
    line: int
    why: str


class Ratings(NamedTuple):
    """What was read: one rating an id, the last, in the order of time; and the lines that hold none, those with TORN among them."""

    ratings: tuple[Rating, ...]
    skipped: tuple[Skipped, ...]


def read(place: Path) -> Ratings:
    """The ratings of a file, or of a folder's journals and its old feedback.jsonl. DataError where there is nothing, or it cannot be read."""
    found: list[Rating] = []
    skipped: list[Skipped] = []
    for path in _files(place):
        try:
            for one in _lines(path):
                if isinstance(one, Rating):
                    found.append(one)
                else:
                    skipped.append(one)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}", "let it be read by you, or name another file") from error
    last = {rating.id: rating for rating in sorted(found, key=instant)}
    return Ratings(tuple(sorted(last.values(), key=instant)), tuple(skipped))


def instant(rating: Rating) -> datetime:
    """When it was given, in UTC; an old time without an offset counts as UTC."""
    given = datetime.fromisoformat(rating.timestamp)
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return [path for path in (place / OLD, *sorted(place.glob(PATTERN))) if path.is_file()]
    if not place.is_file():
        raise DataError(f"{place} does not exist: no reply has been rated yet, or the ratings lie elsewhere", "name the folder or the file that holds them")
    return [place]


def _lines(path: Path) -> Iterator[Rating | Skipped]:
    """What every line holds that is not blank. Only a line feed ends a line."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                yield Skipped(path.name, number, f"not JSON: {first_line(error)}" if raw.endswith(b"\n") else TORN)
                continue
            try:
                yield _rating(row, hashlib.sha256(raw.strip()).hexdigest()[:32])
            except (ValueError, OverflowError) as error:
                yield Skipped(path.name, number, _why(error))


def _rating(row: object, name: str) -> Rating:
    """The rating of a line; `name` is its id where it brings none. ValueError or OverflowError where it is none."""
    if not isinstance(row, dict):
        raise ValueError("a JSON object has to stand here")
    json.dumps(row, ensure_ascii=False).encode()  # refuses half a surrogate pair, which could be neither shown nor learned
    there = {key: value for key, value in row.items() if value is not None}
    rating = _READER.validate_python({**dict.fromkeys(_LATER, ""), "controls": {}, **there})
    instant(rating)
    turn = rating.liked_index[0]
    if not 0 <= turn < len(rating.chat_history):
        raise ValueError(f"liked_index: {turn} is no exchange of chat_history, which has {len(rating.chat_history)}")
    return replace(rating, id=rating.id or name, chat_history=rating.chat_history[: turn + 1])


def _why(error: ValueError | OverflowError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return first_line(error)
