"""What is served: a file and its persona with what answers, and how a prompt is made for it. API and page stand on this; neither is here."""

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol

from lorikeet import conversation
from lorikeet.conversation import Role
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.server import Chunk, Schema
from lorikeet.released import Served

ANSWER_TOKENS = 512
"""The longest answer where nobody says otherwise, in tokens."""


class Model(Protocol):
    """What serving asks of a model: a Voice of a fleet, guarded or not."""

    slots: int
    context: int

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Schema | None = None) -> Generator[Chunk]:
        """OpenAI chat completion chunks, and empty ones while it waits; closing the generator stops the model. Busy where too many wait."""

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        """The prompt without its oldest turns, so that `room` tokens are left."""

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """How belief is shared among options of one token each as the answer's beginning."""


class Offer(NamedTuple):
    """A model that is served: the file and the persona it speaks as, and what answers."""

    served: Served
    model: Model


def prompt_of(turns: Sequence[tuple[Role, str]], system: str) -> Prompt:
    """The turns, behind the persona's system turn unless they bring one: what was audited is what is served."""
    prompt = [conversation.Message(role, text) for role, text in turns]
    return prompt if prompt[0].role == "system" else [*conversation.system_turn(system), *prompt]
