"""How far the nodes are, told where the command was given: one actor gathers what their steps say, and the crew takes it from there to the screen.

Ray's own log of the nodes stays out of sight, in its session folder.
"""

import time
from typing import Any

from lorikeet.errors import LorikeetError
from lorikeet.progress import Progress

EVERY = 1.0
"""Seconds between two tellings of how far one step is."""
Told = tuple[str, int, int, str]
"""A call of Progress.step; of Progress.say where `total` is 0."""


class Relay:
    """Gathers what is told until it is taken. An actor of the cluster."""

    def __init__(self) -> None:
        self._told: list[Told] = []
        self._errors: dict[str, LorikeetError] = {}

    def fail(self, step: str, error: LorikeetError) -> None:
        """Keep an error of ours that ended a worker of a training: Ray Train would tell it as one among its own."""
        self._errors.setdefault(step, error)

    def failure(self, step: str) -> LorikeetError | None:
        return self._errors.pop(step, None)

    def tell(self, told: Told) -> None:
        self._told.append(told)

    def take(self) -> list[Told]:
        taken, self._told = self._told, []
        return taken


class Remote:
    """Progress of a step on a node, by way of the relay."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        self._last = 0.0

    def step(self, what: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        if now - self._last >= EVERY or done == total:
            self._last = now
            self._relay.tell.remote((what, done, total, detail))

    def say(self, line: str) -> None:
        self._relay.tell.remote((line, 0, 0, ""))


def passed_on(told: list[Told], progress: Progress) -> None:
    """Tell what was taken from the relay."""
    for what, done, total, detail in told:
        if total:
            progress.step(what, done, total, detail)
        else:
            progress.say(what)
