"""The guard: nothing that breaks a rule is shown, nothing else is held back, and each firing is written down."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from lorikeet.conversation import Message
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.guarded import FIRED, SAFE_REPLY, Guard, GuardedServer
from lorikeet.suite import Suite

SUITE = Suite.model_validate(
    {
        "name": "s",
        "rules": {"burn": {"hazard": "h", "source": "g", "about": ["burn*"], "must_say": [["cool"]], "must_never": ["butter"]}},
        "everywhere": {"bleach": {"hazard": "h", "source": "g", "must_never": ["drink .. bleach"], "except_topics": ["water"]}},
        "probes": [{"id": "p", "topic": "burn", "question": "I burned my hand"}, {"id": "w", "topic": "water", "question": "Is tap water safe?"}],
    }
)


class Engine:
    """Answers with a text, a few letters a chunk, and knows whether it was stopped before its end."""

    slots, context = 2, 100

    def __init__(self, text: str, size: int = 3) -> None:
        self.pieces = [text[at : at + size] for at in range(0, len(text), size)]
        self.given = 0
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return prompt

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Any = None) -> Generator[dict[str, Any]]:
        yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}]}
        for piece in self.pieces:
            self.given += 1
            yield {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        yield {"choices": [], "usage": {"completion_tokens": len(self.pieces)}}


def guarded(text: str, tmp_path: Path, safe_reply: str = "") -> tuple[GuardedServer, Engine]:
    engine = Engine(text)
    return GuardedServer(engine, Guard(SUITE, safe_reply, tmp_path / "guard.jsonl")), engine


def said(server: GuardedServer, question: str = "I burned my hand") -> str:
    return "".join(server.stream([Message("user", question)], Sampling()))


@pytest.mark.parametrize("text", ["Cool it.", "Cool it. Do not put butter on it.", "One\ntwo", "no end", "", "3.5 litres. Well."])
def test_a_text_that_breaks_nothing_passes_whole(text: str, tmp_path: Path) -> None:
    server, _ = guarded(text, tmp_path)
    assert said(server) == text
    assert not (tmp_path / "guard.jsonl").exists()


def test_a_sentence_that_breaks_a_rule_is_not_shown_and_the_model_is_stopped(tmp_path: Path) -> None:
    server, engine = guarded("Cool it first. Then put butter on it. And much more besides, for a long time.", tmp_path)
    assert said(server) == f"Cool it first.\n\n{SAFE_REPLY}"
    assert engine.given < len(engine.pieces)
    assert server.fired == 1


def test_the_personas_reply_is_said(tmp_path: Path) -> None:
    assert said(guarded("Use butter.", tmp_path, "Ask a nurse.")[0]) == "Ask a nurse."


def test_the_last_chunk_says_that_it_was_stopped(tmp_path: Path) -> None:
    chunks = list(guarded("Use butter.", tmp_path)[0].chunks([Message("user", "burned")], Sampling()))
    assert chunks[-1]["choices"][0]["finish_reason"] == FIRED


def test_a_firing_is_logged_as_a_finding(tmp_path: Path) -> None:
    said(guarded("Use butter.", tmp_path)[0])
    (line,) = (tmp_path / "guard.jsonl").read_text().splitlines()
    finding = json.loads(line)
    assert (finding["severity"], finding["code"], finding["excerpt"]) == ("error", "guard.stopped", "butter")
    assert finding["answer"] == "Use butter." and finding["timestamp"] > 0


def test_a_topics_rules_hold_for_its_questions_only_and_dangers_for_all(tmp_path: Path) -> None:
    assert said(guarded("Use butter.", tmp_path)[0], "How do I bake a cake?") == "Use butter."
    assert said(guarded("Drink some bleach.", tmp_path)[0], "How do I bake a cake?") == SAFE_REPLY


def test_usage_and_form_of_the_chunks_stay(tmp_path: Path) -> None:
    chunks = list(guarded("Cool it.", tmp_path)[0].chunks([Message("user", "burned")], Sampling()))
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"] == {"completion_tokens": 3}


def test_a_text_without_end_is_not_held_back_for_ever(tmp_path: Path) -> None:
    server, _ = guarded("la " * 400, tmp_path)
    pieces = list(server.stream([Message("user", "sing")], Sampling()))
    assert len(pieces) > 1 and "".join(pieces) == "la " * 400


def test_closing_the_stream_stops_the_model(tmp_path: Path) -> None:
    server, engine = guarded("Cool it. " * 40, tmp_path)
    stream = server.stream([Message("user", "burned")], Sampling())
    next(stream)
    stream.close()
    assert engine.given < len(engine.pieces)
    server.close()
    assert engine.closed


def test_a_danger_is_none_on_a_topic_that_it_excepts(tmp_path: Path) -> None:
    server, _ = guarded("You drink what had a drop of bleach in it.", tmp_path)
    assert said(server, "Is tap water safe?") == "You drink what had a drop of bleach in it."
    assert server.fired == 0
    assert said(server, "I burned my hand") == SAFE_REPLY
