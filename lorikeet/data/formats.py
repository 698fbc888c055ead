"""Row formats, recognised by their keys: messages, question/answer, instruction/input/output. One row in, turns out."""

from collections.abc import Mapping
from typing import NamedTuple

from lorikeet.conversation import Conversation, Source, conversation
from lorikeet.errors import DataError


class Format(NamedTuple):
    """A format's name and why a file was taken for it."""

    name: str
    why: str


_PAIRS = {
    "question/answer": ("question", "answer"),
    "prompt/completion": ("prompt", "completion"),
    "instruction/output": ("instruction", "output"),
    "instruction/response": ("instruction", "response"),
}


def detect(row: Mapping[str, object], source: Source) -> Format:
    """The format of a row, by its keys; DataError names the keys where none fits."""
    if "messages" in row:
        return Format("messages", "rows have the key 'messages'")
    for name, (asked, answered) in _PAIRS.items():
        if asked in row and answered in row:
            return Format(name, f"rows have the keys {asked!r} and {answered!r}")
    for asked, answered in _PAIRS.values():
        if asked in row:
            raise DataError(f"{source}: the row has a {asked!r} but no {answered!r}: it has no answer", "fill it in or remove the row")
    keys = ", ".join(sorted(map(str, row))) or "none"
    raise DataError(f"{source}: no known format has the keys: {keys}",
                    "use messages; question and answer; or instruction, input and output (docs/data.md)")  # fmt: skip


def read_row(row: Mapping[str, object], source: Source) -> Conversation:
    """A Conversation from one row; DataError with file and line where the row cannot be one."""
    topic, category, mode = (_optional_text(row, key) for key in ("topic", "category", "mode"))
    name = detect(row, source).name
    if name == "messages":
        return conversation(_turns(row["messages"], source), source, topic, category, mode)
    asked, answered = _PAIRS[name]
    question, answer = _text(row, asked, source), _text(row, answered, source)
    if row.get("input") is not None and not isinstance(row["input"], str):
        raise DataError(f"{source}: 'input' is {type(row['input']).__name__}, not text", "write it as a string in quotes")
    if extra := _optional_text(row, "input"):
        question = f"{question}\n\n{extra}"
    return conversation([("user", question), ("assistant", answer)], source, topic, category, mode)


def _optional_text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    return value.strip() if isinstance(value, str) else ""


def _text(row: Mapping[str, object], key: str, source: Source) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise DataError(f"{source}: {key!r} is {type(value).__name__}, not text", "write it as a string in quotes")
    if not value.strip():
        raise DataError(f"{source}: {key!r} is empty", "fill it in or remove the row")
    return value


def _turns(value: object, source: Source) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{source}: 'messages' is not a list of turns", 'write [{"role": "user", "content": "..."}, ...]')
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str) or not isinstance(turn.get("content"), str):
            raise DataError(f"{source}: turn {number} has no role and content in text", 'write {"role": "user", "content": "..."}')
        turns.append((turn["role"], turn["content"]))
    return turns
