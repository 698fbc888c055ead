"""The general panel: what a model knew before it was tuned, asked again afterwards. Questions and texts are our own, on everyday matters.

Questions are weighed as the field's benchmarks are (the likeliest choice behind "Answer:", without a chat template), texts by their loss. It is small
on purpose, a minute on two cores: it sees that a model lost its wits, and ARC and TruthfulQA tell how much (docs/evaluate.md).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lorikeet.comparison import Column
from lorikeet.engine import Choices, Weighing


class Item(NamedTuple):
    """A question with its choices, and the number of the right one."""

    id: str
    topic: str
    question: str
    choices: list[str]
    answer: int


def questions() -> list[Item]:
    """The panel's questions."""
    return [Item(**row) for row in _rows("questions.jsonl")]


def texts() -> list[tuple[str, str]]:
    """Id and text of the panel's paragraphs."""
    return [(row["id"], row["text"]) for row in _rows("texts.jsonl")]


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()]


def ask(engine: Weighing, items: Sequence[Item], paragraphs: Sequence[tuple[str, str]]) -> list[Column]:
    """general.acc: whether the right choice is the likeliest a character (the field's acc_norm); general.loss: nats a token of the paragraphs."""
    contexts = [engine.encode(f"Question: {item.question}\nAnswer:") for item in items]
    options = [[engine.encode(f" {choice}", special=False) for choice in item.choices] for item in items]
    right: dict[str, float] = {}
    for position, weighed in engine.likelihoods([Choices(c, o) for c, o in zip(contexts, options, strict=True)]):
        item = items[position]
        by_length = [found.nats / len(choice) for found, choice in zip(weighed, item.choices, strict=True)]
        right[item.id] = float(by_length.index(max(by_length)) == item.answer)
    asked = [Choices([engine.prefix_token], [engine.encode(text, special=False)]) for _, text in paragraphs]
    nats = {paragraphs[position][0]: -weighed[0].nats for position, weighed in engine.likelihoods(asked)}
    tokens = {name: float(len(choices.options[0])) for (name, _), choices in zip(paragraphs, asked, strict=True)}
    return [
        Column("general.acc", "General knowledge", right),
        Column("general.loss", "Loss on general texts", nats, weights=tokens, unit="nats a token", more_is_better=False),
    ]
