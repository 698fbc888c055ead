"""Ratings read back from disk, a line each, whatever happened to the writer (journal.py)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from lorikeet.conversation import Rating
from lorikeet.errors import DataError, first_line
from lorikeet.journal import RATINGS

OLD = "feedback.jsonl"
"""The file of chats that kept ratings before there were journals."""
TORN = "the last line is cut off"
"""Why a line is skipped that its writer did not live to end: it was never acknowledged."""
_LATER = ("id", "model_name", "model_sha256", "adapter_sha256", "persona", "mode", "app_version", "system", "comment", "correction", "rater")
"""Texts that a line may lack, as old files do, and `controls` beside them."""
_READER = TypeAdapter(Rating)


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
        return [path for path in (place / OLD, *sorted(place.glob(RATINGS))) if path.is_file()]
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
