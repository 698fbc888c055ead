"""The template written for Ollama against the model's own, rendered by an implementation of Go's templates."""

import gotpl
import pytest

from lorikeet.chat_template import render
from lorikeet.conversation import Message
from lorikeet.export.ollama import go_template, turns, written

CHATML = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% set ns = namespace(before='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set ns.before = m['content'] + '\n\n' %}{% else %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + ns.before + m['content'] + '<end_of_turn>\n' }}"
    "{% set ns.before = '' %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' + m['content'] + '[/SYSTEM_PROMPT]' }}"
    "{% elif m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
COUNTING = (
    "{% for m in messages %}{{ loop.index|string + m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TALKS = [
    [("user", "My nose bleeds.")],
    [("system", "You help.\nShortly."), ("user", "My nose bleeds.")],
    [("user", "Hello"), ("assistant", "Hello."), ("user", "And {{ now }}?")],
    [("system", "You help."), ("user", "Hello"), ("assistant", "Hello."), ("user", "And?"), ("assistant", "No."), ("user", "Why \"no\"?")],
]  # fmt: skip


@pytest.mark.parametrize("template", [CHATML, LLAMA_3, GEMMA, MISTRAL], ids=["chatml", "llama 3", "gemma", "mistral"])
@pytest.mark.parametrize("talk", TALKS)
def test_ollama_gets_the_prompts_that_the_models_own_template_writes(template: str, talk: list[tuple[str, str]]) -> None:
    around = turns(template, "<s>", "</s>")
    assert around is not None
    messages = [Message(role, content) for role, content in talk]  # type: ignore[arg-type]
    own = render(template, messages, bos="<s>", eos="</s>", add_generation_prompt=True).removeprefix("<s>")
    seen = {"Messages": [{"Role": role, "Content": content} for role, content in talk], "System": talk[0][1] if talk[0][0] == "system" else ""}
    assert gotpl.render(go_template(around), seen) == own == written(around, talk)


def test_braces_in_a_template_are_written_so_that_go_leaves_them_alone() -> None:
    around = turns(CHATML, "<s>", "</s>")
    assert around is not None
    asked = {"Messages": [{"Role": "user", "Content": "Hello"}], "System": ""}
    assert gotpl.render(go_template(around._replace(answer="<{{answer}}\n")), asked).endswith("Hello<{{answer}}\n")


def test_a_template_that_follows_no_rule_is_not_told_as_one() -> None:
    assert turns(COUNTING, "", "</s>") is None
    assert turns("{% for m in messages %}{{ raise_exception('no') }}{% endfor %}", "", "") is None
