"""A GGUF in llama.cpp's native server, in this process: streams to several readers at once. For chat and serve."""

import contextlib
import json
import math
import queue
import secrets
import threading
import time
import urllib.request
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorikeet.conversation import Message
from lorikeet.engine import Prompt, Reply, Sampling
from lorikeet.engine.binding import not_loaded
from lorikeet.engine.slots import Place, Slots
from lorikeet.errors import ModelError

Chunk = dict[str, Any]
"""A piece of an answer, as OpenAI's API streams it."""
Schema = Mapping[str, Any]
"""A JSON schema."""
_DONE = object()


def text_of(chunk: Chunk) -> str:
    """What a piece of an answer says."""
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


class PromptTooLong(ModelError):  # noqa: N818
    """The prompt does not fit the context of one conversation."""


SLOTS, WAITING, CONTEXT = 8, 16, 2048
"""Conversations that are answered at the same time, and how many more may wait."""
_LIKELIEST = 100
"""Tokens whose likelihood is looked at where options are weighed."""
ALONE = -1
"""The adapter of a request that is for the base alone."""
COPIED, DRAFTED = 4, 8
"""Speculation: tokens that have to stand in the prompt already for what followed them there to be drafted, and how many are."""


class LlamaServer:
    """The server of xllamacpp. slots: conversations answered at the same time; context: tokens each may hold; adapters: GGUFs of which a request may name one.

    speculate: draft what the prompt says after the last words (n-grams), for answers that mostly copy it; greedy answers stay the same.
    Requests are handed over in process. Its HTTP side listens on a random loopback port, with a key that nobody else has.
    """

    def __init__(self, path: Path, threads: int, slots: int = SLOTS, context: int = CONTEXT, *, adapters: Sequence[Path] = (), speculate: bool = False,
                 waiting: int = WAITING) -> None:  # fmt: skip
        try:
            import xllamacpp
        except ImportError as error:
            raise not_loaded(error) from error

        self._key = secrets.token_urlsafe(24)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx = slots, slots * context
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.hostnames, params.port = ["127.0.0.1"], 0
        params.api_keys = [self._key]
        params.ui = False
        params.cache_ram_mib = 0  # it gives a slot the state of another one whatever adapter that was read with
        loaded = []
        for adapter in adapters:
            info = xllamacpp.CommonAdapterLoraInfo()
            info.path, info.scale = str(adapter), 0.0  # at 1 all would apply at once
            loaded.append(info)
        params.lora_adapters = loaded
        if speculate:
            params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_MAP_K]
            params.speculative.ngram_map_k.size_n, params.speculative.ngram_map_k.size_m = COPIED, DRAFTED
        params.verbosity = -1
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ModelError(f"llama.cpp cannot load {path}: {error}", "the file is damaged or of an unknown architecture; make it again") from error
        self.context = context
        self.slots = slots
        self.adapters = tuple(adapters)
        self.desk = Slots(slots, waiting)
        self._answering: dict[threading.Thread, threading.Event] = {}

    def close(self) -> None:
        """Stop what is being answered and free the model. A thread left in the engine would bring the process down at its end."""
        for thread, stopped in list(self._answering.items()):
            stopped.set()
            thread.join(timeout=30)
        self._server = None

    def prompt_text(self, prompt: Prompt) -> str:
        """The prompt as the server's own template engine writes it."""
        return str(self._post("/apply-template", {"messages": [m.as_dict() for m in prompt]})["prompt"])

    def count(self, prompt: Prompt) -> int:
        """The prompt's length in tokens."""
        return len(self._post("/tokenize", {"content": self.prompt_text(prompt), "add_special": True, "parse_special": True})["tokens"])

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        """The prompt without its oldest turns, so that `room` tokens are left for the answer; the system and last turn stay."""
        kept = list(prompt)
        first = 1 if kept and kept[0].role == "system" else 0
        while len(kept) > first + 1 and self.count(kept) + room > self.context:
            del kept[first : first + 2]
        return kept

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        for position, prompt in enumerate(prompts):
            text, tokens, ended = "", 0, False
            for chunk in self.chunks(prompt, sampling):
                text += text_of(chunk)
                ended = ended or any(choice["finish_reason"] == "stop" for choice in chunk["choices"])
                tokens = chunk["usage"]["completion_tokens"] if "usage" in chunk else tokens
            yield position, Reply(text, tokens, ended)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[str]:
        """The answer's text, piece by piece. Closing the generator stops the model."""
        with contextlib.closing(self.chunks(prompt, sampling)) as chunks:
            for chunk in chunks:
                if text := text_of(chunk):
                    yield text

    def warm(self, prompt: Prompt) -> None:
        """Read the prompt once, so that the first user does not wait for memory that was never touched."""
        for _ in self.chunks(prompt, Sampling(max_tokens=1)):
            pass

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Schema | None = None, adapter: int = ALONE) -> Generator[Chunk]:
        """OpenAI chat completion chunks; the last carries usage and timings. Closing the generator stops the model.

        schema: a JSON schema that the answer keeps to, unless it is cut short. adapter: the place in `adapters` of the one that answers. While it waits for a
        slot it yields chunks without choices. Raises Busy, PromptTooLong, ModelError.
        """
        if adapter >= len(self.adapters):
            raise ModelError(f"there is no adapter {adapter}", f"name one below {len(self.adapters)}")  # llama.cpp would answer with the base
        place: Place | None = None
        for place in self.desk.take(prompt, adapter):
            if place is None:
                yield {"choices": []}
        assert place is not None
        begun, text = time.monotonic(), ""
        try:
            for chunk in self._handed(_request(prompt, sampling, schema) | self._placed(place, adapter)):
                text += text_of(chunk)
                yield chunk
        finally:
            self.desk.give_back(place, [*prompt, Message("assistant", text)], time.monotonic() - begun)

    def shares(self, prompt: Prompt, options: Sequence[str], adapter: int = ALONE) -> list[float]:
        """How the model's belief is shared among options of one token each as the answer's beginning, such as letters; they add up to 1, or are all 0."""
        place = next(place for place in self.desk.take(prompt, adapter) if place)
        begun = time.monotonic()
        try:
            request = _request(prompt, Sampling(max_tokens=1), None) | {"stream": False, "logprobs": True, "top_logprobs": _LIKELIEST}
            answer = _checked(self._server.handle_chat_completions(request | self._placed(place, adapter)))
        finally:
            self.desk.give_back(place, prompt, time.monotonic() - begun)
        likely: dict[str, float] = {}
        for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            likely[token["token"].strip()] = likely.get(token["token"].strip(), 0.0) + math.exp(token["logprob"])
        whole = sum(likely.get(option, 0.0) for option in options)
        return [likely.get(option, 0.0) / whole if whole else 0.0 for option in options]

    def _placed(self, place: Place, adapter: int) -> dict[str, Any]:
        """What a request says of its slot, and every adapter's scale: one that is left out keeps that of the request before."""
        lora = [{"id": number, "scale": float(number == adapter)} for number in range(len(self.adapters))]
        return {"id_slot": place.number, "cache_prompt": place.reuse, "lora": lora}

    def _handed(self, request: dict[str, Any]) -> Generator[Chunk]:
        """The engine calls `receive` from its own thread with one dict a token and stops when it returns True."""
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stopped = threading.Event()

        def receive(piece: Chunk) -> bool:
            arrived.put(piece)
            return stopped.is_set()

        def work() -> None:
            try:
                self._server.handle_chat_completions(request, receive)
            except Exception as error:  # handed to the reader, who raises it
                arrived.put(error)
            finally:
                self._answering.pop(worker)
                arrived.put(_DONE)

        worker = threading.Thread(target=work, daemon=True)
        self._answering[worker] = stopped
        worker.start()
        try:
            while (item := arrived.get()) is not _DONE:
                if isinstance(item, Exception):
                    raise item
                yield {"choices": [], **_checked(item)}
        finally:
            stopped.set()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the HTTP side. Connection: close, since the engine drops connections it has announced to keep."""
        headers = {"Content-Type": "application/json", "Connection": "close", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(self._server.listening_address + path, data=json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return dict(json.load(response))


def _request(prompt: Prompt, sampling: Sampling, schema: Schema | None) -> dict[str, Any]:
    """Every sampler is named: llama.cpp would cut with top_k 40 and min_p 0.05, or with what a GGUF asks for."""
    return {
        "messages": [m.as_dict() for m in prompt],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "reasoning_format": "none",
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"json_schema": dict(schema)} if schema is not None else {}),
    }


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless it is the server's word for an error."""
    error = answer.get("error") or (answer if "code" in answer and "message" in answer else None)
    if error and error.get("type") == "exceed_context_size_error":
        raise PromptTooLong(f"the conversation has {error['n_prompt_tokens']} tokens, the model's context holds {error['n_ctx']}", "shorten the conversation")
    if error:
        raise ModelError(f"the model refused the request: {error.get('message')}", "shorten the conversation")
    return answer
