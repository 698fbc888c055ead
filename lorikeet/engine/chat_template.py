"""Renders a model's own Jinja chat template without transformers: for GGUF files, which carry it as text."""

from collections.abc import Sequence

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lorikeet.conversation import Message
from lorikeet.errors import ModelError


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
