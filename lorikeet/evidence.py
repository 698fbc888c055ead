"""What was measured and what follows from it: measures with intervals, findings with an excerpt, the release."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from lorikeet.artifact import write_json
from lorikeet.errors import ModelError
from lorikeet.statistics import Interval

Severity = Literal["error", "warning", "note"]
Verdict = Literal["approved", "blocked", "not-enough-evidence"]
EVIDENCE = "evidence.json"
RELEASE = "release.json"
SUITE = "suite.json"
"""Beside the release: the suite by which it was judged, with all that it stands on, for the guard of serving."""


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval, n, unit and the way it was found. Names are dotted and stable.

    p: of a difference, the two-sided p-value, adjusted for what was tested beside it (Holm).
    """

    name: str
    subject: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    method: str
    p: float | None = None


SINCE = "since."
"""What the code of a finding begins with that holds the tuned model against the adapter it began from; behind it stands the measure's name."""


@dataclass(frozen=True)
class Finding:
    """Something a reader should know, with the place or the words that show it, and what to do about it."""

    severity: Severity
    what: str
    excerpt: str = ""
    answer: str = ""
    code: str = ""
    rows: tuple[str, ...] = ()
    cure: str = ""


DECIDED = "audit.decided"
"""Code of the finding that a file was asked no further, its probes having failed too often."""


TEMPLATE = "audit.template"
"""Code of the finding that a file's chat template is not its parent's."""


@dataclass(frozen=True)
class Evidence:
    """All that one evaluate or audit folder has to say."""

    measures: list[Measure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def measure(self, name: str, subject: str) -> Measure | None:
        """The measure of that name and subject, or None."""
        return next((m for m in self.measures if (m.name, m.subject) == (name, subject)), None)

    def write(self, folder: Path) -> None:
        write_json(folder / EVIDENCE, asdict(self))


def measured(name: str, subject: str, interval: Interval, unit: str = "share") -> Measure:
    """A Measure from an Interval. Floats are rounded to 6 places, so that a file is the same wherever it is written."""
    value, low, high = (round(x, 6) for x in interval[:3])
    return Measure(name, subject, value, low, high, interval.n, unit, interval.method)


def read_evidence(folder: Path) -> Evidence:
    """Read `evidence.json` of a folder."""
    raw = json.loads((folder / EVIDENCE).read_text(encoding="utf-8"))
    return Evidence(
        [Measure(**m) for m in raw["measures"]],
        [Finding(**{**f, "rows": tuple(f.get("rows", ()))}) for f in raw["findings"]],
    )


@dataclass(frozen=True)
class Quoted:
    """An answer that a reader must see: what was asked, what was said, and what is wrong with it."""

    question: str
    answer: str
    why: str


@dataclass(frozen=True)
class FileVerdict:
    """The gate's word on one GGUF. `path` is relative to the run folder; `worst` are its worst answers, three at most."""

    quantisation: str
    path: str
    sha256: str
    bytes: int
    verdict: Verdict
    reasons: list[str]
    worst: list[Quoted] = field(default_factory=list)


@dataclass(frozen=True)
class Release:
    """Every file with its verdict, and the smallest approved one."""

    files: list[FileVerdict]
    recommended: str | None

    def write(self, folder: Path) -> None:
        write_json(folder / RELEASE, asdict(self))


def decide(files: Sequence[FileVerdict]) -> Release:
    """Recommend the smallest approved file; of two equally large ones the one named first."""
    approved = [f for f in files if f.verdict == "approved"]
    return Release(list(files), min(approved, key=lambda f: f.bytes).quantisation if approved else None)


def read_release(path: Path) -> Release:
    """Read a release.json; ModelError where it is not one."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = [FileVerdict(**{**f, "worst": [Quoted(**quoted) for quoted in f.get("worst", ())]}) for f in raw["files"]]
        return Release(files, raw["recommended"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a release: {error}", "run the recipe again to make one") from error
