"""An Ollama Modelfile: the chat template in the language Ollama reads, where words end, the system turn.

Ollama does not run the Jinja template in a GGUF; it knows some by their text and writes others its own way. What stands before and after each turn is found by
rendering the file's own template, and a Go template is made of it, where the template is regular enough to be told so.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lorikeet.chat_template import render
from lorikeet.conversation import Message
from lorikeet.engine.llamacpp import LlamaCppEngine
from lorikeet.errors import ModelError

MODELFILE = "Modelfile"
_SYSTEM, _USER, _ANSWER, _NEXT = ("\u27e8s\u27e9", "\u27e8u\u27e9", "\u27e8a\u27e9", "\u27e8n\u27e9")
"""Contents that no template holds, to find the places of contents by."""


class Turns(NamedTuple):
    """What a template writes around contents: before the first user's turn without a system turn; before and behind a system turn, up to the user's words;
    before a later user's turn; between a user's words and the answer; behind an answer.
    """

    first: str
    system: str
    joint: str
    user: str
    answer: str
    end: str


def turns(template: str, bos: str, eos: str) -> Turns | None:
    """What stands around contents, found by rendering, without the start token, which Ollama puts itself; None where the template follows no such rule."""

    def text(*contents: str, prompt: bool = False) -> str:
        roles = {_SYSTEM: "system", _USER: "user", _ANSWER: "assistant", _NEXT: "user"}
        messages = [Message(roles[content], content) for content in contents]  # type: ignore[arg-type]
        return render(template, messages, bos=bos, eos=eos, add_generation_prompt=prompt).removeprefix(bos)

    try:
        alone, asked = text(_USER, prompt=True), text(_SYSTEM, _USER, prompt=True)
        answered, again = text(_SYSTEM, _USER, _ANSWER), text(_SYSTEM, _USER, _ANSWER, _NEXT, prompt=True)
        first, answer = alone.split(_USER)
        system, joint = asked.split(_USER)[0].split(_SYSTEM)
        end = answered.split(_ANSWER)[1]
        user = again.split(_ANSWER)[1].split(_NEXT)[0].removeprefix(end)
    except (ModelError, ValueError):
        return None
    found = Turns(first, system, joint, user, answer, end)
    told = (
        (alone, [("user", _USER)]), (asked, [("system", _SYSTEM), ("user", _USER)]),
        (again, [("system", _SYSTEM), ("user", _USER), ("assistant", _ANSWER), ("user", _NEXT)]),
    )  # fmt: skip
    return found if all(written(found, messages) == expected for expected, messages in told) else None


def written(around: Turns, messages: Sequence[tuple[str, str]]) -> str:
    """The prompt that the Go template makes of (role, content) turns, the last of which is a user's."""
    parts = []
    for number, (role, content) in enumerate(messages):
        if role == "system":
            parts.append(around.system + content + around.joint)
        elif role == "user":
            behind_system = number == 1 and messages[0][0] == "system"
            parts.append(("" if behind_system else around.user if number else around.first) + content + around.answer)
        else:
            parts.append(content + around.end)
    return "".join(parts)


def go_template(around: Turns) -> str:
    """The same as a template of Ollama's, over .Messages; .System is set where the first of them is a system turn."""

    def literal(text: str) -> str:
        return text.replace("{{", '{{ "{{" }}')

    return (
        "{{ range $i, $m := .Messages }}"
        f'{{{{ if eq $m.Role "system" }}}}{literal(around.system)}{{{{ $m.Content }}}}{literal(around.joint)}'
        '{{ else if eq $m.Role "user" }}'
        f"{{{{ if eq $i 0 }}}}{literal(around.first)}{{{{ else if not (and $.System (eq $i 1)) }}}}{literal(around.user)}{{{{ end }}}}"
        f"{{{{ $m.Content }}}}{literal(around.answer)}"
        f'{{{{ else if eq $m.Role "assistant" }}}}{{{{ $m.Content }}}}{literal(around.end)}{{{{ end }}}}'
        "{{ end }}"
    )


def modelfile(gguf: Path, system: str) -> str:
    """The Modelfile that lies beside a GGUF. Text that cannot be told in one (three quotes in a system turn) is left out with a line that says so."""
    engine = LlamaCppEngine(gguf, 1, vocabulary_alone=True)
    try:
        bos, eos = (engine.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else "" for token in (engine.bos, engine.eos))
        around = turns(engine.template, bos, eos)
    finally:
        engine.close()
    lines = [f"FROM ./{gguf.name}"]
    if around:
        lines += [f'TEMPLATE """{go_template(around)}"""']
        stops = dict.fromkeys(stop for stop in (around.end.strip(), eos) if stop)
        lines += [f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop and "\n" not in stop]
    else:
        lines += [
            "# The chat template of this model follows no simple rule: Ollama uses what it makes of the one in the file. Compare prompts before you rely on it."
        ]
    lines += ["PARAMETER temperature 0"]
    if system and '"""' not in system:
        lines += [f'SYSTEM """{system}"""']
    elif system:
        lines += ["# The system turn holds three quotes, which a Modelfile cannot: give it with each request."]
    return "\n".join(lines) + "\n"
