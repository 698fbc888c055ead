"""The one seam to a model. An exam, an audit and a chat see an Engine; what stands behind it is chosen by the caller.

llamacpp  a GGUF, many answers in lock step, the same answer every time (exams, audits)
server    a GGUF in llama.cpp's native server, streaming to many readers at once (chat, serve)
torch_engine  a folder of safetensors, or what was trained from it (evaluation before export)
endpoint  whatever answers as OpenAI's chat completions do, on this machine or elsewhere (comparisons, judges)
scripted  answers from a table, for tests
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from lorikeet.conversation import Message

Prompt = Sequence[Message]


@dataclass(frozen=True)
class Sampling:
    """How words are chosen. temperature 0 takes the likeliest token; max_tokens caps the answer."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """A whole answer: its text, its length in tokens, and whether the model ended it by itself."""

    text: str
    tokens: int
    ended: bool


class Choices(NamedTuple):
    """A context, and the options of how it goes on that are to be weighed; token ids, one or more each."""

    context: Sequence[int]
    options: Sequence[Sequence[int]]


class Likelihood(NamedTuple):
    """An option's log-probability behind its context, in nats, and whether it is what greedy decoding would write."""

    nats: float
    greedy: bool


class Engine(Protocol):
    """Anything that answers."""

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        """Answer all prompts, several at a time; yields (position in `prompts`, reply) as each one is finished."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """Answer one prompt, piece by piece."""

    def close(self) -> None:
        """Free the model."""


@runtime_checkable
class Weighing(Engine, Protocol):
    """An engine whose model is here, so that likelihoods can be asked for."""

    @property
    def prefix_token(self) -> int:
        """What stands in front of a text that has no context: the beginning-of-text token, or else the end-of-text token."""

    def prompt_text(self, prompt: Prompt) -> str:
        """The prompt as the model's chat template writes it, up to where the answer begins."""

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a raw text, with what the tokenizer puts in front of every text unless `special` is False."""

    def likelihoods(self, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
        """Weigh the options of every question; yields (position in `questions`, one Likelihood an option) as each one is done."""

    def complete(self, texts: Sequence[str], sampling: Sampling, stops: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Continue raw texts, without a chat template, up to the first of `stops`; yields (position, what was written before it)."""


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stops in it."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def shared_beginning(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with, one left over in each; nought for a single row, which shares nothing."""
    if len(rows) < 2:
        return 0
    first, last = min(rows, key=list), max(rows, key=list)
    most = min(map(len, rows)) - 1
    return next((n for n in range(most) if first[n] != last[n]), most)
