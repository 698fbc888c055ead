"""Conversations: roles and their order are checked, and every error names its place."""

import pytest

from lorikeet.conversation import Message, Source, conversation
from lorikeet.errors import DataError

HERE = Source("rows.jsonl", 7)


def test_a_question_and_its_answer_are_a_conversation() -> None:
    talk = conversation([("user", "Hot?"), ("assistant", "Yes.")], HERE)
    assert (talk.question, talk.answer) == ("Hot?", "Yes.")


def test_question_and_answer_are_the_last_turns() -> None:
    talk = conversation([("system", "S"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")], HERE)
    assert (talk.question, talk.answer) == ("3", "4")


def test_space_around_a_turn_is_dropped_and_space_inside_is_kept() -> None:
    talk = conversation([("user", "  a\n\nb \n"), ("assistant", "\tc")], HERE)
    assert [m.content for m in talk.messages] == ["a\n\nb", "c"]


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([], "no answer"),
        ([("system", "S")], "no answer"),
        ([("user", "Q")], "does not end on the assistant"),
        ([("user", "Q"), ("assistant", "A"), ("user", "Q")], "does not end on the assistant"),
        ([("assistant", "A")], "turn 1 is 'assistant' where 'user'"),
        ([("user", "Q"), ("user", "Q"), ("assistant", "A")], "turn 2 is 'user' where 'assistant'"),
        ([("user", "Q"), ("system", "S"), ("assistant", "A")], "turn 2 is 'system' where 'assistant'"),
        ([("user", "Q"), ("tool", "T"), ("assistant", "A")], "unknown role 'tool'"),
        ([("User", "Q"), ("assistant", "A")], "unknown role 'User'"),
        ([("user", "Q"), ("assistant", " \n\t")], r"turn 2 \(assistant\) is empty"),
        ([("system", " "), ("user", "Q"), ("assistant", "A")], r"turn 1 \(system\) is empty"),
    ],
)
def test_turns_that_are_no_conversation_are_refused(turns: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        conversation(turns, HERE)


def test_a_refusal_names_file_and_line() -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:7: "):
        conversation([("user", "Q")], HERE)


def test_a_turn_out_of_order_is_counted_with_the_system_turn() -> None:
    with pytest.raises(DataError, match="turn 3 is 'user'"):
        conversation([("system", "S"), ("user", "Q"), ("user", "Q"), ("assistant", "A")], HERE)
    with pytest.raises(DataError, match="turn 2 is 'assistant'"):
        conversation([("system", "S"), ("assistant", "A")], HERE)


def test_a_system_prompt_is_put_in_front() -> None:
    talk = conversation([("user", "Q"), ("assistant", "A")], HERE, "burn", "skin").with_system("Be kind.")
    assert talk.messages[0] == Message("system", "Be kind.")
    assert (len(talk.messages), talk.source, talk.topic, talk.category) == (3, HERE, "burn", "skin")


def test_a_row_keeps_its_own_system_turn() -> None:
    talk = conversation([("system", "Mine"), ("user", "Q"), ("assistant", "A")], HERE)
    assert talk.with_system("Yours") is talk


def test_an_empty_system_prompt_adds_no_turn() -> None:
    talk = conversation([("user", "Q"), ("assistant", "A")], HERE)
    assert talk.with_system("") is talk


def test_a_turns_text_is_composed_so_that_every_tokenizer_reads_the_same() -> None:
    decomposed = "cafe\u0301 \u1100\u1161"
    assert Message("user", decomposed).content == "caf\u00e9 \uac00"
    assert conversation([("user", decomposed), ("assistant", "A")], Source("rows.jsonl", 1)).question == "caf\u00e9 \uac00"
