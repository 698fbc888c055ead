"""The one small interface through which a stage says how far it is; the command line decides how that looks."""

import sys
import time
from typing import Protocol


class Progress(Protocol):
    """What a stage may call. It never prints."""

    def step(self, what: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` units of `what`; detail is a few words such as the loss or the time left."""

    def say(self, line: str) -> None:
        """One line worth keeping on the screen."""


class Silent:
    """Progress for tests and for use as a library."""

    def step(self, what: str, done: int, total: int, detail: str = "") -> None:
        return None

    def say(self, line: str) -> None:
        return None


class Terminal:
    """Progress on standard error: one line rewritten in place on a terminal, a line every 20 seconds elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = 0.0
        self._open = False

    def step(self, what: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        if now - self._last < (0.2 if self._live else 20) and done < total:
            return
        self._last = now
        line = f"    {what} {done}/{total}  {detail}".rstrip()
        if self._live:
            sys.stderr.write("\r\x1b[K" + line[:110])
            self._open = True
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def say(self, line: str) -> None:
        if self._open:
            sys.stderr.write("\r\x1b[K")
            self._open = False
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
