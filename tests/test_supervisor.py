"""A killed child is started again, an ended one is not, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from lorikeet.progress import Terminal
from lorikeet.supervisor import kept_alive
place = Path({place!r})

def work():
    lives = len(list(place.glob("life-*")))
    (place / f"life-{{lives}}").write_text(str(os.getpid()))
    {body}

sys.exit(kept_alive(work, Terminal()))
"""


def started(place: Path, body: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT.format(place=str(place), body=body)], stderr=subprocess.PIPE, text=True)


def test_a_child_that_crashes_is_started_again_and_its_exit_code_is_handed_on(tmp_path: Path) -> None:
    process = started(tmp_path, "if lives < 2: os.kill(os.getpid(), signal.SIGSEGV)\n    return 7")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 7
    assert told.count("killed by SIGSEGV; it is started again") == 2


def test_one_that_crashes_at_once_again_and_again_is_given_up(tmp_path: Path) -> None:
    process = started(tmp_path, "os.kill(os.getpid(), signal.SIGABRT)")
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGABRT
    assert len(list(tmp_path.glob("life-*"))) == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_child_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    process = started(tmp_path, "time.sleep(60)")
    deadline = time.monotonic() + 30
    while not (life := tmp_path / "life-0").exists() or not life.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=30)
    while running(int(life.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether a process is there and no zombie that waits for its parent."""
    try:
        os.kill(pid, 0)
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
