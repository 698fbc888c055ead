"""An OpenAI-compatible API over one GGUF: validation, the key, the limits, the wire format. The page is app.py's.

Requests reach the engine in this process. What the engine does not do is refused by name, never ignored.
"""

import ipaddress
import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import anyio
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorikeet import conversation
from lorikeet.conversation import Role
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.server import PromptTooLong
from lorikeet.errors import LorikeetError, ModelError, RecipeError
from lorikeet.released import Served

BODY_LIMIT = 1 << 20
"""Bytes of one request; a full context of 2048 tokens is some 10 KB."""
WAITING = 16
"""Requests that may wait for a free slot before others are told to come back."""
ANSWER_TOKENS = 512

Chunk = dict[str, Any]


class Model(Protocol):
    """What serving asks of LlamaServer."""

    slots: int
    context: int

    def chunks(self, prompt: Prompt, sampling: Sampling) -> Generator[Chunk]:
        """OpenAI chat completion chunks; closing the generator stops the model."""

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        """The prompt without its oldest turns, so that `room` tokens are left."""


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


class Ask(BaseModel):
    """A chat completion request. Keys with null count as left out; `n` and the penalties are taken at their neutral value only."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Turn] = Field(min_length=1)
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
    mode: str = ""
    """Ours: the persona's mode, by default its first."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: object) -> object:
        return {key: value for key, value in raw.items() if value is not None} if isinstance(raw, dict) else raw


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


class Desk:
    """The engine behind a bounded queue: one place that every answer of the API passes."""

    def __init__(self, engine: Model) -> None:
        self._engine = engine
        self._open = 0

    async def chunks(self, request: Request, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk]:
        """The engine's chunks; ends, and stops the model, when the client has gone or the generator is closed."""
        if self._open >= self._engine.slots + WAITING:
            raise HTTPException(503, "busy: too many questions are waiting; try again in a little while", {"Retry-After": "5"})
        self._open += 1
        chunks = self._engine.chunks(prompt, sampling)
        try:
            while (chunk := await anyio.to_thread.run_sync(next, chunks, None)) is not None:
                yield chunk
                if await request.is_disconnected():
                    return
        finally:
            self._open -= 1
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


def create(served: Served, engine: Model, *, host: str = "127.0.0.1", key: str | None = None) -> FastAPI:
    """The API. No CORS header is ever sent, so that pages of other sites cannot read answers."""
    check_door(host, key)
    app = FastAPI(title=served.title, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit, limit=BODY_LIMIT)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(LorikeetError, _failed)
    desk, created = Desk(engine), int(time.time())

    async def admitted(given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]) -> None:
        if key and not (given and secrets.compare_digest(given.credentials.encode(), key.encode())):
            raise HTTPException(401, "the key is missing or wrong", {"WWW-Authenticate": "Bearer"})

    @app.get("/health")
    async def health() -> dict[str, object]:
        return {"status": "ok", "model": served.name, "sha256": served.sha256, "approved": served.approved}

    @app.get("/v1/models", dependencies=[Depends(admitted)])
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [{"id": served.name, "object": "model", "created": created, "owned_by": "lorikeet"}]}

    @app.post("/v1/chat/completions", dependencies=[Depends(admitted)])
    async def answer(request: Request, ask: Ask) -> Response:
        if ask.model not in (None, served.name):
            raise HTTPException(404, f"the model {ask.model!r} does not exist; this server has {served.name!r}")
        prompt = prompt_of([(turn.role, turn.text) for turn in ask.messages], served.prompt(ask.mode))
        chunks = desk.chunks(request, prompt, _sampling(ask, engine.context))
        first = await anext(chunks)  # errors come before the first token, while there is still a status to send
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name, "system_fingerprint": served.sha256[:16]}
        if ask.stream:
            return EventStream(_events(head, first, chunks, ask.stream_options.include_usage))
        return JSONResponse(_completion(head, [first, *[chunk async for chunk in chunks]]))

    return app


def prompt_of(turns: Sequence[tuple[Role, str]], system: str) -> Prompt:
    """The turns, behind the persona's system turn unless they bring one: what was audited is what is served."""
    prompt = [conversation.Message(role, text) for role, text in turns]
    return prompt if prompt[0].role == "system" else [*conversation.system_turn(system), *prompt]


def _sampling(ask: Ask, context: int) -> Sampling:
    wanted = ask.max_completion_tokens or ask.max_tokens
    return Sampling(ask.temperature, ask.top_p, min(wanted, context), ask.seed)


async def _events(head: Mapping[str, object], first: Chunk, rest: AsyncGenerator[Chunk], usage: bool) -> AsyncGenerator[str]:
    """The chunks as events, under our own head: the engine's names the file's path."""
    common = {**head, "object": "chat.completion.chunk"}
    try:
        yield _event({**common, "choices": [_choice(c) for c in first["choices"]]})
        async for chunk in rest:
            if chunk["choices"]:
                yield _event({**common, "choices": [_choice(c) for c in chunk["choices"]]})
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


def _usage(chunk: Chunk) -> dict[str, int]:
    return {name: int(chunk["usage"][name]) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def _completion(head: Mapping[str, object], chunks: Sequence[Chunk]) -> dict[str, object]:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    message = {"role": "assistant", "content": "".join(choice["delta"].get("content") or "" for choice in choices)}
    ended = next((choice["finish_reason"] for choice in choices if choice["finish_reason"]), None)
    usage = next((_usage(chunk) for chunk in chunks if "usage" in chunk), None)
    return {**head, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": ended}], "usage": usage}


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
    codes = {401: "invalid_api_key", 404: "model_not_found", 413: "request_too_large", 503: "busy"}
    return _error(error.status_code, str(error.detail), codes.get(error.status_code, "error"), headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    """400 for what the engine refuses; anything else of ours is 500."""
    assert isinstance(error, LorikeetError)
    code = "context_length_exceeded" if isinstance(error, PromptTooLong) else "error"
    return _error(400 if isinstance(error, ModelError | RecipeError) else 500, f"{error.message}; {error.cure}", code)
