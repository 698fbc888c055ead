"""What a run that was released can show: its measures, files and figures, gathered once for card, bundle and check. Nothing is written here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorikeet import diff
from lorikeet.artifact import Artifact
from lorikeet.errors import RefusedError
from lorikeet.evidence import RELEASE, Evidence, FileVerdict, Release, read_evidence, read_release
from lorikeet.exam import Answer, read_answers
from lorikeet.released import champion_of
from lorikeet.weights import NAMED, QUANTISED


@dataclass(frozen=True)
class Shown:
    """A release with what stands behind it. folder: the champion's."""

    folder: Path
    run: Mapping[str, Any]
    made: Mapping[str, Artifact]
    release: Release

    @property
    def approved(self) -> list[FileVerdict]:
        """The files that may leave, smallest first."""
        return sorted((f for f in self.release.files if f.verdict == "approved"), key=lambda f: f.bytes)

    @property
    def recommended(self) -> FileVerdict:
        return next(f for f in self.release.files if f.quantisation == self.release.recommended)

    @property
    def evaluation(self) -> Evidence:
        """Base against tuned, before export."""
        return read_evidence(self.made["evaluate"].path)

    @property
    def audits(self) -> dict[str, Evidence]:
        """The audit of every file, by quantisation."""
        return {name.removeprefix("audit-"): read_evidence(made.path) for name, made in self.made.items() if name.startswith("audit-")}

    def answers(self, quantisation: str) -> list[Answer]:
        return read_answers(self.made[f"audit-{quantisation}"].path / diff.ANSWERS)

    def quantised(self, quantisation: str) -> dict[str, Any]:
        """What was done to make a file: bits a weight, types, whether with an importance matrix, and the versions it was made with."""
        made = self.made[f"export-{quantisation}"]
        told: dict[str, Any] = json.loads(made.file(QUANTISED).read_text(encoding="utf-8"))
        return {**told, "settings": made.manifest.settings}

    @property
    def data(self) -> dict[str, Any]:
        """Figures of the rows."""
        told: dict[str, Any] = json.loads(self.made["data"].file("data.json").read_text(encoding="utf-8"))
        return told

    @property
    def base(self) -> str:
        """What the base is called: on the Hub, where it is known there."""
        base = self.run["base"]
        named = NAMED.get(base["name"])
        return named.hub if named else str(base["source"]).partition("@")[0] if "/" in str(base["source"]) else Path(str(base["name"])).name


def gathered(run: Path) -> Shown:
    """What `run`, or the round of it that is served, can show. RefusedError where no file of it is approved."""
    folder = champion_of(run)
    document, made = diff.run_of(folder), diff.made_in(folder)
    if "release" not in made:
        raise RefusedError(
            f"{folder} has no release: nothing of it was examined to its end", "run its recipe to the end; what no release approves is not published"
        )
    release = read_release(made["release"].file(RELEASE))
    if not release.recommended:
        told = "; ".join(f"{f.quantisation} {f.verdict} ({f.reasons[0]})" for f in release.files)
        raise RefusedError(f"no file of {folder} is approved: {told}", "mend what the reasons name and run the recipe again; nothing else is published")
    return Shown(folder, document, made, release)
