"""What a client may cost: the size of a body, and requests a minute. The queue's bound is the engine's."""

import math
import time

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorikeet.serve.wire import error

BODY_LIMIT = 1 << 20
"""Bytes of one request; a full context of 2048 tokens is some 10 KB."""
RATE = 120
"""Requests a minute that one address may make, beyond this machine."""


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
            await error(413, self._message, "request_too_large")(scope, receive, send)
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
