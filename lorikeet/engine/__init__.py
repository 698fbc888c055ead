"""The one seam to a model. An exam, an audit and a chat see an Engine; what stands behind it is chosen by the caller.

llamacpp  a GGUF, many answers in lock step, the same answer every time (exams, audits)
server    a GGUF in llama.cpp's native server, streaming to many readers at once (chat, serve)
torch_engine  a folder of safetensors, or what was trained from it (evaluation before export)
scripted  answers from a table, for tests
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Engine(Protocol):
    """Anything that answers."""

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        """Answer all prompts, several at a time; yields (position in `prompts`, reply) as each one is finished."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """Answer one prompt, piece by piece."""

    def close(self) -> None:
        """Free the model."""
