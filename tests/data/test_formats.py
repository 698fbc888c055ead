"""Row formats: known by their keys; a row that cannot be a conversation is refused with its place."""

import pytest

from lorikeet.conversation import Source
from lorikeet.data.formats import detect, read_row
from lorikeet.errors import DataError

HERE = Source("rows.jsonl", 3)


def turns(row: dict[str, object]) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in read_row(row, HERE).messages]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": []}, "messages"),
        ({"question": "Q", "answer": "A"}, "question/answer"),
        ({"prompt": "Q", "completion": "A"}, "prompt/completion"),
        ({"instruction": "Q", "output": "A"}, "instruction/output"),
        ({"instruction": "Q", "response": "A"}, "instruction/response"),
        ({"messages": [], "question": "Q", "answer": "A"}, "messages"),
        ({"question": "Q", "prompt": "Q", "completion": "A"}, "prompt/completion"),
    ],
)
def test_a_format_is_known_by_its_keys(row: dict[str, object], name: str) -> None:
    assert detect(row, HERE).name == name


def test_a_format_says_why_it_was_taken() -> None:
    assert detect({"question": "Q", "answer": "A"}, HERE).why == "rows have the keys 'question' and 'answer'"


@pytest.mark.parametrize(("asked", "answered"), [("question", "answer"), ("prompt", "completion"), ("instruction", "output"), ("instruction", "response")])
def test_every_pair_becomes_two_turns(asked: str, answered: str) -> None:
    assert turns({asked: "Q?", answered: "A."}) == [("user", "Q?"), ("assistant", "A.")]


def test_the_input_of_an_instruction_follows_it_after_a_blank_line() -> None:
    assert turns({"instruction": "Translate.", "input": "Haus", "output": "house"})[0] == ("user", "Translate.\n\nHaus")


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_input_adds_nothing(empty: str | None) -> None:
    assert turns({"instruction": "Go.", "input": empty, "output": "Gone."})[0] == ("user", "Go.")


def test_messages_are_taken_turn_by_turn() -> None:
    row = {"messages": [{"role": r, "content": c} for r, c in (("system", "S"), ("user", "Q"), ("assistant", "A"))]}
    assert turns(row) == [("system", "S"), ("user", "Q"), ("assistant", "A")]


def test_topic_and_category_are_kept() -> None:
    row = read_row({"question": "Q", "answer": "A", "topic": " burn ", "category": "skin"}, HERE)
    assert (row.topic, row.category, row.source) == ("burn", "skin", HERE)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "keys: none"),
        ({"text": "x", "label": 1}, "keys: label, text"),
        ({"answer": "A"}, "keys: answer"),
        ({"question": "Q"}, "'question' but no 'answer'"),
        ({"instruction": "Q", "input": "x"}, "'instruction' but no 'output'"),
        ({"question": "Q", "answer": None}, "'answer' is NoneType"),
        ({"question": "Q", "answer": ["A"]}, "'answer' is list"),
        ({"question": 7, "answer": "A"}, "'question' is int"),
        ({"question": " ", "answer": "A"}, "'question' is empty"),
        ({"question": "Q", "answer": ""}, "'answer' is empty"),
        ({"messages": []}, "not a list of turns"),
        ({"messages": "Q"}, "not a list of turns"),
        ({"messages": ["Q"]}, "turn 1 has no role and content"),
        ({"messages": [{"role": "user"}]}, "turn 1 has no role and content"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": None}]}, "turn 2 has no role and content"),
        ({"messages": [{"role": "user", "content": "Q"}]}, "does not end on the assistant"),
        ({"messages": [{"role": "human", "content": "Q"}, {"role": "gpt", "content": "A"}]}, "unknown role 'human'"),
    ],
)
def test_a_row_that_cannot_be_a_conversation_is_refused_with_its_place(row: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl:3: .*{words}"):
        read_row(row, HERE)


@pytest.mark.parametrize("value", [7, ["Haus"], {"text": "Haus"}])
def test_an_input_that_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: 'input' is "):
        read_row({"instruction": "Translate.", "input": value, "output": "house"}, HERE)
