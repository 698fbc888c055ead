"""A cleaned copy of files of rows, with a list of what was left out or mended and why. The files themselves stay as they are."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lorikeet.conversation import Source
from lorikeet.data.checks import copies, leaks, near_leaks, run_checks
from lorikeet.data.contents import decoded_wrongly, mark_in, secret_in, speaker_in
from lorikeet.data.figures import LongRow
from lorikeet.data.files import records
from lorikeet.data.rows import Row, Rows
from lorikeet.data.sources import FileRows
from lorikeet.data.survey import Survey, survey
from lorikeet.errors import DataError, RecipeError
from lorikeet.evidence import Finding
from lorikeet.private import knowing_secrets
from lorikeet.progress import Progress

CHANGES = "changes.jsonl"
SECRET = "data.secret"
"""Rows left out with this code are not written to the list of changes."""


@dataclass(frozen=True)
class Fixed:
    """What was done: the cleaned files, how many rows were left out or mended by code, and the findings that stay."""

    folder: Path
    files: list[Path]
    dropped: dict[str, int]
    mended: int
    left: list[Finding]

    @property
    def errors(self) -> int:
        return sum(f.severity == "error" for f in self.left)

    def document(self) -> dict[str, object]:
        return {"folder": str(self.folder), "files": [str(f) for f in self.files], "dropped": self.dropped, "mended": self.mended,
                "left": [f"{f.severity}: {f.code}: {f.what}" for f in self.left]}  # fmt: skip


def to_drop(seen: Survey, long: Sequence[LongRow] = ()) -> dict[Source, tuple[str, str]]:
    """Rows to leave out, by place: the code, and why. Of copies and leaks what training uses goes first: what is held out stays what it was."""
    rows, kept = seen.rows, np.ones(len(seen.rows), bool)
    reasons: dict[Source, tuple[str, str]] = {}
    too_long = {row.source for row in long}

    def drop(n: int, code: str, why: str) -> None:
        reasons.setdefault(rows[n].conversation.source, (code, why))
        kept[n] = False

    with knowing_secrets():
        for n, row in enumerate(rows):
            if reason := _by_itself(row, too_long):
                drop(n, *reason)
    for group in copies(seen, kept.copy()):
        stays, *others = sorted(group.tolist(), key=lambda n: seen.part[n], reverse=True)
        for n in others:
            drop(n, "data.duplicate.exact", f"a copy of {rows[stays].conversation.source}")
    exact = leaks(seen, kept.copy())
    for n, asked in zip(exact.used.tolist(), exact.asked_first.tolist(), strict=True):
        drop(n, "data.leak.exact", f"asks what the held-out {rows[asked].conversation.source} asks")
    near = near_leaks(seen, kept.copy())
    for n, asked in zip(near.used.tolist(), near.asked_first.tolist(), strict=True):
        drop(n, "data.leak.near", f"asks nearly what the held-out {rows[asked].conversation.source} asks")
    return reasons


def _by_itself(row: Row, too_long: set[Source]) -> tuple[str, str] | None:
    """Why a row is left out whatever the others are, or None."""
    if kind := secret_in(row):
        return SECRET, kind[0]
    if mark := mark_in(row):
        return "data.roles.bleed", f"a mark of a chat template inside a turn: {mark[0]!r}"
    if speaker_in(row):
        return "data.roles.bleed", "an answer names a speaker at the start of a line"
    if row.conversation.source in too_long:
        return "data.long", "longer than data.max_tokens"
    if row.conversation.liked is False:
        return "data.disliked", "the answer is labelled as disliked"
    return None


def fix(files: Sequence[FileRows], seen: Survey, long: Sequence[LongRow], folder: Path, progress: Progress) -> Fixed:
    """Write the cleaned files into `folder`, each as JSONL with its own keys, and CHANGES beside them.

    Raises RecipeError where the folder holds something already, or two files have one name.
    """
    names = [f"{file.path.name.split('.')[0]}.jsonl" for file in files]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise RecipeError(f"--fix would write two files called {twice[0]}", "rename one of them, or clean one at a time")
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"{folder} holds something already", "name a folder that is new or empty: --fix writes over nothing")
    folder.mkdir(parents=True, exist_ok=True)
    reasons = to_drop(seen, long)
    bad = {row.conversation.source for row in seen.rows if decoded_wrongly(row)} - reasons.keys()
    dropped: Counter[str] = Counter()
    with (folder / CHANGES).open("w", encoding="utf-8") as changes:
        for file, name in zip(files, names, strict=True):
            for change in _copy(file, reasons, bad, folder / name):
                dropped[str(change["code"])] += change["action"] == "dropped"
                changes.write(json.dumps(change, ensure_ascii=False, default=str) + "\n")
    stay = (row for row in seen.rows if row.conversation.source not in reasons)
    left = Rows.of(_mended_row(row) if row.conversation.source in bad else row for row in stay)
    found = run_checks(survey(left, progress)) if left else []
    return Fixed(folder, [folder / name for name in names], {code: n for code, n in dropped.items() if n}, len(bad), found)


def _copy(file: FileRows, reasons: Mapping[Source, tuple[str, str]], bad: set[Source], path: Path) -> Iterator[dict[str, object]]:
    """Write a file's rows that stay, and say what became of the others."""
    refused = {error.message.partition(": ")[0]: error.message for error in file.refused}
    with path.open("w", encoding="utf-8") as copy:
        for record in records(file.path):
            if isinstance(record, DataError):
                yield {"action": "dropped", "code": "data.refused", "why": record.message, "row": None}
                continue
            value, source = record.value, record.source
            place = {"file": source.file, source.counted: source.line}
            if source in reasons:
                code, why = reasons[source]
                yield {"action": "dropped", "code": code, "why": why, **place, "row": None if code == SECRET else value}
            elif reason := refused.get(str(source), ""):
                yield {"action": "dropped", "code": "data.refused", "why": reason, **place, "row": value}
            else:
                if source in bad:
                    yield {"action": "mended", "code": "data.mojibake", "why": "text decoded wrongly", **place, "row": value}
                    value = _mended(value)
                copy.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def _mended(value: Any) -> Any:
    """The value with every text in it decoded as it should have been, as ftfy tells."""
    import ftfy

    if isinstance(value, str):
        return ftfy.fix_encoding(value)
    if isinstance(value, Mapping):
        return {key: _mended(inner) for key, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list) else value


def _mended_row(row: Row) -> Row:
    messages = tuple(replace(m, content=_mended(m.content)) for m in row.conversation.messages)
    return replace(row, conversation=replace(row.conversation, messages=messages))


def told(fixed: Fixed) -> str:
    """What was done, for a reader."""
    done = ", ".join(f"{code} {count}" for code, count in sorted(fixed.dropped.items())) or "none"
    lines = [
        f"rows left out: {done}",
        f"rows mended: {fixed.mended}",
        *(f"written: {path}" for path in fixed.files),
        f"why, row by row: {fixed.folder / CHANGES}",
    ]
    return "\n".join(lines + [f"left for you: {f.severity}: {f.code}: {f.what}" for f in fixed.left])
