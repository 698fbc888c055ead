"""A process that keeps another alive: llama.cpp runs in the serving process, and where it brings that down the page comes back by itself.

The parent holds nothing but the child's number, and no library that is not the standard one; the child ends with it, however it ends.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from lorikeet.progress import Progress

QUICK, MOST = 60.0, 5
"""A child that dies more than MOST times in so many seconds is not started again."""
PATIENCE = 3.0
"""Seconds that a child has for ending after Ctrl-C before it is interrupted by us."""
INTERRUPTED = 130
"""The exit code of what was interrupted."""
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL}
"""What kills a process whose native part has failed, or that the system ended for its memory."""


def kept_alive(work: Callable[[], int], progress: Progress) -> int:
    """Run `work` in a child and start it again where a signal of CRASHES has killed it; returns its exit code. Where there is no fork, it runs here.

    What the work raises is raised in the child, whose exit code it decides. KeyboardInterrupt is raised as if the work ran here, once the child has ended.
    """
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return work()
    deaths: list[float] = []
    while True:
        child, alive = _started(work)
        status = _ended(child)
        os.close(alive)
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if not killed:
            if (code := os.waitstatus_to_exitcode(status)) == INTERRUPTED:
                raise KeyboardInterrupt
            return code
        deaths = [then for then in deaths if time.monotonic() - then < QUICK] + [time.monotonic()]
        if killed not in CRASHES or len(deaths) > MOST:
            return 128 + killed
        progress.say(f"the serving process was killed by {signal.Signals(killed).name}; it is started again")


def _started(work: Callable[[], int]) -> tuple[int, int]:
    """The number of a child that does the work, and a descriptor by whose end it notices that this process has gone."""
    reads, writes = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(reads)
        return child, writes
    os.close(writes)
    threading.Thread(target=_end_with_parent, args=(reads,), daemon=True).start()
    try:
        code = work()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent(pipe: int) -> None:
    """Nobody ever writes; it reads the end when the parent has gone."""
    os.read(pipe, 1)
    os._exit(1)


def _ends_within(child: int, seconds: float) -> bool:
    """Whether a child ends within so many seconds; it is left to be waited for."""
    for _ in range(round(seconds * 20)):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.05)
    return False


def _ended(child: int) -> int:
    """The wait status of a child. A request to end is passed on to it, and an interruption where it did not get that by itself, as from a terminal it does."""

    def passed(number: int, frame: object) -> None:
        os.kill(child, number)

    before = signal.signal(signal.SIGTERM, passed)
    try:
        while True:
            try:
                return os.waitpid(child, 0)[1]
            except KeyboardInterrupt:
                if not _ends_within(child, PATIENCE):
                    os.kill(child, signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
