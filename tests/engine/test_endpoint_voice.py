"""An endpoint behind the page: streamed, cut to its context, guarded as any model is, and served under the persona of a run, unreleased."""

import contextlib
from pathlib import Path

import pytest
from fake_endpoint import served
from toy_release import released_run

from lorikeet import released
from lorikeet.conversation import Message
from lorikeet.engine import Sampling
from lorikeet.engine.endpoint import EndpointEngine
from lorikeet.engine.endpoint_voice import EndpointVoice
from lorikeet.engine.server import CONTEXT
from lorikeet.errors import ModelError, RefusedError

ASKED = [Message("system", "Be kind."), Message("user", "What now?")]


def test_an_answer_comes_in_pieces_with_its_counts() -> None:
    with served(lambda text: "Sit down and wait.") as (url, asked):
        voice = EndpointVoice(EndpointEngine(url, "fake"))
        chunks = list(voice.chunks(ASKED, Sampling()))
        assert list(voice.stream(ASKED, Sampling())) == ["Sit ", "down ", "and ", "wait."]
        voice.close()
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert asked == ["What now?", "What now?"]


def test_an_answer_may_be_left_in_the_middle() -> None:
    with served(lambda text: "word " * 5000) as (url, _):
        voice = EndpointVoice(EndpointEngine(url, "fake"))
        with contextlib.closing(voice.stream(ASKED, Sampling())) as pieces:
            assert next(pieces) == "word "
        assert next(voice.stream(ASKED, Sampling())) == "word "


def test_what_the_endpoint_refuses_is_said() -> None:
    with served(lambda text: "404") as (url, _), pytest.raises(ModelError, match="knows no such model"):
        list(EndpointVoice(EndpointEngine(url, "fake")).stream(ASKED, Sampling()))


def test_the_oldest_turns_go_where_a_conversation_grows_too_long() -> None:
    with served(lambda text: "") as (url, _):
        voice = EndpointVoice(EndpointEngine(url, "fake"))
    assert voice.context == CONTEXT
    turns = [message for n in range(20) for message in (Message("user", f"{n} " + "word " * 100), Message("assistant", "yes"))]
    kept = voice.fitting([ASKED[0], *turns, ASKED[1]], 512)
    assert kept[0] == ASKED[0]
    assert kept[-1] == ASKED[1]
    assert 2 < len(kept) < 42
    assert sum(len(m.content) for m in kept) / 3 + 512 <= CONTEXT


def test_it_speaks_as_a_run_s_assistant_and_only_unreleased(tmp_path: Path) -> None:
    run = released_run(tmp_path)
    with pytest.raises(RefusedError, match="another model tomorrow"):
        released.behind(run, "http://127.0.0.1:9/v1#org/fake-1.5b", unreleased=False)
    found = released.behind(run, "http://127.0.0.1:9/v1#org/fake-1.5b", unreleased=True)
    first = released.find(run, unreleased=True)
    assert (found.name, found.size, found.approved) == ("fake-1.5b", "127.0.0.1:9", False)
    assert (found.system, found.title, found.run_dir) == (first.system, first.title, first.run_dir)
    assert found.answering_sha256 != first.answering_sha256
