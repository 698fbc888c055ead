"""Whatever answers as OpenAI's chat completions do: `lorikeet serve`, llama-server, Ollama, vLLM, or a service. For comparisons and judges."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import openai

from lorikeet.engine import Prompt, Reply, Sampling
from lorikeet.errors import ModelError, first_line

KEY = "LORIKEET_ENDPOINT_KEY"
"""Environment variable of the key that requests carry."""


class EndpointEngine:
    """A model behind an address. at_once: requests under way at the same time; timeout in seconds, after two tries more it is an error."""

    def __init__(self, url: str, model: str, at_once: int = 4, timeout: float = 120.0) -> None:
        self._client = openai.OpenAI(base_url=url, api_key=os.environ.get(KEY) or "none", timeout=timeout, max_retries=2)
        self._url, self._at_once = url, at_once
        self.model = model or self._only_model()
        self.tokens = 0
        """Tokens read and written so far, as the endpoint counts them."""

    def close(self) -> None:
        self._client.close()

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        with ThreadPoolExecutor(self._at_once) as pool:
            waiting = {pool.submit(self.reply, prompt, sampling): n for n, prompt in enumerate(prompts)}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        yield self.reply(prompt, sampling).text

    def reply(self, prompt: Prompt, sampling: Sampling) -> Reply:
        """One answer. ModelError where the endpoint gives none."""
        messages: Any = [m.as_dict() for m in prompt]
        how: Any = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens, "seed": sampling.seed}
        try:
            answer = self._client.chat.completions.create(model=self.model, messages=messages, **how)
        except openai.OpenAIError as error:
            raise self._error(error) from error
        if not answer.choices:
            raise ModelError(f"{self._url} answered without a choice", "check that it speaks OpenAI's chat completions")
        choice, used = answer.choices[0], answer.usage
        self.tokens += used.total_tokens if used else 0
        return Reply((choice.message.content or "").strip(), used.completion_tokens if used else 0, choice.finish_reason == "stop")

    def _only_model(self) -> str:
        try:
            names = [model.id for model in self._client.models.list()]
        except openai.OpenAIError as error:
            raise self._error(error) from error
        if len(names) != 1:
            raise ModelError(f"{self._url} has {len(names)} models", f"name one behind #: {self._url}#{names[0] if names else 'MODEL'}")
        return names[0]

    def _error(self, error: openai.OpenAIError) -> ModelError:
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelError(f"{self._url} refuses the key", f"set {KEY} to a key that it takes")
        if isinstance(error, openai.NotFoundError):
            return ModelError(f"{self._url} knows no such model or address: {first_line(error)}", "check the address, which often ends in /v1, and the model")
        if isinstance(error, openai.APIConnectionError):  # time-outs among them
            return ModelError(f"{self._url} does not answer: {first_line(error)}", "check that it runs, and the address")
        return ModelError(f"{self._url}: {first_line(error)}", "see what the endpoint's log says")


def endpoint(address: str) -> EndpointEngine:
    """The engine behind http://HOST/v1#MODEL; without a model the only one that the endpoint has."""
    url, _, model = address.partition("#")
    return EndpointEngine(url, model)
