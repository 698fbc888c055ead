"""Row formats: known by their keys; a row that cannot be a conversation is refused with its place."""

import pytest

from lorikeet.conversation import Source
from lorikeet.data.formats import detect, read_row, rename
from lorikeet.errors import DataError

HERE = Source("rows.jsonl", 3)


def turns(row: dict[str, object]) -> list[tuple[str, str]]:
    (talk,) = read_row(row, HERE)
    return [(m.role, m.content) for m in talk.messages]


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
        ({"Question": "Q", "ANSWER ": "A"}, "question/answer"),
        ({"conversations": [{"from": "human", "value": "Q"}]}, "sharegpt"),
        ({"source": "He go.", "target": "He goes."}, "source/target"),
        ({"input": "He go.", "output": "He goes."}, "input/output"),
        ({"prompt": "Q", "completion": "A", "label": True}, "labelled prompt/completion"),
        ({"messages": [], "label": False}, "labelled messages"),
        ({"messages": [], "label": "good"}, "messages"),
        ({"prompt": "Q", "chosen": "A", "rejected": "B"}, "preference"),
        ({"instruction": "Q", "instances": []}, "instruction/instances"),
        ({"instruction": "Q", "input": "", "output": "A", "text": "whole"}, "instruction/output"),
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
    (row,) = read_row({"question": "Q", "answer": "A", "topic": " burn ", "category": "skin"}, HERE)
    assert (row.topic, row.category, row.source) == ("burn", "skin", HERE)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "keys: none"),
        ({"text": "x", "label": 1}, "plain text, which has no question"),
        ({"sentence": "x", "label": 1}, "keys: label, sentence"),
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
        ({"messages": [{"role": "nurse", "content": "Q"}, {"role": "gpt", "content": "A"}]}, "unknown role 'nurse'"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "function_call", "content": "{}"}]}, "turn 2 calls a tool"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [{}]}]}, "turn 2 calls a tool"),
        ({"tools": "[{}]", "question": "Q", "answer": "A"}, "the row calls tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "turn 1 has a part of type 'image_url'"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "loss_weight": 0.0}]}, "loss_weight 0"),
        ({"instruction": "Q", "instances": []}, "not a list of objects"),
        ({"instruction": "Q", "instances": [{"input": "x"}]}, "an instance has no 'output'"),
        ({"instruction": "Q", "output": "A", "history": ["x"]}, "'history' is not a list of pairs"),
        ({"prompt": "Q", "chosen": "A", "rejected": ""}, "'rejected' is empty"),
        ({"chosen": [{"role": "user", "content": "Q"}], "rejected": [{"role": "user", "content": "Q"}]}, "'rejected' does not end on the assistant"),
    ],
)
def test_a_row_that_cannot_be_a_conversation_is_refused_with_its_place(row: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl:3: .*{words}"):
        read_row(row, HERE)


@pytest.mark.parametrize("value", [7, ["Haus"], {"text": "Haus"}])
def test_an_input_that_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: 'input' is "):
        read_row({"instruction": "Translate.", "input": value, "output": "house"}, HERE)


ASKED_AND_GIVEN = [("user", "Q"), ("assistant", "A")]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, {"role": "assistant", "content": [{"type": "text", "value": "A"}]}]},
        {"messages": '[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]'},
        {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]},
        {"incorrect": "Q", "correct": "A"},
        {"instruction": "Q", "instances": [{"input": "", "output": "A"}]},
        {"question": "Q", "answer": "A", "tools": "[]"},
    ],
)
def test_every_way_of_writing_turns_gives_the_same(row: dict[str, object]) -> None:
    assert turns(row) == ASKED_AND_GIVEN


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}},
        {"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
         "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]},
        {"chosen_messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
         "rejected_messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}]},
        {"prompt": [{"role": "user", "content": "Q"}], "chosen": [{"role": "assistant", "content": "A"}], "rejected": [{"role": "assistant", "content": "B"}]},
    ],
)  # fmt: skip
def test_of_two_answers_the_chosen_one_is_learned_and_the_other_kept(row: dict[str, object]) -> None:
    assert turns(row) == ASKED_AND_GIVEN
    assert read_row(row, HERE)[0].rejected == "B"


def test_a_label_says_whether_the_answer_was_liked() -> None:
    assert [read_row({"prompt": "Q", "completion": "A", **more}, HERE)[0].liked for more in ({"label": True}, {"label": False}, {})] == [True, False, None]


def test_earlier_turns_and_a_system_turn_of_an_alpaca_row_are_kept() -> None:
    row = {"instruction": "Q2", "output": "A2", "history": [["Q1", "A1"]], "system": "S"}
    assert turns(row) == [("system", "S"), ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2")]


def test_a_row_of_several_instances_is_as_many_conversations() -> None:
    row = {"instruction": "Add.", "instances": [{"input": "1 1", "output": "2"}, {"input": "2 2", "output": "4"}]}
    assert [talk.question for talk in read_row(row, HERE)] == ["Add.\n\n1 1", "Add.\n\n2 2"]


def test_columns_name_the_keys_where_no_format_fits() -> None:
    assert rename({"frage": "Q", "antwort": "A", "id": 1}, {"question": "frage", "answer": "antwort"}, HERE) == {"id": 1, "question": "Q", "answer": "A"}
    with pytest.raises(DataError, match=r"data\.columns names 'x' as question, but the row has: frage"):
        rename({"frage": "Q"}, {"question": "x"}, HERE)
