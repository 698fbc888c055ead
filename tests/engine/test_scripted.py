"""The scripted engine answers from its table and keeps what it was asked."""

from lorikeet.conversation import Message
from lorikeet.engine import Engine, Prompt, Reply, Sampling
from lorikeet.engine.scripted import ScriptedEngine


def asked(text: str) -> Prompt:
    return [Message("system", "S"), Message("user", "before"), Message("assistant", "hm"), Message("user", text)]


def test_it_answers_the_last_user_turn() -> None:
    engine: Engine = ScriptedEngine({"b": "two", "before": "wrong"})
    assert list(engine.replies([asked("b")], Sampling())) == [(0, Reply("two", 1, True))]


def test_it_answers_otherwise_what_it_does_not_know() -> None:
    assert [r.text for _, r in ScriptedEngine({}, otherwise="No idea.").replies([asked("x")], Sampling())] == ["No idea."]


def test_it_streams_the_answer_in_pieces_that_join_to_it() -> None:
    pieces = list(ScriptedEngine({"a": "One two\nthree."}).stream(asked("a"), Sampling()))
    assert len(pieces) == 2
    assert "".join(pieces) == "One two\nthree."


def test_it_keeps_what_it_was_asked() -> None:
    engine = ScriptedEngine({})
    list(engine.replies([asked("a"), asked("b")], Sampling()))
    assert engine.asked == ["a", "b"]


def test_it_cuts_at_the_cap() -> None:
    ((_, reply),) = ScriptedEngine({"a": "one two three"}).replies([asked("a")], Sampling(max_tokens=2))
    assert (reply.text, reply.ended) == ("one two", False)


def test_a_cut_reply_is_as_long_as_what_is_left() -> None:
    ((_, reply),) = ScriptedEngine({"a": "one two three"}).replies([asked("a")], Sampling(max_tokens=2))
    assert reply.tokens == 2


def test_a_reply_keeps_its_lines() -> None:
    ((_, reply),) = ScriptedEngine({"a": "Do not rub\nCall 911"}).replies([asked("a")], Sampling())
    assert reply.text == "Do not rub\nCall 911"


def test_an_empty_reply_has_no_length() -> None:
    assert list(ScriptedEngine({"a": ""}).replies([asked("a")], Sampling())) == [(0, Reply("", 0, True))]
