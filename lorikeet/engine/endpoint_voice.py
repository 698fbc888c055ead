"""An endpoint as chat and serve ask of a model: streamed, with its oldest turns left out where a conversation grows too long."""

import math
from collections.abc import Generator, Sequence
from typing import Any

import openai

from lorikeet.conversation import Message
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.endpoint import EndpointEngine
from lorikeet.engine.server import CONTEXT, Chunk, Schema, text_of

LETTERS_A_TOKEN = 3
"""Fewer than most tokenizers have: a conversation is rather cut too early than refused."""
LIKELIEST = 20
"""Tokens whose chances are asked for: no more are told by OpenAI's API."""


class EndpointVoice:
    """A model behind an address. context: tokens of a conversation, with the answer, as the endpoint tells them (vLLM does) or CONTEXT."""

    def __init__(self, engine: EndpointEngine) -> None:
        self._engine = engine
        self.slots, self.context = engine.at_once, engine.context() or CONTEXT

    def close(self) -> None:
        self._engine.close()

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        """The prompt without its oldest turns, so that about `room` tokens are left; the system and last turn stay."""
        kept: list[Message] = list(prompt)
        first = 1 if kept and kept[0].role == "system" else 0
        while len(kept) > first + 1 and sum(len(m.content) for m in kept) / LETTERS_A_TOKEN + room > self.context:
            del kept[first : first + 2]
        return kept

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Schema | None = None) -> Generator[Chunk]:
        """OpenAI chat completion chunks, the last with usage where the endpoint counts. Closing the generator ends the request. ModelError where it fails."""
        how: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        if schema:
            how["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}
        stream = self._engine.answer(prompt, sampling, **how)
        try:
            for piece in stream:
                yield piece.model_dump(exclude_none=True) | {"choices": [_choice(choice) for choice in piece.choices]}
        except openai.OpenAIError as error:
            raise self._engine.error(error) from error
        finally:
            stream.close()

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[str]:
        """The answer, piece by piece."""
        for chunk in self.chunks(prompt, sampling):
            if text := text_of(chunk):
                yield text

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """How belief is shared among options of one token each as the answer's beginning; all 0 where the endpoint does not tell it."""
        answer = self._engine.answer(prompt, Sampling(max_tokens=1), logprobs=True, top_logprobs=LIKELIEST)
        told = answer.choices[0].logprobs if answer.choices else None
        likely: dict[str, float] = {}
        for token in told.content[0].top_logprobs if told and told.content else ():
            likely[token.token.strip()] = likely.get(token.token.strip(), 0.0) + math.exp(token.logprob)
        whole = sum(likely.get(option, 0.0) for option in options)
        return [likely.get(option, 0.0) / whole if whole else 0.0 for option in options]


def _choice(choice: Any) -> dict[str, Any]:
    return {"index": choice.index, "delta": choice.delta.model_dump(exclude_none=True), "finish_reason": choice.finish_reason}
