"""A finished folder and how it came to be: manifests, keys, fingerprints, whole-or-nothing folders, the run's lock.

Nothing here knows what a stage does.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from lorikeet.errors import BusyError, MachineError, ModelError, RecipeError

MANIFEST = "manifest.json"
RUN = "run.json"
"""In a run folder: what was done there."""
NOTES = "notes"
"""Folder for checkpoints, logs, timings and figures for people: never hashed, never read by a later stage."""
COMPLETE = "complete"
"""Marker written into a checkpoint after everything else: one without it was cut off and is not resumed from."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: object) -> str:
    """Hex sha256 of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write indented JSON by way of a temporary file, so that a reader never sees half of it."""
    part = path.with_name(path.name + ".tmp")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n", encoding="utf-8")
    part.replace(path)


@dataclass(frozen=True)
class Manifest:
    """How a folder came to be: which step, from which inputs and settings, and the files it holds."""

    step: str
    key: str
    fingerprint: str
    files: dict[str, str]
    inputs: dict[str, str]
    settings: dict[str, Json]
    versions: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A finished folder: its path and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def file(self, name: str) -> Path:
        """Path of a file the manifest lists; ModelError where it is gone or cut short of the manifest."""
        path = self.path / name
        if name not in self.manifest.files or not path.is_file():
            raise ModelError(f"{path} is missing", f"remove the folder {self.path} and run the recipe again")
        return path


def step_key(step: str, version: int, settings: Mapping[str, Json], inputs: Mapping[str, str]) -> str:
    """The name of a step's result before it exists: hash of what it does, with which settings, from what."""
    return digest({"step": step, "version": version, "settings": dict(settings), "inputs": dict(inputs)})[:16]


def fingerprint_of(files: Mapping[str, str]) -> str:
    """One hash over names and hashes of the files: equal content gives an equal fingerprint."""
    return digest(dict(files))[:16]


def produced_files(folder: Path) -> dict[str, str]:
    """Hashes of all files below `folder`, without the manifest and the notes, by relative name."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST and not name.startswith(NOTES + "/"):
            files[name] = sha256_of(path)
    return files


def load(folder: Path) -> Artifact | None:
    """The artifact in `folder`, or None where there is no manifest (so it is not a finished one); ModelError for a damaged one."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return Artifact(folder, Manifest(**json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {error}", f"remove the folder {folder} and run the recipe again") from error


def begin(folder: Path) -> Path:
    """Open `folder`.part for work, keeping only its notes from an earlier, interrupted try."""
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for entry in part.iterdir():
        if entry.name == NOTES:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (part / NOTES).mkdir(exist_ok=True)
    return part


def finish(
    part: Path,
    *,
    step: str,
    key: str,
    inputs: Mapping[str, str],
    settings: Mapping[str, Json],
    versions: Mapping[str, str],
) -> Artifact:
    """Hash what the step made, write the manifest last, and rename the folder: only now does it exist.

    A folder of that name without a manifest is not a finished one, and makes room.
    """
    files = produced_files(part)
    manifest = Manifest(step, key, fingerprint_of(files), files, dict(inputs), dict(settings), dict(versions))
    write_json(part / MANIFEST, asdict(manifest))
    final = part.with_name(part.name.removesuffix(".part"))
    if final.is_dir() and not (final / MANIFEST).is_file():
        shutil.rmtree(final)
    part.replace(final)
    return Artifact(final, manifest)


def need_disk(folder: Path, needed: int, what: str, cure: str = "free some space, or choose another place with --out") -> None:
    """Raise MachineError before any work where fewer than `needed` bytes are free at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"{what} needs {needed / 1e9:.1f} GB on disk, {folder} has {free / 1e9:.1f} GB free",
            cure,
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; BusyError where another process has it. Freed if the process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{folder} cannot be made: {error.strerror}", "choose another folder with --out") from error
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BusyError(
            f"another lorikeet run is working in {folder}",
            "wait for it to end, or give this one another folder with --out",
        ) from None
    try:
        yield
    finally:
        lock.release()
