"""The one way an outside program is run: a list of arguments, no shell, its last words kept for the error."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from lorikeet.errors import LorikeetError


def run(arguments: Sequence[str], log: Path, cure: str) -> None:
    """Run a program to its end, its output into `log`. LorikeetError where it fails: with its last line, or with what and cure where it tells both."""
    with log.open("wb") as file:
        done = subprocess.run(list(arguments), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if len(lines) > 1 and lines[-2].startswith("error: ") and lines[-1].startswith("  cure: "):
            raise LorikeetError(lines[-2].removeprefix("error: "), lines[-1].removeprefix("  cure: "))
        last = lines[-1].strip() if lines else f"exit code {done.returncode}"
        raise LorikeetError(f"{Path(arguments[0]).name} {' '.join(arguments[1:3])} failed: {last}", cure)
