"""Whatever answers as OpenAI's chat completions do: `lorikeet serve`, llama-server, Ollama, vLLM, TGI, or a service. For comparisons, audits and judges.

A request that fails for a reason that passes (429 with the wait that it names, 5xx, a cut connection) is tried again by the client, RETRIES times. What an
endpoint takes at a time is its owner's to say: AT_ONCE and PER_MINUTE name the environment's variables.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, TypeVar

import openai

from lorikeet.engine import Choices, Likelihood, Prompt, Reply, Sampling, before_stop
from lorikeet.errors import ModelError, RecipeError, first_line

KEY = "LORIKEET_ENDPOINT_KEY"
"""Environment variable of the key that requests carry."""
AT_ONCE = "LORIKEET_ENDPOINT_AT_ONCE"
"""Environment variable: requests under way at the same time; 4 where it is not set."""
PER_MINUTE = "LORIKEET_ENDPOINT_PER_MINUTE"
"""Environment variable: requests that are begun in a minute at most, evenly spaced; without it as many as come."""
RETRIES = 6
Given = TypeVar("Given")
Found = TypeVar("Found")


def _number(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable, "")
    if text and (not text.isdigit() or not int(text)):
        raise RecipeError(f"{variable} is {text!r}", "set it to a whole number above 0, or leave it out")
    return int(text) if text else otherwise


class _Pace:
    """Lets requests begin so many a minute, evenly spaced; 0: as they come."""

    def __init__(self, per_minute: int) -> None:
        self._apart = 60 / per_minute if per_minute else 0.0
        self._next, self._lock = 0.0, threading.Lock()

    def wait(self) -> None:
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + self._apart
        if (left := at - time.monotonic()) > 0:
            time.sleep(left)


class EndpointEngine:
    """A model behind an address. timeout in seconds for each try. RecipeError for a variable of the environment that is no number."""

    def __init__(self, url: str, model: str, timeout: float = 120.0) -> None:
        self._client = openai.OpenAI(base_url=url, api_key=os.environ.get(KEY) or "none", timeout=timeout, max_retries=RETRIES)
        self._url, self.at_once, self._pace = url, _number(AT_ONCE, 4), _Pace(_number(PER_MINUTE, 0))
        self.model = model or self._only_model()
        self.tokens = 0
        """Tokens read and written so far, as the endpoint counts them."""

    @property
    def identity(self) -> str:
        """What tells this model from others, as far as an address can."""
        return f"{self._url}#{self.model}"

    def close(self) -> None:
        self._client.close()

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        yield from self._each(prompts, partial(self.reply, sampling=sampling))

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        yield self.reply(prompt, sampling).text

    def reply(self, prompt: Prompt, sampling: Sampling) -> Reply:
        """One answer. ModelError where the endpoint gives none."""
        answer = self.answer(prompt, sampling)
        if not answer.choices:
            raise ModelError(f"{self._url} answered without a choice", "check that it speaks OpenAI's chat completions")
        choice, used = answer.choices[0], answer.usage
        self.tokens += used.total_tokens if used else 0
        return Reply((choice.message.content or "").strip(), used.completion_tokens if used else 0, choice.finish_reason == "stop")

    def answer(self, prompt: Prompt, sampling: Sampling, **more: Any) -> Any:
        """What the client makes of a chat completion, or its stream; `more` is further fields of the request. ModelError where the endpoint refuses."""
        messages: Any = [m.as_dict() for m in prompt]
        how: Any = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens, "seed": sampling.seed, **more}
        return self._asked(lambda: self._client.chat.completions.create(model=self.model, messages=messages, **how))

    def context(self) -> int:
        """Tokens of a conversation that the endpoint takes, where its list of models says so, as vLLM's does; else 0."""
        listed = self._asked(lambda: list(self._client.models.list()))
        return next((int(getattr(model, "max_model_len", None) or 0) for model in listed if model.id == self.model), 0)

    def weighing(self) -> "WeighingEndpoint":
        """The same model, asked for likelihoods. ModelError where the endpoint does not tell those of a given text, as vLLM does."""
        found = WeighingEndpoint(self._url, self.model)
        found.require()
        return found

    def _each(self, asked: Sequence[Given], do: Callable[[Given], Found]) -> Iterator[tuple[int, Found]]:
        """What comes of each, by its position, several at a time."""
        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = {pool.submit(do, one): n for n, one in enumerate(asked)}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _asked(self, request: Callable[[], Any]) -> Any:
        self._pace.wait()
        try:
            return request()
        except openai.OpenAIError as error:
            raise self.error(error) from error

    def _only_model(self) -> str:
        names = [model.id for model in self._asked(lambda: list(self._client.models.list()))]
        if len(names) != 1:
            raise ModelError(f"{self._url} has {len(names)} models", f"name one behind #: {self._url}#{names[0] if names else 'MODEL'}")
        return str(names[0])

    def error(self, error: openai.OpenAIError) -> ModelError:
        """What the client raised, in our words."""
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelError(f"{self._url} refuses the key", f"set {KEY} to a key that it takes")
        if isinstance(error, openai.NotFoundError):
            return ModelError(f"{self._url} knows no such model or address: {first_line(error)}", "check the address, which often ends in /v1, and the model")
        if isinstance(error, openai.RateLimitError):
            return ModelError(f"{self._url} wants fewer requests: {first_line(error)}", f"set {PER_MINUTE} to what it allows, or {AT_ONCE} lower")
        if isinstance(error, openai.APIConnectionError):  # time-outs among them
            return ModelError(f"{self._url} does not answer: {first_line(error)}", "check that it runs, and the address")
        return ModelError(f"{self._url}: {first_line(error)}", "see what the endpoint's log says")


class WeighingEndpoint(EndpointEngine):
    """A model behind an address that tells the tokens of a text (/tokenize) and how likely each of a given text is (completions with `echo`): vLLM's server."""

    def __init__(self, url: str, model: str, timeout: float = 120.0) -> None:
        super().__init__(url, model, timeout)
        self._root = self._client.with_options(base_url=url.rstrip("/").removesuffix("/v1"))
        self._tokens: dict[tuple[str, bool], list[int]] = {}

    def require(self) -> None:
        """ModelError where likelihoods are not to be had."""
        try:
            self._weigh((self.encode("A b", special=False), []))
        except ModelError as error:
            raise ModelError(
                f"{self._url} does not tell how likely a given text is: {error.message}",
                "name one that does, such as vLLM's server (its /tokenize, and completions with echo and logprobs), or leave the benchmarks out",
            ) from error

    @property
    def prefix_token(self) -> int:
        if not (begins := self.encode("")):
            raise ModelError(f"{self._url}: its tokenizer puts nothing in front of a text", "leave out benchmarks that weigh texts without a context")
        return begins[0]

    def prompt_text(self, prompt: Prompt) -> str:
        asked = {"model": self.model, "messages": [m.as_dict() for m in prompt], "add_generation_prompt": True}
        return str(self._post("/detokenize", {"model": self.model, "tokens": self._post("/tokenize", asked)["tokens"]})["prompt"])

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        if (text, special) not in self._tokens:  # contexts come again with every option, and each is a request
            told = self._post("/tokenize", {"model": self.model, "prompt": text, "add_special_tokens": special})
            self._tokens[text, special] = [int(token) for token in told["tokens"]]
        return self._tokens[text, special]

    def likelihoods(self, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
        asked = [(n, at) for n, question in enumerate(questions) for at in range(len(question.options))]
        found: dict[int, dict[int, Likelihood]] = {}
        for position, weighed in self._each([(questions[n].context, questions[n].options[at]) for n, at in asked], self._weigh):
            n, at = asked[position]
            found.setdefault(n, {})[at] = weighed
            if len(found[n]) == len(questions[n].options):
                yield n, [found[n][at] for at in range(len(found[n]))]

    def _weigh(self, asked: tuple[Sequence[int], Sequence[int]]) -> Likelihood:
        """An option behind its context, both token ids. One token is asked for, since not every server takes none, and left."""
        context, option = asked
        ids: Any = [*context, *option]
        answer = self._asked(lambda: self._client.completions.create(model=self.model, prompt=ids, max_tokens=1, temperature=0, logprobs=1, echo=True))
        told = answer.choices[0].logprobs if answer.choices else None
        nats, best = (getattr(told, name, None) or [] for name in ("token_logprobs", "top_logprobs"))
        if len(nats) != len(ids) + 1 or len(best) != len(nats):
            raise ModelError(f"it tells {len(nats)} log-probabilities of {len(ids)} tokens", "")
        behind = range(len(context), len(ids))
        return Likelihood(sum(nats[n] for n in behind), all(nats[n] >= max(best[n].values()) for n in behind))

    def complete(self, texts: Sequence[str], sampling: Sampling, stops: Sequence[str]) -> Iterator[tuple[int, str]]:
        how: Any = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}

        def go_on(text: str) -> str:
            answer = self._asked(lambda: self._client.completions.create(model=self.model, prompt=text, stop=list(stops[:4]) or None, **how))
            return before_stop(answer.choices[0].text, stops)

        yield from self._each(texts, go_on)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found: Any = self._asked(lambda: self._root.post(path, body=body, cast_to=object))
        if not isinstance(found, dict):
            raise ModelError(f"{path} answers {type(found).__name__}", "")
        return found


def endpoint(address: str) -> EndpointEngine:
    """The engine behind http://HOST/v1#MODEL; without a model the only one that the endpoint has."""
    url, _, model = address.partition("#")
    return EndpointEngine(url, model)
