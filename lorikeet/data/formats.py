"""Row formats, known by their keys. A row in, conversations out; a row that cannot be one is refused with its place.

Names of keys are compared without regard to case. `columns` of a recipe says which of a row's keys is which where no format fits.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, NoReturn

from lorikeet.conversation import Conversation, Source, conversation
from lorikeet.errors import DataError

Row = Mapping[str, object]
Turns = list[tuple[str, str]]


class Format(NamedTuple):
    """A format's name and why a file was taken for it."""

    name: str
    why: str


ASKED = {
    "question": ("answer", "response", "output"),
    "instruction": ("output", "response", "answer", "completion"),
    "prompt": ("completion", "response", "answer", "output"),
    "query": ("response", "answer"),
    "user": ("assistant",),
    "source": ("correction", "target"),
    "incorrect": ("correct", "corrected"),
    "original": ("corrected", "correction"),
    "wrong": ("right",),
    "draft": ("correction", "corrected"),
    "input": ("output", "target"),
}
"""Keys of what is asked, and the keys of what answers it, in the order in which they are looked for."""
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant", "ai": "assistant"}
_TOOLS = ("tool", "function", "function_call", "tool_call", "observation", "function_response", "ipython")
_TURNS = ("messages", "conversations", "conversation")
_CURE = "use messages; question and answer; or instruction, input and output (docs/data.md); or name the columns: data.columns"


def detect(row: Row, source: Source) -> Format:
    """The format of a row, by its keys; DataError names the keys where none fits."""
    return _format_of(_lower(row), source)


def _format_of(row: Row, source: Source) -> Format:
    if ("chosen" in row and "rejected" in row) or ("chosen_messages" in row and "rejected_messages" in row):
        return Format("preference", "rows have an answer 'chosen' and one 'rejected'")
    for key in _TURNS:
        if key in row:
            return _of_turns(row, key)
    if "instruction" in row and "instances" in row:
        return Format("instruction/instances", "rows have the keys 'instruction' and 'instances'")
    if pair := _pair(row):
        labelled = isinstance(row.get("label"), bool)
        return Format("labelled " * labelled + "/".join(pair), f"rows have the keys {pair[0]!r} and {pair[1]!r}" + ", and 'label' is true or false" * labelled)
    for asked, answers in ASKED.items():
        if asked in row and asked != "input":
            raise DataError(f"{source}: the row has a {asked!r} but no {answers[0]!r}: it has no answer", "fill it in or remove the row")
    if "text" in row:
        raise DataError(f"{source}: plain text, which has no question and answer to learn from", "write rows: question and answer, or messages (docs/data.md)")
    raise DataError(f"{source}: no known format has the keys: {', '.join(sorted(map(str, row))) or 'none'}", _CURE)


def _of_turns(row: Row, key: str) -> Format:
    turns = row[key]
    first = next((t for t in turns if isinstance(t, dict)), {}) if isinstance(turns, list) else {}
    why = f"rows have the key {key!r}"
    if "from" in first:
        return Format("sharegpt", f"{why} with turns of 'from' and 'value'")
    parts = isinstance(first.get("content"), list)
    labelled = isinstance(row.get("label"), bool)
    return Format("labelled " * labelled + "messages", why + ", with content as a list of parts" * parts + ", and 'label' is true or false" * labelled)


def _pair(row: Row) -> tuple[str, str] | None:
    return next(((asked, answer) for asked, answers in ASKED.items() if asked in row for answer in answers if answer in row), None)


def rename(row: Row, columns: Mapping[str, str], source: Source) -> Row:
    """The row with the keys that `columns` names (ours: theirs) under our names. DataError where the row has no such key."""
    for ours, theirs in columns.items():
        if theirs not in row:
            keys = ", ".join(map(str, row))
            raise DataError(f"{source}: data.columns names {theirs!r} as {ours}, but the row has: {keys}", "correct data.columns")
    taken = set(columns.values())
    return {**{key: value for key, value in row.items() if key not in taken and key not in columns}, **{o: row[t] for o, t in columns.items()}}


def read_row(row: Row, source: Source) -> list[Conversation]:
    """The conversations of one row, mostly one; DataError with file and line where the row cannot be any."""
    row = _lower(row)
    name = _format_of(row, source).name
    topic, category, mode = (_optional_text(row, key) for key in ("topic", "category", "mode"))
    _no_tools(row, source)
    if name == "instruction/instances":
        return [conversation(turns, source, topic, category, mode) for turns in _instances(row, source)]
    if name == "preference":
        turns, rejected = _preference(row, source)
        return [replace(conversation(turns, source, topic, category, mode), rejected=rejected)]
    key = next((key for key in _TURNS if key in row), "")
    turns = _turns(row[key], key, source) if key else _asked_and_answered(row, source)
    if turns[0][0] != "system" and (system := _optional_text(row, "system")):
        turns = [("system", system), *turns]
    liked = row["label"] if name.startswith("labelled ") else None
    return [replace(conversation(turns, source, topic, category, mode), liked=liked if isinstance(liked, bool) else None)]


def _lower(row: Row) -> Row:
    return {key.strip().lower() if isinstance(key, str) else str(key): value for key, value in row.items()}


def _no_tools(row: Row, source: Source) -> None:
    tools = row.get("tools")
    if tools and tools not in ("[]", "null"):
        raise DataError(f"{source}: the row calls tools (it has the key 'tools'), which cannot be learned yet", "remove the row, or what concerns tools in it")


def _asked_and_answered(row: Row, source: Source) -> Turns:
    pair = _pair(row)
    assert pair is not None, "detect has found one"
    asked, answered = pair
    if isinstance(row[asked], list) and isinstance(row[answered], list):  # TRL's conversational prompt and completion
        return [*_turns(row[asked], asked, source), *_turns(row[answered], answered, source)]
    question, answer = _text(row, asked, source), _text(row, answered, source)
    for key in ("input", "context"):
        if key in row and key not in pair:
            if row[key] is not None and not isinstance(row[key], str):
                _not_text(row, key, source)
            if extra := _optional_text(row, key):
                question = f"{question}\n\n{extra}"
    return [*_history(row, source), ("user", question), ("assistant", answer)]


def _history(row: Row, source: Source) -> Turns:
    """Earlier turns of an Alpaca row: [[question, answer], ...]."""
    earlier = row.get("history") or []
    if not isinstance(earlier, list) or not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair) for pair in earlier):
        raise DataError(f"{source}: 'history' is not a list of pairs of texts", 'write [["question", "answer"], ...]')
    return [turn for question, answer in earlier for turn in (("user", question), ("assistant", answer))]


def _instances(row: Row, source: Source) -> list[Turns]:
    """Self-instruct's rows: one instruction, and a list of inputs with their outputs."""
    cases = row["instances"]
    if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
        raise DataError(f"{source}: 'instances' is not a list of objects", 'write [{"input": "...", "output": "..."}, ...]')
    if any("output" not in _lower(case) for case in cases):
        raise DataError(f"{source}: an instance has no 'output'", "fill it in or remove the instance")
    return [_asked_and_answered({"instruction": row["instruction"], **_lower(case)}, source) for case in cases]


def _preference(row: Row, source: Source) -> tuple[Turns, str]:
    """The conversation that ends on the chosen answer, and the text of the rejected one."""
    if "chosen_messages" in row:
        chosen, rejected = (_turns(row[key], key, source) for key in ("chosen_messages", "rejected_messages"))
        return chosen, _last(rejected, "rejected_messages", source)
    before = next((_turns(row[key], key, source) for key in (*_TURNS, "prompt") if isinstance(row.get(key), list)), [])
    if not before and "prompt" in row:
        before = [("user", _text(row, "prompt", source))]
    sides = [_side(row, key, source) for key in ("chosen", "rejected")]
    chosen, rejected = sides
    return ([*before, *chosen] if len(chosen) == 1 else chosen), _last(rejected, "rejected", source)


def _side(row: Row, key: str, source: Source) -> Turns:
    value = row[key]
    if isinstance(value, str):
        return [("assistant", _text(row, key, source))]
    return _turns([value] if isinstance(value, dict) else value, key, source)


def _last(turns: Turns, key: str, source: Source) -> str:
    if turns[-1][0] != "assistant":
        raise DataError(f"{source}: {key!r} does not end on the assistant", "end it on the answer")
    return turns[-1][1]


def _optional_text(row: Row, key: str) -> str:
    value = row.get(key)
    return value.strip() if isinstance(value, str) else ""


def _text(row: Row, key: str, source: Source) -> str:
    value = row[key]
    if not isinstance(value, str):
        _not_text(row, key, source)
    if not value.strip():
        raise DataError(f"{source}: {key!r} is empty", "fill it in or remove the row")
    return value


def _not_text(row: Row, key: str, source: Source) -> NoReturn:
    raise DataError(f"{source}: {key!r} is {type(row[key]).__name__}, not text", "write it as a string in quotes")


def _turns(value: object, key: str, source: Source) -> Turns:
    """Turns as (role, text), whatever their keys are called."""
    if isinstance(value, str) and value.lstrip().startswith("["):  # a table's cell can hold JSON
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"{source}: {key!r} is not valid JSON: {error}", "write a list of turns") from error
    if not isinstance(value, list) or not value:
        raise DataError(f"{source}: {key!r} is not a list of turns", 'write [{"role": "user", "content": "..."}, ...]')
    return [_turn(turn, number, source) for number, turn in enumerate(value, 1)]


def _turn(turn: object, number: int, source: Source) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise DataError(f"{source}: turn {number} has no role and content", 'write {"role": "user", "content": "..."}')
    role, said = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if (isinstance(role, str) and role in _TOOLS) or turn.get("tool_calls"):
        raise DataError(f"{source}: turn {number} calls a tool ({role}), which cannot be learned yet", "remove the row, or the turns that concern tools")
    if isinstance(said, list):
        said = _joined(said, number, source)
    if not isinstance(role, str) or not isinstance(said, str):
        raise DataError(f"{source}: turn {number} has no role and content in text", 'write {"role": "user", "content": "..."}')
    role = _ROLES.get(role, role)
    if role == "assistant" and turn.get("loss_weight") in (0, 0.0, False):
        raise DataError(f"{source}: turn {number} is an answer with loss_weight 0, but every answer gets loss", "remove the turn, or its loss_weight")
    return role, said


def _joined(parts: Sequence[object], number: int, source: Source) -> str:
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
        text = part.get("text", part.get("value")) if isinstance(part, dict) else None
        if kind != "text" or not isinstance(text, str):
            raise DataError(f"{source}: turn {number} has a part of type {kind!r}; only text can be learned", "remove the row, or the part")
        texts.append(text)
    return "".join(texts)
