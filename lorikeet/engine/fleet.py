"""Several models to serve: a file is loaded when it is first asked for, adapters share their base's; where too many are loaded the one longest idle goes."""

import contextlib
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.server import ALONE, CONTEXT, SLOTS, Chunk, LlamaServer, Schema

LOADED = 3
"""Files that are kept in memory at a time, where no more are being asked."""


@dataclass
class _Hangar:
    """A file with its adapters; its server while it is loaded, how many are being answered, and when it was last asked."""

    adapters: list[Path]
    speculate: bool
    server: LlamaServer | None = None
    asked: int = 0
    used: float = 0.0


class Fleet:
    """threads, slots, context: of each server. loaded: files that are kept in memory."""

    def __init__(self, threads: int, slots: int = SLOTS, context: int = CONTEXT, loaded: int = LOADED) -> None:
        self._threads, self.slots, self.context, self._loaded = threads, slots, context, loaded
        self._hangars: dict[Path, _Hangar] = {}
        self._door = threading.Lock()

    def add(self, path: Path, adapter: Path | None = None, *, speculate: bool = False) -> "Voice":
        """A model by name of its file and adapter; nothing is loaded. Adapters have to be added before their base is first asked."""
        hangar = self._hangars.setdefault(path, _Hangar([], speculate))
        assert hangar.server is None or adapter in (None, *hangar.adapters)
        if adapter is not None and adapter not in hangar.adapters:
            hangar.adapters.append(adapter)
        return Voice(self, path, ALONE if adapter is None else hangar.adapters.index(adapter))

    def close(self) -> None:
        with self._door:
            for hangar in self._hangars.values():
                _unload(hangar)

    @contextlib.contextmanager
    def hold(self, path: Path) -> Generator[LlamaServer]:
        """The server of a file, which stays loaded for as long. ModelError where llama.cpp cannot load it."""
        hangar = self._hangars[path]
        with self._door:
            if hangar.server is None:
                self._make_room()
                hangar.server = LlamaServer(path, self._threads, self.slots, self.context, adapters=hangar.adapters, speculate=hangar.speculate)
            hangar.asked += 1
            server = hangar.server
        try:
            yield server
        finally:
            with self._door:
                hangar.asked -= 1
                hangar.used = time.monotonic()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Of each loaded file, by its name: how many are being answered, and how many wait."""
        return {path.name: (h.server.desk.busy, h.server.desk.waiting) for path, h in self._hangars.items() if h.server}

    def _make_room(self) -> None:
        loaded = [hangar for hangar in self._hangars.values() if hangar.server]
        idle = sorted((hangar for hangar in loaded if not hangar.asked), key=lambda hangar: hangar.used)
        for hangar in idle[: max(0, len(loaded) + 1 - self._loaded)]:
            _unload(hangar)


def _unload(hangar: _Hangar) -> None:
    if hangar.server:
        hangar.server.close()
        hangar.server = None


class Voice:
    """One model of a fleet: a file, and the adapter on it where there is one."""

    def __init__(self, fleet: Fleet, path: Path, adapter: int) -> None:
        self._fleet, self._path, self._adapter = fleet, path, adapter
        self.slots, self.context = fleet.slots, fleet.context

    def close(self) -> None:
        """Nothing: the fleet closes what it has loaded."""

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        """The prompt without its oldest turns, so that `room` tokens are left."""
        with self._fleet.hold(self._path) as server:
            return server.fitting(prompt, room)

    def warm(self, prompt: Prompt) -> None:
        """Load the file and read the prompt once."""
        with self._fleet.hold(self._path) as server:
            server.warm(prompt)

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """How belief is shared among options, as LlamaServer.shares has it."""
        with self._fleet.hold(self._path) as server:
            return server.shares(prompt, options, self._adapter)

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Schema | None = None) -> Generator[Chunk]:
        """OpenAI chat completion chunks, as LlamaServer.chunks has them."""
        with self._fleet.hold(self._path) as server, contextlib.closing(server.chunks(prompt, sampling, schema, self._adapter)) as chunks:
            yield from chunks
