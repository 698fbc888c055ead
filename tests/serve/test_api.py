"""The API: what it takes, what it refuses by name, and that a client who leaves stops the model."""

import asyncio
import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from ports import on_a_port

from lorikeet.bases import wheel_file
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.server import LlamaServer, PromptTooLong
from lorikeet.engine.slots import Busy
from lorikeet.errors import LorikeetError
from lorikeet.released import Served
from lorikeet.serve import api, limits
from lorikeet.serve.offer import Offer
from lorikeet.weights import NAMED

SYSTEM = "You help."


class FakeServer:
    """Answers "one two three ..." word by word, and remembers what it was asked and how often it was stopped early."""

    def __init__(self, slots: int = 2, pause: float = 0.0) -> None:
        self.slots, self.context, self.pause = slots, 100, pause
        self.asked: list[tuple[Prompt, Sampling]] = []
        self.schemas: list[Any] = []
        self.stopped = 0

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Any = None) -> Generator[dict[str, Any]]:
        self.asked.append((prompt, sampling))
        self.schemas.append(schema)
        if len(prompt[-1].content) > self.context:
            raise PromptTooLong("the conversation has 999 tokens, the model's context holds 100", "shorten the conversation")
        finished = False
        try:
            yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}]}
            for number in range(sampling.max_tokens):
                time.sleep(self.pause)
                yield {"choices": [{"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}], "model": "/secret/path"}
            yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
            yield {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": sampling.max_tokens, "total_tokens": 5 + sampling.max_tokens}}
            finished = True
        finally:
            self.stopped += not finished

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return prompt


def served(**changed: Any) -> Served:
    values: dict[str, Any] = {"path": Path("helper.gguf"), "quantisation": "Q8_0", "sha256": "ab" * 32, "approved": True, "verdict": "approved",
                              "reasons": (), "title": "Helper", "system": SYSTEM}  # fmt: skip
    return Served(**{**values, **changed})


def post(app: Any, body: Any, headers: dict[str, str] | None = None, path: str = "/v1/chat/completions") -> httpx.Response:
    """One request to the app, without a socket."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(path, content=content, headers={"Content-Type": "application/json", **(headers or {})})

    return asyncio.run(ask())


def question(**changed: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, **changed}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 5}, "top_p"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"n": 2}, "n"),
        ({"tools": []}, "tools"),
        ({"stop": ["x"]}, "stop"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(changed: dict[str, Any], field: str) -> None:
    engine = FakeServer()
    answer = post(api.create([Offer(served(), engine)]), question(**changed))
    assert answer.status_code == 422
    assert answer.json()["error"]["param"].startswith(field)
    assert field in answer.json()["error"]["message"]
    assert engine.asked == []


def test_an_unknown_model_is_404() -> None:
    answer = post(api.create([Offer(served(), FakeServer())]), question(model="gpt-9"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_bytes_that_are_not_json_are_422() -> None:
    assert post(api.create([Offer(served(), FakeServer())]), b"{nonsense").status_code == 422


def test_a_body_over_the_limit_is_413() -> None:
    assert post(api.create([Offer(served(), FakeServer())]), question(user="x" * limits.BODY_LIMIT)).status_code == 413


def test_a_body_over_the_limit_without_a_length_is_413() -> None:
    with on_a_port(api.create([Offer(served(), FakeServer())])) as address:
        pieces = (b"x" * 100_000 for _ in range(12))
        assert httpx.post(f"{address}/v1/chat/completions", content=pieces, headers={"Content-Type": "application/json"}).status_code == 413


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_longer_than_the_context_is_400_and_says_so(stream: bool) -> None:
    answer = post(api.create([Offer(served(), FakeServer())]), question(messages=[{"role": "user", "content": "x" * 200}], stream=stream))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "999 tokens" in answer.json()["error"]["message"]


def test_the_default_is_greedy_with_the_personas_system_turn() -> None:
    engine = FakeServer()
    assert post(api.create([Offer(served(), engine)]), question()).status_code == 200
    prompt, sampling = engine.asked[0]
    assert [m.as_dict() for m in prompt] == [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "hello"}]
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.0, 1.0, 3)


def test_a_system_turn_of_the_request_stays() -> None:
    engine = FakeServer()
    post(api.create([Offer(served(), engine)]), question(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]))
    assert [m.content for m in engine.asked[0][0]] == ["Be brief.", "hello"]


def test_nulls_and_text_parts_are_taken() -> None:
    engine = FakeServer()
    body = question(messages=[{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}], temperature=None, stop=None)
    assert post(api.create([Offer(served(), engine)]), body).status_code == 200
    assert engine.asked[0][0][-1].content == "hello"


def test_an_answer_has_the_openai_shape_and_no_path() -> None:
    answer = post(api.create([Offer(served(), FakeServer())]), question(model="helper"))
    assert answer.json()["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "w0 w1 w2 "}, "finish_reason": "length"}]
    assert answer.json()["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert "secret" not in answer.text
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_openai_client_reads_both_forms() -> None:
    with on_a_port(api.create([Offer(served(), FakeServer())])) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        assert [m.id for m in client.models.list()] == ["helper"]
        whole = client.chat.completions.create(model="helper", messages=[{"role": "user", "content": "hello"}], max_tokens=3)
        chunks = list(client.chat.completions.create(model="helper", messages=[{"role": "user", "content": "hello"}], max_tokens=3, stream=True,
                                                     stream_options={"include_usage": True}))  # fmt: skip
    assert whole.choices[0].message.content == "w0 w1 w2 "
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "w0 w1 w2 "
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_model(stream: bool) -> None:
    engine = FakeServer(pause=0.02)
    with on_a_port(api.create([Offer(served(), engine)])) as address:
        with (
            pytest.raises(httpx.ReadTimeout),
            httpx.stream("POST", f"{address}/v1/chat/completions", json=question(max_tokens=90, stream=stream), timeout=0.5) as answer,
        ):
            for number, _ in enumerate(answer.iter_lines()):
                if number == 5:
                    raise httpx.ReadTimeout("enough")
        deadline = time.monotonic() + 1.0  # the whole answer would take 1.8 s
        while not engine.stopped and time.monotonic() < deadline:
            time.sleep(0.02)
        assert engine.stopped == 1


def test_too_many_waiting_are_told_to_come_back() -> None:
    class Full(FakeServer):
        def chunks(self, prompt: Prompt, sampling: Sampling, schema: Any = None) -> Generator[dict[str, Any]]:
            raise Busy(7)
            yield {}

    answer = post(api.create([Offer(served(), Full())]), question())
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["error"]["code"]) == (429, "7", "busy")
    assert "about 7 seconds" in answer.json()["error"]["message"]


def test_each_model_answers_to_its_name_and_tells_what_it_is() -> None:
    first, second = FakeServer(), FakeServer()
    app = api.create([Offer(served(), first), Offer(served(path=Path("other.gguf"), approved=False, verdict="blocked"), second)])
    assert post(app, question(model="other")).json()["model"] == "other"
    assert post(app, question()).json()["model"] == "helper"
    assert (len(first.asked), len(second.asked)) == (1, 1)
    with on_a_port(app) as address:
        listed = httpx.get(f"{address}/v1/models").json()["data"]
    assert [(m["id"], m["approved"], m["verdict"]) for m in listed] == [("helper", True, "approved"), ("other", False, "blocked")]


def test_a_completion_of_the_older_kind_is_put_as_a_question() -> None:
    engine = FakeServer()
    with on_a_port(api.create([Offer(served(), engine)])) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        whole = client.completions.create(model="helper", prompt="hello", max_tokens=3)
        pieces = list(client.completions.create(model="helper", prompt="hello", max_tokens=3, stream=True))
    assert whole.choices[0].text == "w0 w1 w2 " == "".join(piece.choices[0].text for piece in pieces)
    assert [m.content for m in engine.asked[0][0]] == [SYSTEM, "hello"]


def test_a_schema_reaches_the_engine_and_a_broken_format_is_refused() -> None:
    engine = FakeServer()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    app = api.create([Offer(served(), engine)])
    assert post(app, question(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})).status_code == 200
    assert post(app, question(response_format={"type": "json_object"})).status_code == 200
    assert engine.schemas == [schema, {"type": "object"}]
    refused = post(app, question(response_format={"type": "json_schema"}))
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "response_format")


def test_who_asks_too_often_from_elsewhere_is_told_when_to_come_back() -> None:
    app = api.create([Offer(served(), FakeServer())], host="0.0.0.0", key="sesame", rate=2)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers={"Authorization": "Bearer sesame"}) as client:
            return [await client.post("/v1/chat/completions", json=question()) for _ in range(3)]

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) in (29, 30)


def test_metrics_count_answers_tokens_and_who_waits_behind_the_key() -> None:
    app = api.create([Offer(served(), FakeServer())], host="0.0.0.0", key="sesame", busy=lambda: {"helper.gguf": (2, 5)})
    with on_a_port(app) as address, httpx.Client(base_url=address) as client:
        assert client.get("/metrics").status_code == 401
        client.headers["Authorization"] = "Bearer sesame"
        client.post("/v1/chat/completions", json=question())
        told = client.get("/metrics").text
    assert 'lorikeet_requests_total{ended="whole",model="helper"} 1.0' in told
    assert 'lorikeet_tokens_total{kind="completion",model="helper"} 3.0' in told
    assert 'lorikeet_slots_busy{file="helper.gguf"} 2.0' in told
    assert 'lorikeet_waiting{file="helper.gguf"} 5.0' in told


def test_with_a_key_only_its_bearer_is_answered() -> None:
    app = api.create([Offer(served(), FakeServer())], host="0.0.0.0", key="sesame")
    assert post(app, question()).status_code == 401
    assert post(app, question(), {"Authorization": "Bearer wrong"}).status_code == 401
    assert post(app, question(), {"Authorization": "Bearer sesame"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_an_open_door_needs_a_key(host: str) -> None:
    with pytest.raises(LorikeetError, match="no key"):
        api.create([Offer(served(), FakeServer())], host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_loopback_needs_no_key(host: str) -> None:
    assert "/v1/chat/completions" in {route.path for route in api.create([Offer(served(), FakeServer())], host=host).routes}


@pytest.mark.slow
def test_the_real_engine_answers_the_openai_client_the_same_way_twice() -> None:
    path = wheel_file(NAMED["smollm2-135m"])
    assert path is not None
    engine = LlamaServer(path, threads=1, slots=2, context=512)
    try:
        model = served(path=path, sha256=NAMED["smollm2-135m"].sha256)
        with (
            on_a_port(api.create([Offer(model, engine)])) as address,
            openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120) as client,
        ):
            name = client.models.list().data[0].id
            whole = client.chat.completions.create(model=name, messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=8)
            chunks = list(
                client.chat.completions.create(model=name, messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=8, stream=True)
            )
            assert whole.choices[0].message.content
            assert whole.usage is not None
            assert whole.usage.completion_tokens == 8
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
            with pytest.raises(openai.BadRequestError, match="512"):
                client.chat.completions.create(model=name, messages=[{"role": "user", "content": "word " * 600}], max_tokens=8)
    finally:
        engine.close()
