"""An OpenAI-compatible API over the models that are served, by their names: the key, the doors, the meters. Formats are wire.py's, the page is page.py's.

Requests reach the engine in this process. What the engine does not do is refused by name, never ignored.
"""

import ipaddress
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Annotated

import anyio
import prometheus_client
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Receive, Scope, Send

from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.server import Chunk, PromptTooLong, Schema
from lorikeet.engine.slots import Busy
from lorikeet.errors import LorikeetError, ModelError, RecipeError
from lorikeet.released import Served
from lorikeet.serve.limits import BODY_LIMIT, RATE, BodyLimit, Limit
from lorikeet.serve.offer import Offer, prompt_of
from lorikeet.serve.wire import CHAT, TEXT, Ask, Complete, Form, Wanted, error, events

SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
"""Bounds of the histograms of /metrics."""


Busyness = Callable[[], Mapping[str, tuple[int, int]]]
"""Of each loaded file, by name: how many conversations are being answered, and how many wait."""


class _Slots(Collector):
    """Reads what the engine is doing when /metrics is asked."""

    def __init__(self, busy: Busyness) -> None:
        self._busy = busy

    def collect(self) -> Iterator[GaugeMetricFamily]:
        answered = GaugeMetricFamily("lorikeet_slots_busy", "Conversations being answered, by loaded file", labels=["file"])
        waiting = GaugeMetricFamily("lorikeet_waiting", "Conversations that wait for a free slot, by loaded file", labels=["file"])
        for name, (busy, waits) in self._busy().items():
            answered.add_metric([name], busy)
            waiting.add_metric([name], waits)
        yield from (answered, waiting)


class Meters:
    """What /metrics tells, in Prometheus' form."""

    def __init__(self, busy: Busyness) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        registry.register(_Slots(busy))
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


def check_door(host: str, key: str | None, *, is_open: bool = False) -> None:
    """LorikeetError where others than this machine could come in without a key. is_open: they shall."""
    if not _is_here(host) and not key and not is_open:
        raise LorikeetError(
            f"serving on {host} lets other machines in, and no key is set", "add --key SECRET, or leave --host at 127.0.0.1; --open lets anybody in"
        )


def create(
    offers: Sequence[Offer], *, host: str = "127.0.0.1", key: str | None = None, rate: int = RATE, busy: Busyness = dict, is_open: bool = False
) -> FastAPI:
    """The API over these models, the first of which answers where none is named. No CORS header is ever sent, so that pages of other sites cannot read answers.

    rate: requests a minute that one address may make, beyond this machine. busy: what /metrics tells of the engine.
    is_open: anybody may come in without a key.
    """
    check_door(host, key, is_open=is_open)
    app = FastAPI(title=offers[0].served.title, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit, limit=BODY_LIMIT)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(LorikeetError, _failed)
    by_name, created, limit, meters = {offer.served.name: offer for offer in offers}, int(time.time()), Limit(rate), Meters(busy)

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

    async def answer(request: Request, ask: Wanted, offer: Offer, prompt: Prompt, schema: Schema | None, form: Form) -> Response:
        chunks = _asked(request, offer, prompt, _sampling(ask, offer.model.context), schema, meters)
        first = await anext(chunks, None)  # errors come before the first token, while there is still a status to send
        if first is None:  # the client has gone
            return Response(status_code=499)
        head = {"id": f"{form.id}-{uuid.uuid4().hex}", "created": int(time.time()), "model": offer.served.name,
                "system_fingerprint": offer.served.sha256[:16]}  # fmt: skip
        if ask.stream:
            return EventStream(events(head, form, first, chunks, ask.stream_options.include_usage))
        return JSONResponse(form.whole(head, [first, *[chunk async for chunk in chunks]]))

    @app.post("/v1/chat/completions", dependencies=[Depends(admitted)])
    async def chat(request: Request, ask: Ask) -> Response:
        offer = named(ask.model)
        prompt = prompt_of([(turn.role, turn.text) for turn in ask.messages], offer.served.prompt(ask.mode))
        return await answer(request, ask, offer, prompt, ask.response_format.schema_, CHAT)

    @app.post("/v1/completions", dependencies=[Depends(admitted)])
    async def complete(request: Request, ask: Complete) -> Response:
        offer = named(ask.model)
        return await answer(request, ask, offer, prompt_of([("user", ask.prompt)], offer.served.prompt()), None, TEXT)

    return app


def _is_here(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listed(served: Served, created: int) -> dict[str, object]:
    """A model for the list; what is not OpenAI's says what it is and whether the gate approves it."""
    told = {"title": served.title, "quantisation": served.quantisation, "sha256": served.sha256, "adapter_sha256": served.adapter_sha256,
            "approved": served.approved, "verdict": served.verdict}  # fmt: skip
    return {"id": served.name, "object": "model", "created": created, "owned_by": "lorikeet", **told}


def _sampling(ask: Wanted, context: int) -> Sampling:
    wanted = ask.max_completion_tokens or ask.max_tokens
    return Sampling(ask.temperature, ask.top_p, min(wanted, context), ask.seed)


async def _invalid(request: Request, raised: Exception) -> Response:
    """422 with the field's name, as `messages[0].role`."""
    assert isinstance(raised, RequestValidationError)
    first = raised.errors()[0]
    if first["type"] == "json_invalid":
        return error(422, "the body is not JSON", "invalid_json")
    parts = [part for part in first["loc"] if part != "body"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "body"
    what = "is not supported here" if first["type"] == "extra_forbidden" else first["msg"]
    return error(422, f"{field}: {what}", "invalid_value", field)


async def _refused(request: Request, raised: Exception) -> Response:
    assert isinstance(raised, HTTPException)
    codes = {401: "invalid_api_key", 404: "model_not_found", 413: "request_too_large", 429: "rate_limit_exceeded"}
    return error(raised.status_code, str(raised.detail), codes.get(raised.status_code, "error"), headers=raised.headers)


async def _failed(request: Request, raised: Exception) -> Response:
    """400 for what the engine refuses; anything else of ours is 500."""
    assert isinstance(raised, LorikeetError)
    if isinstance(raised, Busy):
        return error(429, raised.message, "busy", headers={"Retry-After": str(raised.seconds)})
    code = "context_length_exceeded" if isinstance(raised, PromptTooLong) else "error"
    return error(400 if isinstance(raised, ModelError | RecipeError) else 500, f"{raised.message}; {raised.cure}", code)
