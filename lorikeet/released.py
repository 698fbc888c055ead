"""The gate of serving: which file of a run answers users, and whether a release approves exactly these bytes.

Nothing is served here, and no model is opened; chat and serve ask `find` and obey.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from lorikeet.artifact import RUN, Json, sha256_of
from lorikeet.bases import wheel_file
from lorikeet.errors import ModelError, RecipeError, RefusedError
from lorikeet.evidence import RELEASE, SUITE, FileVerdict, Release, read_release
from lorikeet.weights import NAMED, gguf_file

_CURE = "mend what the reasons name and run the recipe again; --unreleased serves it under a red banner"
_RANK = {"approved": 0, "not-enough-evidence": 1, "blocked": 2}
_FAITHFUL = ("Q8_0", "F16")
"""Taken first among files of one verdict: the nearest to what was trained."""


@dataclass(frozen=True)
class Served:
    """A GGUF and the persona it speaks as. verdict: the gate's word, or "not audited"; reasons: why, in words."""

    path: Path
    quantisation: str
    sha256: str
    approved: bool
    verdict: str
    reasons: tuple[str, ...]
    title: str
    system: str = ""
    notice: str = ""
    greeting: str = ""
    examples: tuple[str, ...] = ()
    run_dir: Path | None = None
    modes: tuple[tuple[str, str], ...] = ()
    """Name of each mode, and the system turn in it."""
    single_turn: bool = False
    safe_reply: str = ""
    emergency_number: str = ""
    layout: str = "chat"
    """How the page is laid out: chat or email."""
    sentiment_model: str = ""
    politeness_model: str = ""
    quiz: bool = False
    suite: Path | None = None
    """The suite by which the release was judged."""
    adapter: Path | None = None
    """An adapter's GGUF that is put on `path`."""
    adapter_sha256: str = ""
    address: str = ""
    """http://HOST/v1#MODEL, where no file of the run answers but what is behind it; `path` then names the model alone, and there is nothing to open."""

    def prompt(self, mode: str = "") -> str:
        """The system turn in a mode, by default the first; RecipeError for one that there is not."""
        known = dict(self.modes)
        if not mode:
            return next(iter(known.values()), self.system)
        if mode not in known:
            raise RecipeError(f"there is no mode {mode!r}", f"one of: {', '.join(known)}" if known else "this assistant has no modes")
        return known[mode]

    @property
    def answering_sha256(self) -> str:
        """What tells this model from another of its name: the adapter's sha256, or else the file's."""
        return self.adapter_sha256 or self.sha256

    @property
    def name(self) -> str:
        """The name by which the API knows the model."""
        return self.path.name if self.address else self.adapter.stem if self.adapter else self.path.stem

    @property
    def size(self) -> str:
        """How large the file is, in words; of what is elsewhere, where."""
        return urlsplit(self.address).netloc if self.address else f"{self.path.stat().st_size / 1e6:.0f} MB"


def find(target: Path, unreleased: bool, quantisation: str | None = None) -> Served:
    """The file to serve from a run folder or a GGUF.

    Raises RefusedError where no release approves it, unless `unreleased`; ModelError for a file that is missing or no
    GGUF; RecipeError for a target that is neither, or a quantisation that the run does not have.
    """
    if target.is_dir():
        served = replace(_from_run(champion_of(target), unreleased, quantisation), run_dir=target)
    elif target.suffix == ".gguf" or target.is_file():
        if quantisation is not None:
            raise RecipeError(f"{target} is one file; a quantisation is chosen from a run folder", "leave the quantisation out, or name the run folder")
        served = _judged(target, _releases_near(target), target.resolve().parent.parent)
    else:
        raise RecipeError(f"{target} does not exist", "name a run folder (with run.json in it) or a .gguf file")
    if not served.approved and not unreleased:
        raise RefusedError(f"{served.path} is not served: {served.verdict} ({'; '.join(served.reasons)})", _CURE)
    return served


def offered(target: Path, unreleased: bool, quantisation: str | None = None) -> list[Served]:
    """Every file of a run that may be served, the one that `find` takes first: the approved ones, or all with `unreleased`. Of a single GGUF that one.

    With `unreleased` the run's base and its adapter on the base stand behind them, where their GGUFs are here. Raises as `find` does.
    """
    first = find(target, unreleased, quantisation)
    if not target.is_dir():
        return [first]
    folder = champion_of(target)
    release = _current_release(folder)
    listed = [entry for entry in release.files if entry.verdict == "approved" or unreleased] if release else []
    others = [entry for entry in listed if folder / entry.path != first.path and (folder / entry.path).is_file()]
    rest = [replace(_judged(folder / entry.path, [release] if release else [], folder, expected=entry), run_dir=target) for entry in others]
    return [first, *(served for served in rest if served.approved or unreleased), *(_unmerged(first, folder) if unreleased else [])]


def behind(target: Path, address: str, unreleased: bool) -> Served:
    """What answers at http://HOST/v1#MODEL, under the persona of a run. RefusedError unless `unreleased`: nobody knows what answers there tomorrow."""
    first = find(target, unreleased=True)
    why = "it answers at an address, and what is there may be another model tomorrow"
    if not unreleased:
        raise RefusedError(f"{address} is not served: {why}", "--unreleased serves it under a red banner")
    url, _, model = address.partition("#")
    digest = hashlib.sha256(address.encode()).hexdigest()
    return replace(first, path=Path((model or urlsplit(url).netloc).rpartition("/")[2]), quantisation="endpoint", sha256=digest, approved=False,
                   verdict="not audited", reasons=(why,), adapter=None, adapter_sha256="", address=address)  # fmt: skip


CHAMPION = "champion.json"
"""In a run folder: which of its rounds is served, where one has beaten what was served before."""


def champion_of(run: Path) -> Path:
    """The folder that is served from: the run's own, or that of the round that was promoted last. ModelError where that is gone."""
    path = run / CHAMPION
    if not path.is_file():
        return run
    try:
        folder = run / str(json.loads(path.read_text(encoding="utf-8"))["round"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "remove it, and the run serves what it released first") from error
    if not (folder / RUN).is_file():
        raise ModelError(f"{path} names {folder}, which is not there", "put the round's folder back, or remove the file to serve what was released first")
    return folder


def files_of(run: Path) -> set[str]:
    """sha256 of every file that a run and its rounds have examined: whose replies people may have rated."""
    folders = [run, *(path.parent for path in run.glob(f"{ROUNDS}/*/{RUN}"))]
    return {entry.sha256 for folder in folders if (release := _current_release(folder)) for entry in release.files}


ROUNDS, ROUND = "rounds", "round.json"
"""In a run folder: the folders of its rounds of retraining, each a run of its own; and in such a folder the round's verdict."""


def _unmerged(tuned: Served, folder: Path) -> list[Served]:
    """The base, untuned, and the adapter on it, under the run's persona: what a tuned file is compared with."""
    document = _run_document(folder)
    base = document.get("base")
    known = NAMED.get(str(base.get("name"))) if isinstance(base, dict) else None
    path = wheel_file(known) if known else None
    if known is None or path is None:
        return []
    plain = replace(tuned, path=path, quantisation="base", sha256=known.sha256, approved=False, verdict="not audited", reasons=("it is the base, untuned",))
    adapter = next((p for p in sorted(folder.glob("adapter-*/*.gguf")) if p.parent.suffix != ".part"), None)
    if adapter is None:
        return [plain]
    why = ("the adapter on the base was not audited; the merged files were",)
    return [plain, replace(plain, quantisation="adapter", reasons=why, adapter=adapter, adapter_sha256=sha256_of(adapter))]


FEEDBACK = "feedback"


def feedback_folder(served: Served) -> Path:
    """Where ratings of a served model are kept: in its run's folder, or beside the file."""
    return (served.run_dir or served.path.resolve().parent) / FEEDBACK


def approved_runs(folder: Path) -> list[Path]:
    """The run folders in a folder that have an approved file to serve; RecipeError where there is none."""
    found = []
    for run in sorted(path.parent for path in folder.glob(f"*/{RUN}")):
        release = _current_release(champion_of(run))
        if release and release.recommended:
            found.append(run)
    if not found:
        raise RecipeError(f"there is no run in {folder}/ with an approved file", "name a run folder or a .gguf file, or make one: lorikeet demo")
    return found


def ratings_of(target: Path) -> Path:
    """Where ratings lie: the folder of them in a run's folder, or else what was named."""
    return target / FEEDBACK if (target / RUN).is_file() else target


OVERRIDES = "unreleased.jsonl"


def record_override(served: Served, command: str) -> None:
    """Write down, in the run's folder or beside the file, that a file was taken which no release approves: when, by which command, and what the gate says."""
    if served.approved:
        return
    document = {"timestamp": round(time.time()), "command": command, "file": served.path.name, "sha256": served.sha256, "verdict": served.verdict,
                "reasons": list(served.reasons)}  # fmt: skip
    place = (served.run_dir or served.path.resolve().parent) / OVERRIDES
    try:
        with place.open("a", encoding="utf-8") as file:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RefusedError(f"{place} cannot be written, and taking an unreleased file has to be recorded: {error.strerror}",
                           "take a copy of the file in a folder of your own") from error  # fmt: skip


def _from_run(folder: Path, unreleased: bool, quantisation: str | None) -> Served:
    if not (folder / RUN).is_file():
        raise RecipeError(f"{folder} is not the folder of a run: it has no {RUN}", "name a folder that `lorikeet run` has made, or a .gguf file")
    release = _current_release(folder)
    if release is None:
        return _judged(_exported(folder, quantisation), [], folder)
    chosen = _choice(release, folder, unreleased, quantisation)
    return _judged(folder / chosen.path, [release], folder, expected=chosen)


def _choice(release: Release, folder: Path, unreleased: bool, quantisation: str | None) -> FileVerdict:
    """The entry asked for, else the recommended one, else (unreleased) the one with the best verdict."""
    wanted = quantisation or release.recommended
    if wanted is None:
        if not unreleased:
            told = "; ".join(f"{f.quantisation} {f.verdict} ({'; '.join(f.reasons)})" for f in release.files)
            raise RefusedError(f"no file of {folder} is approved: {told or 'nothing was audited'}", _CURE)
        if not release.files:
            raise ModelError(f"the release of {folder} lists no file", "run the recipe again")
        return min(release.files, key=lambda f: (_RANK[f.verdict], *_preference(f.quantisation), -f.bytes))
    chosen = next((f for f in release.files if f.quantisation.lower() == wanted.lower()), None)
    if chosen is None:
        raise RecipeError(f"{folder} has no {wanted}", f"use one of: {', '.join(f.quantisation for f in release.files)}")
    return chosen


def _preference(quantisation: str) -> tuple[int, ...]:
    return (_FAITHFUL.index(quantisation) if quantisation in _FAITHFUL else len(_FAITHFUL),)


def _exported(folder: Path, quantisation: str | None) -> Path:
    """A GGUF of a run that has not reached its release."""
    files = {p.parent.name.removeprefix("export-").rpartition("-")[0]: p for p in sorted(folder.glob("export-*/*.gguf")) if p.parent.suffix != ".part"}
    if not files:
        raise ModelError(f"{folder} holds no GGUF yet", "let the run go on: lorikeet run RECIPE")
    if quantisation is None:
        return files[min(files, key=lambda q: (*_preference(q), -files[q].stat().st_size))]
    found = next((path for name, path in files.items() if name.lower() == quantisation.lower()), None)
    if found is None:
        raise RecipeError(f"{folder} has no {quantisation}", f"use one of: {', '.join(files)}")
    return found


def _judged(path: Path, releases: Sequence[Release], folder: Path, expected: FileVerdict | None = None) -> Served:
    """The file with the verdict on its bytes. Of several releases that know it every one has to approve it."""
    gguf = gguf_file(path)
    entries = [entry for release in releases for entry in release.files if entry.sha256 == gguf.sha256]
    worst = max(entries, key=lambda entry: _RANK[entry.verdict], default=None)
    persona = _run_document(folder)
    if worst is not None:
        verdict, reasons = str(worst.verdict), tuple(worst.reasons)
    elif expected is not None or _listed_under(path, releases):
        verdict, reasons = "not audited", (f"the file was changed after the audit: its sha256 is {gguf.sha256[:12]}..., which no release names",)
    elif releases:
        verdict, reasons = "not audited", ("the release beside it does not name this file",)
    else:
        verdict, reasons = "not audited", ("no release.json was found for it; a run makes one at its end",)
    return Served(
        path=path,
        quantisation=worst.quantisation if worst else expected.quantisation if expected else gguf.quantisation,
        sha256=gguf.sha256,
        approved=verdict == "approved",
        verdict=verdict,
        reasons=reasons,
        title=_text(persona, "title") or path.stem,
        system=_text(persona, "system"),
        notice=_text(persona, "notice"),
        greeting=_text(persona, "greeting"),
        examples=_texts(persona, "examples"),
        run_dir=folder if persona else None,
        modes=_modes(persona),
        single_turn=persona.get("single_turn") is True,
        safe_reply=_text(persona, "safe_reply"),
        emergency_number=_text(persona, "emergency_number"),
        quiz=persona.get("quiz") is True,
        layout=_text(persona, "layout") or "chat",
        sentiment_model=_text(persona, "sentiment_model"),
        politeness_model=_text(persona, "politeness_model"),
        suite=_suite(folder, persona),
    )


def _listed_under(path: Path, releases: Sequence[Release]) -> bool:
    return any(Path(entry.path).name == path.name for release in releases for entry in release.files)


def _releases_near(path: Path) -> list[Release]:
    """The release that the file's run names; where there is none every release.json beside the file or beside its folder."""
    folder = path.resolve().parent
    if (current := _current_release(folder.parent)) is not None:
        return [current]
    places = [folder / RELEASE, folder.parent / RELEASE, *sorted(folder.parent.glob(f"release-*/{RELEASE}"))]
    return [read_release(place) for place in places if place.is_file() and place.parent.suffix != ".part"]


def _current_release(folder: Path) -> Release | None:
    """The release that run.json names, looked for inside the folder, which may have been moved since."""
    named = _text(_run_document(folder), "release")
    if not named:
        return None
    return read_release(folder / Path(named).parent.name / RELEASE)


def _run_document(folder: Path) -> dict[str, Json]:
    """run.json of a folder, empty where there is none."""
    path = folder / RUN
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}", "run the recipe again, which writes it anew") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path} is not a run's document", "run the recipe again, which writes it anew")
    return document


def _suite(folder: Path, document: dict[str, Json]) -> Path | None:
    named = _text(document, "release")
    path = folder / Path(named).parent.name / SUITE
    return path if named and path.is_file() else None


def _text(document: dict[str, Json], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _modes(document: dict[str, Json]) -> tuple[tuple[str, str], ...]:
    modes = document.get("modes")
    return tuple((name, str(system)) for name, system in modes.items()) if isinstance(modes, dict) else ()


def _texts(document: dict[str, Json], key: str) -> tuple[str, ...]:
    value = document.get(key)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
