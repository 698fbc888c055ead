"""A model's own Jinja chat template without transformers: rendered as text, and given a system turn where it has none."""

from collections.abc import Sequence

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lorikeet.conversation import Message
from lorikeet.errors import ModelError

_FOLD = (
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] + messages[2:] -%}"
    "{%- endif %}"
)
"""Put before a template without a system turn: the system's words, a blank line, and the first question are one user turn."""
_NO_THOUGHTS = "{%- set enable_thinking = false -%}"


def render(template: str, messages: Sequence[Message], *, bos: str, eos: str, add_generation_prompt: bool) -> str:
    """The text that the template makes of `messages`, with the settings transformers uses (trim and lstrip blocks)."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(template).render(
            messages=[m.as_dict() for m in messages], bos_token=bos, eos_token=eos, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        raise ModelError(f"the model's chat template refuses these messages: {error}",
                         "check the order of the turns; some templates take no system turn") from error  # fmt: skip


def takes_system_turn(template: str) -> bool:
    """Whether the template writes a system turn: some refuse it, others leave it out in silence, Mistral's once the question is answered."""
    mark = "what the system says"
    asked = [Message("system", mark), Message("user", "a question")]
    try:
        prompt = render(template, asked, bos="", eos="", add_generation_prompt=True)
        return mark in prompt and mark in render(template, [*asked, Message("assistant", "an answer")], bos="", eos="", add_generation_prompt=False)
    except ModelError:
        return False


def with_folded_system_turn(template: str) -> str:
    """The template for conversations that have a system turn: its words go before the first question, in one user turn."""
    return _FOLD + template


def thinks(template: str) -> bool:
    """Whether the template lets the model think before it answers, unless it is told not to (Qwen3, SmolLM3)."""
    return "enable_thinking" in template


def without_thinking(template: str) -> str:
    """The template told not to think: rows teach answers, and a prompt that waits for thoughts was never trained on."""
    return _NO_THOUGHTS + template
