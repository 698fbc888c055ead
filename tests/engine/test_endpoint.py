"""An endpoint is asked as any engine is, and what goes wrong is said with its cure."""

import pytest
from fake_endpoint import served

from lorikeet.conversation import Message
from lorikeet.engine import Sampling
from lorikeet.engine.endpoint import KEY, EndpointEngine, endpoint
from lorikeet.errors import ModelError

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
