"""OpenAI's wire format: what a request may say, and how answers are written, whole or as events. No request is answered here."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lorikeet.conversation import Role
from lorikeet.engine.server import Chunk, Schema, text_of
from lorikeet.errors import LorikeetError
from lorikeet.serve.offer import ANSWER_TOKENS


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


class Form(NamedTuple):
    """The wire format of one of OpenAI's two kinds of completion."""

    id: str
    piece_object: str
    piece: Callable[[Mapping[str, Any]], dict[str, object]]
    whole: Callable[[Mapping[str, object], Sequence[Chunk]], dict[str, object]]


async def events(head: Mapping[str, object], form: Form, first: Chunk, rest: AsyncGenerator[Chunk], usage: bool) -> AsyncGenerator[str]:
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
    return "".join(map(text_of, chunks)), ended, usage


def _completion(head: Mapping[str, object], chunks: Sequence[Chunk]) -> dict[str, object]:
    text, ended, usage = _said(chunks)
    message = {"role": "assistant", "content": text}
    return {**head, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": ended}], "usage": usage}


def _text_completion(head: Mapping[str, object], chunks: Sequence[Chunk]) -> dict[str, object]:
    text, ended, usage = _said(chunks)
    return {**head, "object": "text_completion", "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": ended}], "usage": usage}


CHAT = Form("chatcmpl", "chat.completion.chunk", _choice, _completion)
TEXT = Form("cmpl", "text_completion", _text_choice, _text_completion)


def error(status: int, message: str, code: str, param: str | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as OpenAI's API tells it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)
