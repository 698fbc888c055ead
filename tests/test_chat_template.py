"""A GGUF's own chat template is rendered as transformers would, in a sandbox."""

import pytest

from lorikeet.chat_template import render, takes_system_turn, thinks, with_folded_system_turn, without_thinking
from lorikeet.conversation import Message
from lorikeet.errors import ModelError

TALK = [Message("system", "S"), Message("user", "Q")]
CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"""


def rendered(template: str, *, prompt: bool = True) -> str:
    return render(template, TALK, bos="<s>", eos="</s>", add_generation_prompt=prompt)


def test_turns_stand_one_behind_the_other_and_the_assistant_is_next() -> None:
    assert rendered(CHATML) == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"


def test_without_generation_prompt_the_text_ends_with_the_last_turn() -> None:
    assert rendered(CHATML, prompt=False).endswith("Q<|im_end|>\n")


def test_blocks_leave_no_space_behind() -> None:
    assert rendered("{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\n") == "S\nQ\n"


def test_begin_and_end_tokens_can_be_used() -> None:
    assert rendered("{{ bos_token }}{{ messages[-1].content }}{{ eos_token }}") == "<s>Q</s>"


def test_loops_may_be_left() -> None:
    assert rendered("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}") == "S"


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(ModelError, match="System role not supported"):
        rendered("{{ raise_exception('System role not supported') }}")


def test_a_template_that_is_no_template_is_an_error_with_a_cure() -> None:
    with pytest.raises(ModelError, match="refuses these messages"):
        rendered("{% if %}")


def test_a_template_cannot_reach_out_of_the_sandbox() -> None:
    with pytest.raises(ModelError, match="unsafe"):
        rendered("{{ messages.__class__.__mro__[1].__subclasses__() }}")


def test_braces_in_a_message_are_text() -> None:
    assert render("{{ messages[0].content }}", [Message("user", "{{ 1 + 1 }}")], bos="", eos="", add_generation_prompt=True) == "{{ 1 + 1 }}"


REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHATML
SILENT = "{% for m in messages if m['role'] != 'system' %}[{{ m['content'] }}]{% endfor %}"


@pytest.mark.parametrize(("template", "takes"), [(CHATML, True), (REFUSING, False), (SILENT, False)])
def test_a_template_that_refuses_or_swallows_a_system_turn_is_found_out(template: str, takes: bool) -> None:
    assert takes_system_turn(template) is takes


def test_a_folded_system_turn_stands_before_the_first_question() -> None:
    talk = [Message("system", "You help."), Message("user", "Hot?"), Message("assistant", "Yes."), Message("user", "Why?")]
    text = render(with_folded_system_turn(SILENT), talk, bos="", eos="", add_generation_prompt=False)
    assert text == "[You help.\n\nHot?][Yes.][Why?]"
    assert render(with_folded_system_turn(SILENT), talk[1:], bos="", eos="", add_generation_prompt=False) == "[Hot?][Yes.][Why?]"


def test_a_template_that_drops_the_system_turn_once_the_question_is_answered_takes_none() -> None:
    mistral = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ (messages[0].content if loop.last and messages[0].role == 'system' else '') + m.content }}"
        "{% endif %}{% endfor %}"
    )
    assert not takes_system_turn(mistral)
    assert takes_system_turn(CHATML)


def test_a_template_that_lets_the_model_think_is_told_not_to() -> None:
    qwen = "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}{{ messages[-1].content }}"
    assert thinks(qwen)
    assert not thinks(CHATML)
    assert rendered(qwen) == "Q"
    assert rendered(without_thinking(qwen)) == "<think></think>Q"
