"""Which of a server's slots answers a conversation: the one that still holds it, so that only what is new has to be read; else the one longest idle.

No model is touched here. llama.cpp's own choice takes the slot of whoever has the same system turn, though others are free, and keeps states of slots in
memory without the adapter that they were read with; so the choice is ours, and a slot is never read on from another adapter's state.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from lorikeet.conversation import Message
from lorikeet.engine import Prompt
from lorikeet.errors import LorikeetError

HEARTBEAT = 0.25
"""Seconds between two looks of somebody who waits, in which he can leave."""


class Busy(LorikeetError):  # noqa: N818
    """So many are waiting that another is not let in. seconds: after which a place may be free."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"busy: too many questions are waiting; a place is free in about {seconds} seconds", "ask again then")
        self.seconds = seconds


@dataclass
class _Slot:
    """What a slot holds: the conversation that it read and wrote last, and the adapter by which."""

    talk: tuple[Message, ...] = ()
    adapter: int = -1
    used: float = 0.0
    busy: bool = False


@dataclass(frozen=True)
class Place:
    """A slot that was given out. reuse: whether what it holds is of the same adapter and may be read on from."""

    number: int
    reuse: bool


class Slots:
    """count: conversations answered at a time; waiting: how many more may wait for one. Safe between threads; who came first is served first."""

    def __init__(self, count: int, waiting: int) -> None:
        self._slots = [_Slot() for _ in range(count)]
        self._most = waiting
        self._line: deque[object] = deque()
        self._change = threading.Condition()
        self._seconds = 5.0

    @property
    def busy(self) -> int:
        return sum(slot.busy for slot in self._slots)

    @property
    def waiting(self) -> int:
        return len(self._line)

    def take(self, prompt: Prompt, adapter: int) -> Generator[Place | None]:
        """None for every HEARTBEAT of waiting, and then a place, to be given back. Busy where the line is full; whoever is closed meanwhile leaves it."""
        ticket = object()
        with self._change:
            if self.busy >= len(self._slots) and len(self._line) >= self._most:
                raise Busy(self._forecast())
            self._line.append(ticket)
        place: Place | None = None
        try:
            while place is None:
                with self._change:
                    if self._line[0] is ticket and self.busy < len(self._slots):
                        place = self._choose(tuple(prompt), adapter)
                    else:
                        self._change.wait(HEARTBEAT)
                if place is None:
                    yield None
        finally:
            with self._change:
                self._line.remove(ticket)
                self._change.notify_all()
        yield place

    def give_back(self, place: Place, talk: Sequence[Message], seconds: float) -> None:
        """The slot holds this conversation now; `seconds` it took, from which waiting times are foretold."""
        with self._change:
            slot = self._slots[place.number]
            slot.talk, slot.used, slot.busy = tuple(talk), time.monotonic(), False
            self._seconds += (seconds - self._seconds) / 8
            self._change.notify_all()

    def _choose(self, prompt: tuple[Message, ...], adapter: int) -> Place:
        free = [(number, slot) for number, slot in enumerate(self._slots) if not slot.busy]
        number, slot = max(free, key=lambda pair: (_common(pair[1].talk, prompt) if pair[1].adapter == adapter else 0, -pair[1].used))
        place = Place(number, reuse=slot.adapter == adapter)
        slot.busy, slot.adapter = True, adapter
        return place

    def _forecast(self) -> int:
        return max(1, round(self._seconds * (len(self._line) + 1) / len(self._slots)))


def _common(held: tuple[Message, ...], prompt: tuple[Message, ...]) -> int:
    """Characters that both begin with, by whole turns; 0 where the first question is another, which makes it another conversation."""
    shared = 0
    for mine, theirs in zip(held, prompt, strict=False):
        if mine != theirs:
            break
        shared += 1
    asked = any(message.role == "user" for message in prompt[:shared])
    return sum(len(message.content) for message in prompt[:shared]) if asked else 0
