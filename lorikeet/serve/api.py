"""An OpenAI-compatible API over the models that are served, by their names: validation, the key, the limits, the wire format. The page is app.py's.

Requests reach the engine in this process. What the engine does not do is refused by name, never ignored.
"""

import ipaddress
import json
import math
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import anyio
import prometheus_client
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorikeet import conversation
from lorikeet.conversation import Role
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.server import Chunk, PromptTooLong, Schema
from lorikeet.engine.slots import Busy
from lorikeet.errors import LorikeetError, ModelError, RecipeError
from lorikeet.released import Served

BODY_LIMIT = 1 << 20
"""Bytes of one request; a full context of 2048 tokens is some 10 KB."""
RATE = 120
"""Requests a minute that one address may make, beyond this machine."""
ANSWER_TOKENS = 512
SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
"""Bounds of the histograms of /metrics."""


class Model(Protocol):
    """What serving asks of a model: a Voice of a fleet, guarded or not."""

    slots: int
    context: int

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Schema | None = None) -> Generator[Chunk]:
        """OpenAI chat completion chunks, and empty ones while it waits; closing the generator stops the model. Busy where too many wait."""

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        """The prompt without its oldest turns, so that `room` tokens are left."""

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """How belief is shared among options of one token each as the answer's beginning."""


class Offer(NamedTuple):
    """A model that is served: the file and the persona it speaks as, and what answers."""

    served: Served
    model: Model


class TextPart(BaseModel):
    """A piece of a turn; only text is understood."""

    type: Literal["text"]
    text: str


class Turn(BaseModel):
    """One message of a request."""

    role: Role
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """include_usage: end the stream with a chunk that counts the tokens."""

    include_usage: bool = False


class SchemaFormat(BaseModel):
    """What OpenAI calls a response format of type json_schema."""

    name: str = ""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(BaseModel):
    """The form of an answer: text, any JSON object, or JSON by a schema."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None

    @model_validator(mode="after")
    def _whole(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema stands with the type json_schema, and only there")
        return self

    @property
    def schema_(self) -> Schema | None:
        return {"type": "object"} if self.type == "json_object" else self.json_schema.schema_ if self.json_schema else None


class Wanted(BaseModel):
    """What every completion request may say. Keys with null count as left out; `n` and the penalties are taken at their neutral value only."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    temperature: float = Field(0.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)
    max_tokens: int = Field(ANSWER_TOKENS, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: Literal[1] = 1
    frequency_penalty: Literal[0] = 0
    presence_penalty: Literal[0] = 0
    user: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: object) -> object:
        return {key: value for key, value in raw.items() if value is not None} if isinstance(raw, dict) else raw


class Ask(Wanted):
    """A chat completion request. mode is ours: the persona's mode, by default its first."""

    messages: list[Turn] = Field(min_length=1)
    response_format: ResponseFormat = ResponseFormat(type="text")
    mode: str = ""


class Complete(Wanted):
    """A completion request of the older kind: its prompt is put as a question to the assistant, since a tuned model knows nothing but its template."""

    prompt: Annotated[str, Field(min_length=1)]
    echo: Literal[False] = False
    best_of: Literal[1] = 1


class BodyLimit:
    """Answers 413 to bodies over the limit, whether their length is announced or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(announced) > self._limit:
            await _error(413, self._message, "request_too_large")(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                raise HTTPException(413, self._message)
            return message

        await self._app(scope, counted, send)

    @property
    def _message(self) -> str:
        return f"the body is larger than {self._limit} bytes"


class Limit:
    """How many requests each address may make a minute: a bucket that fills evenly."""

    def __init__(self, a_minute: int) -> None:
        self._most = a_minute
        self._left: dict[str, tuple[float, float]] = {}

    def check(self, address: str) -> None:
        """HTTPException 429 where the address has asked too often, with the time after which it may again."""
        now = time.monotonic()
        left, then = self._left.get(address, (float(self._most), now))
        left = min(self._most, left + (now - then) * self._most / 60)
        if left < 1:
            seconds = math.ceil((1 - left) * 60 / self._most)
            raise HTTPException(429, f"more than {self._most} requests a minute; ask again in {seconds} seconds", {"Retry-After": str(seconds)})
        if len(self._left) > 10_000:
            self._left = {key: value for key, value in self._left.items() if now - value[1] < 60}
        self._left[address] = (left - 1, now)


class Meters:
    """What /metrics tells, in Prometheus' form."""

    def __init__(self) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        self.requests = Counter("lorikeet_requests", "Answers asked for, by model and how they ended", ["model", "ended"], registry=registry)
        self.tokens = Counter("lorikeet_tokens", "Tokens read and written", ["model", "kind"], registry=registry)
        self.seconds = Histogram("lorikeet_answer_seconds", "From the request to the answer's end", ["model"], registry=registry, buckets=SECONDS)
        self.first = Histogram("lorikeet_first_token_seconds", "From the request to the first token", ["model"], registry=registry, buckets=SECONDS)
        self.answering = Gauge("lorikeet_answering", "Answers being written or waited for", registry=registry)


async def _asked(request: Request, offer: Offer, prompt: Prompt, sampling: Sampling, schema: Schema | None, meters: Meters) -> AsyncGenerator[Chunk]:
    """The model's chunks but for the empty ones; ends, and stops the model, when the client has gone or the generator is closed."""
    name, begun, ended = offer.served.name, time.monotonic(), "left"
    chunks = offer.model.chunks(prompt, sampling, schema)
    meters.answering.inc()
    try:
        while (chunk := await anyio.to_thread.run_sync(next, chunks, None)) is not None:
            if chunk["choices"] and ended == "left":
                meters.first.labels(name).observe(time.monotonic() - begun)
                ended = "cut off"
            if "usage" in chunk:
                for kind in ("prompt", "completion"):
                    meters.tokens.labels(name, kind).inc(chunk["usage"].get(f"{kind}_tokens", 0))
            if chunk["choices"] or "usage" in chunk:
                yield chunk
            if await request.is_disconnected():
                return
        ended = "whole"
    except Busy:
        ended = "busy"
        raise
    except LorikeetError:
        ended = "refused"
        raise
    finally:
        meters.answering.dec()
        meters.requests.labels(name, ended).inc()
        meters.seconds.labels(name).observe(time.monotonic() - begun)
        chunks.close()


class EventStream(StreamingResponse):
    """Server-sent events that are closed, and with them the model stopped, however the response ends."""

    def __init__(self, events: AsyncGenerator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._events.aclose()


def check_door(host: str, key: str | None) -> None:
    """LorikeetError where others than this machine could come in without a key."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not key:
        raise LorikeetError(f"serving on {host} lets other machines in, and no key is set", "add --key SECRET, or leave --host at 127.0.0.1")


def create(offers: Sequence[Offer], *, host: str = "127.0.0.1", key: str | None = None, rate: int = RATE) -> FastAPI:
    """The API over these models, the first of which answers where none is named. No CORS header is ever sent, so that pages of other sites cannot read answers.

    rate: requests a minute that one address may make, beyond this machine.
    """
    check_door(host, key)
    app = FastAPI(title=offers[0].served.title, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit, limit=BODY_LIMIT)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(LorikeetError, _failed)
    by_name, created, limit, meters = {offer.served.name: offer for offer in offers}, int(time.time()), Limit(rate), Meters()

    async def admitted(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if key and not (given and secrets.compare_digest(given.credentials.encode(), key.encode())):
            raise HTTPException(401, "the key is missing or wrong", {"WWW-Authenticate": "Bearer"})
        if request.client and not _is_here(request.client.host):
            limit.check(request.client.host)

    def named(model: str | None) -> Offer:
        if model is not None and model not in by_name:
            raise HTTPException(404, f"the model {model!r} does not exist; this server has {', '.join(map(repr, by_name))}")
        return by_name[model] if model is not None else offers[0]

    @app.get("/health")
    async def health() -> dict[str, object]:
        first = offers[0].served
        return {"status": "ok", "model": first.name, "sha256": first.sha256, "approved": first.approved}

    @app.get("/metrics", dependencies=[Depends(admitted)])
    async def metrics() -> Response:
        return Response(prometheus_client.generate_latest(meters.registry), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.get("/v1/models", dependencies=[Depends(admitted)])
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [_listed(offer.served, created) for offer in offers]}

    @app.get("/v1/models/{model}", dependencies=[Depends(admitted)])
    async def one_model(model: str) -> dict[str, object]:
        return _listed(named(model).served, created)

    async def answer(request: Request, ask: Wanted, prompt: Prompt, schema: Schema | None, form: Form) -> Response:
        offer = named(ask.model)
        chunks = _asked(request, offer, prompt, _sampling(ask, offer.model.context), schema, meters)
        first = await anext(chunks, None)  # errors come before the first token, while there is still a status to send
        if first is None:  # the client has gone
            return Response(status_code=499)
        head = {"id": f"{form.id}-{uuid.uuid4().hex}", "created": int(time.time()), "model": offer.served.name,
                "system_fingerprint": offer.served.sha256[:16]}  # fmt: skip
        if ask.stream:
            return EventStream(_events(head, form, first, chunks, ask.stream_options.include_usage))
        return JSONResponse(form.whole(head, [first, *[chunk async for chunk in chunks]]))

    @app.post("/v1/chat/completions", dependencies=[Depends(admitted)])
    async def chat(request: Request, ask: Ask) -> Response:
        prompt = prompt_of([(turn.role, turn.text) for turn in ask.messages], named(ask.model).served.prompt(ask.mode))
        return await answer(request, ask, prompt, ask.response_format.schema_, CHAT)

    @app.post("/v1/completions", dependencies=[Depends(admitted)])
    async def complete(request: Request, ask: Complete) -> Response:
        return await answer(request, ask, prompt_of([("user", ask.prompt)], named(ask.model).served.prompt()), None, TEXT)

    return app


def _is_here(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "testclient")


def _listed(served: Served, created: int) -> dict[str, object]:
    """A model for the list; what is not OpenAI's says what it is and whether the gate approves it."""
    told = {"title": served.title, "quantisation": served.quantisation, "sha256": served.sha256, "adapter_sha256": served.adapter_sha256,
            "approved": served.approved, "verdict": served.verdict}  # fmt: skip
    return {"id": served.name, "object": "model", "created": created, "owned_by": "lorikeet", **told}


def prompt_of(turns: Sequence[tuple[Role, str]], system: str) -> Prompt:
    """The turns, behind the persona's system turn unless they bring one: what was audited is what is served."""
    prompt = [conversation.Message(role, text) for role, text in turns]
    return prompt if prompt[0].role == "system" else [*conversation.system_turn(system), *prompt]


def _sampling(ask: Wanted, context: int) -> Sampling:
    wanted = ask.max_completion_tokens or ask.max_tokens
    return Sampling(ask.temperature, ask.top_p, min(wanted, context), ask.seed)


async def _events(head: Mapping[str, object], form: "Form", first: Chunk, rest: AsyncGenerator[Chunk], usage: bool) -> AsyncGenerator[str]:
    """The chunks as events, under our own head: the engine's names the file's path."""
    common = {**head, "object": form.piece_object}
    try:
        yield _event({**common, "choices": [form.piece(c) for c in first["choices"]]})
        async for chunk in rest:
            if chunk["choices"]:
                yield _event({**common, "choices": [form.piece(c) for c in chunk["choices"]]})
            elif usage and "usage" in chunk:
                yield _event({**common, "choices": [], "usage": _usage(chunk)})
        yield "data: [DONE]\n\n"
    except LorikeetError as error:
        yield _event({"error": {"message": error.message, "type": "server_error"}})
    finally:
        await rest.aclose()


def _event(document: Mapping[str, object]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"


def _choice(raw: Mapping[str, Any]) -> dict[str, object]:
    delta = {key: value or "" for key, value in raw["delta"].items() if key in ("role", "content")}
    return {"index": 0, "delta": delta, "finish_reason": raw["finish_reason"]}


def _text_choice(raw: Mapping[str, Any]) -> dict[str, object]:
    return {"index": 0, "text": raw["delta"].get("content") or "", "logprobs": None, "finish_reason": raw["finish_reason"]}


def _usage(chunk: Chunk) -> dict[str, int]:
    return {name: int(chunk["usage"][name]) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def _said(chunks: Sequence[Chunk]) -> tuple[str, str | None, dict[str, int] | None]:
    """The text of a whole answer, why it ended, and its tokens."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    ended = next((choice["finish_reason"] for choice in choices if choice["finish_reason"]), None)
    usage = next((_usage(chunk) for chunk in chunks if "usage" in chunk), None)
    return "".join(choice["delta"].get("content") or "" for choice in choices), ended, usage


def _completion(head: Mapping[str, object], chunks: Sequence[Chunk]) -> dict[str, object]:
    text, ended, usage = _said(chunks)
    message = {"role": "assistant", "content": text}
    return {**head, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": ended}], "usage": usage}


def _text_completion(head: Mapping[str, object], chunks: Sequence[Chunk]) -> dict[str, object]:
    text, ended, usage = _said(chunks)
    return {**head, "object": "text_completion", "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": ended}], "usage": usage}


class Form(NamedTuple):
    """The wire format of one of OpenAI's two kinds of completion."""

    id: str
    piece_object: str
    piece: Callable[[Mapping[str, Any]], dict[str, object]]
    whole: Callable[[Mapping[str, object], Sequence[Chunk]], dict[str, object]]


CHAT = Form("chatcmpl", "chat.completion.chunk", _choice, _completion)
TEXT = Form("cmpl", "text_completion", _text_choice, _text_completion)


def _error(status: int, message: str, code: str, param: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """422 with the field's name, as `messages[0].role`."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _error(422, "the body is not JSON", "invalid_json")
    parts = [part for part in first["loc"] if part != "body"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "body"
    what = "is not supported here" if first["type"] == "extra_forbidden" else first["msg"]
    return _error(422, f"{field}: {what}", "invalid_value", field)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {401: "invalid_api_key", 404: "model_not_found", 413: "request_too_large", 429: "rate_limit_exceeded"}
    return _error(error.status_code, str(error.detail), codes.get(error.status_code, "error"), headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    """400 for what the engine refuses; anything else of ours is 500."""
    assert isinstance(error, LorikeetError)
    if isinstance(error, Busy):
        return _error(429, error.message, "busy", headers={"Retry-After": str(error.seconds)})
    code = "context_length_exceeded" if isinstance(error, PromptTooLong) else "error"
    return _error(400 if isinstance(error, ModelError | RecipeError) else 500, f"{error.message}; {error.cure}", code)
