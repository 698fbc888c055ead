"""Blind comparisons: which of two models a reader preferred without knowing their names. Names, files and the pick are kept; what was asked is not."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from lorikeet import statistics
from lorikeet.journal import Journal, read_back

PATTERN = "picks-*.jsonl"


@dataclass(frozen=True)
class Pick:
    """models: the two by name and by sha256 of their files (of the adapter where it is one), in alphabetical order of the names. better: one of the names,
    or empty for neither. timestamp: ISO 8601, in UTC.
    """

    timestamp: str
    persona: str
    models: tuple[tuple[str, str], tuple[str, str]]
    better: str


_READER = TypeAdapter(Pick)


def read(folder: Path) -> list[Pick]:
    """The picks of a folder, without lines that hold none, as the last one of a writer that was killed."""
    return read_back(folder, PATTERN, _READER)


def _told(names: Sequence[str], picks: Counter[str]) -> str:
    """Of those who saw a difference, how many prefer which, with a 95 % interval."""
    first, second = names
    decided, same = picks[first] + picks[second], f"{picks['']} saw no difference"
    if not decided:
        return same
    share = statistics.share(picks[first], decided)
    shown = "a difference is shown" if share.low > 0.5 or share.high < 0.5 else "no difference is shown yet"
    return f"{first} was preferred to {second} in {picks[first]} of {decided} ({share.low:.0%} to {share.high:.0%}), {same}; {shown}"


class Tally:
    """The picks of one assistant's readers, kept in a folder where there is one, and else for as long as the process lives. Threads may share it."""

    def __init__(self, persona: str, folder: Path | None = None) -> None:
        self._persona = persona
        self._picks = [pick for pick in read(folder) if pick.persona == persona] if folder else []
        self._journal = Journal(folder, PATTERN) if folder else None
        self._lock = threading.Lock()

    def add(self, models: Sequence[tuple[str, str]], better: str) -> None:
        """models: name and sha256 of the two. better: one of the names, or empty for neither. MachineError where it cannot be kept."""
        first, second = sorted(models)
        pick = Pick(datetime.now(UTC).isoformat(), self._persona, (first, second), better)
        if self._journal:
            self._journal.record(pick)
        with self._lock:
            self._picks.append(pick)

    def told(self, models: Sequence[tuple[str, str]]) -> str:
        """The result of a pair so far; files of one name with other bytes are another pair."""
        pair = sorted(models)
        with self._lock:
            picks = Counter(pick.better for pick in self._picks if pick.models == tuple(pair))
        return _told([name for name, _ in pair], picks) if picks else "nobody has compared them yet"
