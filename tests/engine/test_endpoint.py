"""An endpoint is asked as any engine is, and what goes wrong is said with its cure."""

import time
from pathlib import Path

import pytest
import weighing_endpoint
from fake_endpoint import served

from lorikeet.conversation import Message
from lorikeet.engine import Choices, Sampling, Weighing
from lorikeet.engine.endpoint import AT_ONCE, KEY, PER_MINUTE, EndpointEngine, endpoint
from lorikeet.errors import ModelError, RecipeError

ASKED = [[Message("user", f"question {n}")] for n in range(6)]


def test_every_question_gets_its_answer() -> None:
    with served(lambda text: f"  {text}!") as (url, _):
        engine = endpoint(url)
        found = dict(engine.replies(ASKED, Sampling()))
        engine.close()
    assert {n: r.text for n, r in found.items()} == {n: f"question {n}!" for n in range(6)}
    assert engine.model == "fake"
    assert engine.tokens == 6 * 12


def test_the_key_is_sent_and_a_wrong_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(lambda text: "yes", key="right") as (url, _):
        monkeypatch.setenv(KEY, "right")
        assert EndpointEngine(url, "fake").reply(ASKED[0], Sampling()).text == "yes"
        monkeypatch.setenv(KEY, "wrong")
        with pytest.raises(ModelError, match="refuses the key") as caught:
            EndpointEngine(url, "fake").reply(ASKED[0], Sampling())
    assert KEY in caught.value.cure


@pytest.mark.parametrize(("said", "words"), [("404", "knows no such model"), ("400", "status 400")])
def test_what_the_endpoint_refuses_is_said(said: str, words: str) -> None:
    with served(lambda text: said) as (url, _), pytest.raises(ModelError, match=words):
        EndpointEngine(url, "fake").reply(ASKED[0], Sampling())


def test_one_that_is_not_there_is_said() -> None:
    with pytest.raises(ModelError, match="does not answer"):
        EndpointEngine("http://127.0.0.1:9/v1", "fake", timeout=1).reply(ASKED[0], Sampling())


def test_what_passes_is_tried_again() -> None:
    tries = []

    def busy(text: str) -> str:
        tries.append(text)
        return ("429", "503", "yes")[min(len(tries), 3) - 1]

    with served(busy) as (url, _):
        assert EndpointEngine(url, "fake").reply(ASKED[0], Sampling()).text == "yes"
    assert len(tries) == 3


def test_an_endpoint_that_stays_busy_says_how_to_ask_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorikeet.engine.endpoint.RETRIES", 0)
    with served(lambda text: "429") as (url, _), pytest.raises(ModelError, match="wants fewer requests") as caught:
        EndpointEngine(url, "fake").reply(ASKED[0], Sampling())
    assert PER_MINUTE in caught.value.cure


def test_no_more_are_under_way_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    now: list[int] = []
    most: list[int] = []

    def slow(text: str) -> str:
        now.append(1)
        most.append(len(now))
        time.sleep(0.05)
        now.pop()
        return text

    monkeypatch.setenv(AT_ONCE, "2")
    with served(slow) as (url, _):
        assert len(dict(endpoint(url).replies(ASKED, Sampling()))) == 6
    assert max(most) == 2


def test_requests_begin_as_far_apart_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PER_MINUTE, "300")
    began: list[float] = []

    def noted(text: str) -> str:
        began.append(time.monotonic())
        return text

    with served(noted) as (url, _):
        assert len(dict(EndpointEngine(url, "fake").replies(ASKED, Sampling()))) == 6
    assert max(began) - min(began) > 0.9  # 5 times 0.2 s, but for the way there


@pytest.mark.parametrize("text", ["none", "0", "-3", "1.5"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PER_MINUTE, text)
    with pytest.raises(RecipeError, match=PER_MINUTE):
        EndpointEngine("http://127.0.0.1:9/v1", "fake")


def test_one_that_tells_no_likelihoods_is_said() -> None:
    with served(lambda text: text) as (url, _), pytest.raises(ModelError, match="does not tell how likely a given text is") as caught:
        EndpointEngine(url, "fake").weighing()
    assert "vLLM" in caught.value.cure


@pytest.mark.slow
def test_likelihoods_over_the_wire_are_those_of_the_model_behind(tiny_base: Path) -> None:
    from lorikeet.engine.torch_engine import TorchEngine

    here = TorchEngine(tiny_base, None, 1)
    with weighing_endpoint.served(here) as url:
        there = EndpointEngine(url, "real").weighing()
        assert isinstance(there, Weighing)
        context = here.encode("Question: what is it?\nAnswer:")
        assert there.encode("Question: what is it?\nAnswer:") == context
        asked = [Choices(context, [here.encode(f" {word}", special=False) for word in ("yes", "no, not at all", "perhaps")])] * 3
        for (n, ours), (m, theirs) in zip(sorted(here.likelihoods(asked)), sorted(there.likelihoods(asked)), strict=True):
            assert n == m
            assert [w.nats for w in theirs] == pytest.approx([w.nats for w in ours], rel=1e-4)
            assert [w.greedy for w in theirs] == [w.greedy for w in ours]
        prompt = [Message("system", "Be brief."), Message("user", "Hello")]
        assert there.prompt_text(prompt) == here.prompt_text(prompt)
        texts, how = ["One, two,", "The sky is"], Sampling(max_tokens=8)
        assert dict(there.complete(texts, how, ["\n"])) == dict(here.complete(texts, how, ["\n"]))
    here.close()
