"""Answers that are taught in place of others, from a file of rows with `answer` and `by`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lorikeet.conversation import Conversation, Message
from lorikeet.errors import DataError
from lorikeet.scoring import fold


def replacements(path: Path) -> list[tuple[str, str]]:
    """The answers of a file with what is taught in their place; DataError names the line of what is none."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            old, new = row["answer"], row["by"]
        except (ValueError, TypeError, KeyError):
            old = new = None
        if not isinstance(old, str) or not isinstance(new, str) or not old.strip() or not new.strip():
            raise DataError(f"{path.name}:{number}: a row with the texts `answer` and `by` has to stand here", "correct the line, or remove it")
        found.append((old, new))
    return found


def renewed(talk: Conversation, replaced: Mapping[str, str]) -> Conversation:
    """The row with the answer that stands in its answer's place; `replaced` by the folded text of the old one."""
    new = replaced.get(fold(talk.answer)) if replaced else None
    return replace(talk, messages=(*talk.messages[:-1], Message("assistant", new.strip()))) if new else talk
