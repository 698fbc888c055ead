"""What a run's folder holds that nothing refers to any more: steps that were made anew, and tries that were broken off. Nothing goes unless it is asked for."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from lorikeet import artifact, diff
from lorikeet.artifact import RUN
from lorikeet.released import ROUNDS, champion_of

_STEP = re.compile(r"[\w.-]+-[0-9a-f]{8}(\.part)?")


class Left(NamedTuple):
    """A folder that could go: where, how many bytes, and why."""

    folder: Path
    bytes: int
    why: str


def leftovers(run: Path) -> list[Left]:
    """Folders of a run and its rounds that its last walk neither made nor used. RecipeError for what is no run. The served round is never among them."""
    champion, found = champion_of(run), []
    for place in (run, *sorted(path.parent for path in run.glob(f"{ROUNDS}/*/{RUN}"))):
        used = {str(step["folder"]) for step in diff.run_of(place)["steps"]}
        for folder in sorted(place.iterdir()):
            if not folder.is_dir() or not _STEP.fullmatch(folder.name) or folder.name in used:
                continue
            if not folder.name.endswith(".part") and artifact.load(folder) is None:
                continue
            why = "was broken off" if folder.name.endswith(".part") else "is asked for no more, or was made anew"
            found.append(Left(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), why))
    assert not any(champion == left.folder or champion.is_relative_to(left.folder) for left in found)
    return found


def remove(run: Path) -> list[Left]:
    """Remove them, and return what went. BusyError where a process works in the run's folder."""
    with artifact.locked(run):
        gone = leftovers(run)
        for left in gone:
            shutil.rmtree(left.folder)
    return gone


def told(found: list[Left], *, gone: bool) -> str:
    """Each with its bytes, and the sum."""
    if not found:
        return "nothing to tidy: every folder is in use"
    lines = [f"{left.bytes / 1e6:9.1f} MB  {left.folder}  {left.why}" for left in found]
    end = "removed" if gone else "could go: --remove removes them (a recipe that was changed back would make them anew)"
    return "\n".join([*lines, f"{sum(left.bytes for left in found) / 1e6:9.1f} MB in {len(found)} folders {end}"])
