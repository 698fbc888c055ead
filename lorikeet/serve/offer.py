"""What is served: a file and its persona with what answers, and how a prompt is made for it. API and page stand on this; neither is here."""

from collections.abc import Sequence
from typing import NamedTuple

from lorikeet import conversation
from lorikeet.conversation import Role
from lorikeet.engine import Prompt
from lorikeet.engine.guarded import Answering
from lorikeet.released import Served

ANSWER_TOKENS = 512
"""The longest answer where nobody says otherwise, in tokens."""


class Offer(NamedTuple):
    """A model that is served: the file and the persona it speaks as, and what answers."""

    served: Served
    model: Answering


def prompt_of(turns: Sequence[tuple[Role, str]], system: str) -> Prompt:
    """The turns, behind the persona's system turn unless they bring one: what was audited is what is served."""
    prompt = [conversation.Message(role, text) for role, text in turns]
    return prompt if prompt[0].role == "system" else [*conversation.system_turn(system), *prompt]
