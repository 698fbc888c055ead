"""A GGUF in llama.cpp's native server, in this process: streams to several readers at once. For chat and serve."""

import json
import queue
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lorikeet.engine import Prompt, Reply, Sampling
from lorikeet.errors import ModelError

_DONE = object()


class LlamaServer:
    """The server of xllamacpp, reachable from this process only. slots: conversations answered at the same time."""

    def __init__(self, path: Path, threads: int, slots: int = 4, context: int = 2048) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx = slots, slots * context
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.hostnames, params.port = ["127.0.0.1"], 0
        params.ui = False
        params.verbosity = -1
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ModelError(f"llama.cpp cannot load {path}: {error}", "the file is damaged or of an unknown architecture; make it again") from error
        self.context = context

    def close(self) -> None:
        self._server = None

    def prompt_text(self, prompt: Prompt) -> str:
        """The prompt as the server's own template engine writes it."""
        request = urllib.request.Request(
            f"{self._server.listening_address}/apply-template",
            data=json.dumps({"messages": [m.as_dict() for m in prompt]}).encode(),
            headers={"Content-Type": "application/json", "Connection": "close"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return str(json.load(response)["prompt"])

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        for position, prompt in enumerate(prompts):
            answer = self.complete(prompt, sampling)
            choice = answer["choices"][0]
            yield position, Reply(choice["message"]["content"] or "", answer["usage"]["completion_tokens"], choice["finish_reason"] == "stop")

    def complete(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        """A whole OpenAI chat completion."""
        return _checked(self._server.handle_chat_completions(self._request(prompt, sampling, stream=False)))

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        for chunk in self.chunks(prompt, sampling):
            for choice in chunk.get("choices", []):
                if text := choice.get("delta", {}).get("content"):
                    yield text

    def chunks(self, prompt: Prompt, sampling: Sampling) -> Iterator[dict[str, Any]]:
        """OpenAI chat completion chunks. Leaving the iterator early stops the model."""
        arrived: queue.Queue[Any] = queue.Queue()
        stopped = threading.Event()

        def receive(piece: Any) -> bool:
            for item in piece if isinstance(piece, list) else [piece]:
                arrived.put(item)
            return stopped.is_set()

        def work() -> None:
            try:
                self._server.handle_chat_completions(self._request(prompt, sampling, stream=True), receive)
            except Exception as error:  # handed to the reader, who raises it
                arrived.put(error)
            arrived.put(_DONE)

        threading.Thread(target=work, daemon=True).start()
        try:
            while (item := arrived.get()) is not _DONE:
                if isinstance(item, Exception):
                    raise item
                yield _checked(json.loads(item) if isinstance(item, str | bytes) else item)
        finally:
            stopped.set()

    @staticmethod
    def _request(prompt: Prompt, sampling: Sampling, *, stream: bool) -> dict[str, Any]:
        return {
            "messages": [m.as_dict() for m in prompt],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "stream": stream,
            "stream_options": {"include_usage": True},
        }


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless it is the server's word for an error."""
    if error := answer.get("error") or (answer if "code" in answer and "message" in answer else None):
        raise ModelError(f"the model refused the request: {error.get('message')}", "shorten the conversation")
    return answer
