"""Bases of the families that the docs name, with random weights of a few layers, go the road: what was trained, the F16 file, parity with the trained model."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from families import LLAMA3_ROPE

from lorikeet.conversation import Message

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "initializer_range": 0.05,
}  # fmt: skip
LONG_ROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0 + n / 10 for n in range(8)],
    "long_factor": [2.0 + n for n in range(8)],
    "original_max_position_embeddings": 256,
}
LONG_ROPE_PART = {**LONG_ROPE, "short_factor": LONG_ROPE["short_factor"][:6], "long_factor": LONG_ROPE["long_factor"][:6], "partial_rotary_factor": 0.75}
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16}
GEMMA_3N = {
    **GEMMA, "num_hidden_layers": 25, "num_kv_shared_layers": 5, "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 5,
    "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 15, "laurel_rank": 64, "hidden_size_per_layer_input": 256, "initializer_range": 0.005,
}  # fmt: skip
"""llama.cpp holds these fixed, whatever the file says: 20 layers with keys of their own, 10 sparse ones, 256 inputs
a layer. Larger weights make a random net of 25 layers chaotic: rounding to F16 alone then changes what it says."""
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 3.2": ("llama", {"head_dim": 16, "tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE}),
    "Phi 3.5": ("phi3", {"num_key_value_heads": 4, "original_max_position_embeddings": 256, "rope_parameters": LONG_ROPE}),
    "Gemma 3": ("gemma3_text", GEMMA),
    "Gemma 3n": ("gemma3n_text", GEMMA_3N),
    "Phi 4 mini": ("phi3", {"partial_rotary_factor": 0.75, "tie_word_embeddings": True, "original_max_position_embeddings": 256,
                            "rope_parameters": LONG_ROPE_PART}),
    "Gemma 2": ("gemma2", GEMMA),
    "Qwen 2.5": ("qwen2", {}),
    "Qwen 3": ("qwen3", {"head_dim": 16}),
    "Mistral": ("mistral", {"head_dim": 16}),
    "SmolLM 2": ("llama", {"tie_word_embeddings": True}),
    "SmolLM 3": ("smollm3", {"no_rope_layer_interval": 2}),
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n' }}{% endif %}"
)
TALK = [
    Message("system", "You help."),
    Message("user", "My nose bleeds, what now?"),
    Message("assistant", "Sit up, lean forward, and pinch the soft part of the nose for ten minutes. If it goes on after twenty, see a doctor."),
]


def write_tokenizer(folder: Path, kind: str) -> Any:
    """The default base's byte-level BPE for most, SentencePiece of a few hundred pieces for Phi 3 and Gemma, whose template writes no start token."""
    import sentencepiece
    from tokenizers import AddedToken
    from transformers import AutoTokenizer, GemmaTokenizer, LlamaTokenizer

    from lorikeet import bases
    from lorikeet.progress import Silent

    if kind in ("llama", "qwen2", "qwen3", "smollm3", "mistral"):
        bases.copy_tokenizer(bases.prepare("smollm2-135m", Silent()), folder)
        return AutoTokenizer.from_pretrained(folder)
    written = io.BytesIO()
    words = " ".join(m.content for m in TALK)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words, words.lower(), words.upper()]), model_writer=written, model_type="bpe", vocab_size=420, hard_vocab_limit=False,
        byte_fallback=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3, control_symbols=["<start_of_turn>", "<end_of_turn>"],
        normalization_rule_name="identity", add_dummy_prefix=kind == "phi3", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    tokenizer = LlamaTokenizer if kind == "phi3" else GemmaTokenizer
    legacy = {"legacy": True} if kind == "phi3" else {}  # a space before every piece between special tokens, as Phi 3 has it
    tokens = tokenizer.from_pretrained(folder, **legacy, bos_token="<s>", eos_token="</s>", pad_token="<pad>", mask_token=None)
    tokens.add_special_tokens({"additional_special_tokens": [AddedToken(t, special=True) for t in ("<start_of_turn>", "<end_of_turn>")]})
    tokens.chat_template = TEMPLATE
    tokens.save_pretrained(folder)
    return tokens


def write_base(folder: Path, kind: str, changes: dict[str, Any]) -> None:
    """Config, random weights and tokenizer; of Gemma 3n as it is published, with the names of a model that also sees and hears."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir()
    tokens = write_tokenizer(folder, kind)
    ids = {"pad_token_id": tokens.pad_token_id, "eos_token_id": tokens.eos_token_id, "bos_token_id": tokens.bos_token_id}
    sizes = {**SMALL, **changes, **ids, "vocab_size": len(tokens)}
    if kind == "gemma3n_text":
        sizes["vocab_size_per_layer_input"] = sizes["vocab_size"]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    if kind != "gemma3n_text":
        return
    tensors = {"model.language_model." + name.removeprefix("model."): t.clone() for name, t in model.state_dict().items() if name != "lm_head.weight"}
    for layer in range(config.num_hidden_layers - config.num_kv_shared_layers, config.num_hidden_layers):
        for name in ("k_proj", "v_proj", "k_norm"):  # published, though a layer that takes them from another never reads them
            like = tensors[f"model.language_model.layers.0.self_attn.{name}.weight"]
            tensors[f"model.language_model.layers.{layer}.self_attn.{name}.weight"] = like.clone()
    tensors["model.embed_vision.embedding.weight"] = torch.zeros(4, 4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    whole = {"architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n", "text_config": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(whole, default=str))


FULL = {"method": "full", "first_layer": 0}
KINDS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ARCHITECTURES), *((name, {"rslora": True}) for name in ARCHITECTURES), ("Qwen 3", {"dora": True}),
    ("Llama 3.2", {"embeddings": True}), ("Qwen 3", {"embeddings": True}), ("Qwen 3", FULL), ("Gemma 3n", FULL),
]  # fmt: skip
"""Every architecture with plain LoRA, and the other kinds of adapter with one; embeddings and whole models tied (Llama, Gemma) and with a head of its own."""


@pytest.mark.parametrize(("name", "settings"), KINDS, ids=[" ".join([name, *settings]) for name, settings in KINDS])
def test_the_f16_file_is_the_model_that_was_trained(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    import torch

    from lorikeet import bases
    from lorikeet.export.merge import Order, convert
    from lorikeet.export.parity import compare
    from lorikeet.progress import Silent
    from lorikeet.recipe import TrainSettings
    from lorikeet.train.full import whole_model
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.stage import keep

    folder, trained, gguf = tmp_path / "base", tmp_path / "trained", tmp_path / "model-F16.gguf"
    write_base(folder, *ARCHITECTURES[name])
    base = bases.prepare(str(folder), Silent())
    assert base.layers > 0
    wanted = TrainSettings(**{"rank": 4, "first_layer": 1, **settings})
    model = whole_model(base, wanted) if wanted.method == "full" else with_adapter(base, wanted, torch.float32)
    with torch.no_grad():
        for part, parameter in ((n, p) for n, p in model.named_parameters() if p.requires_grad):
            if "lora_A" in part or "lora_B" in part:
                parameter.normal_(0, 0.02)
            else:
                parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    keep(model, trained)
    convert(Order(str(base.path), str(trained), str(gguf), "F16", "tiny"), tmp_path)
    merged = compare(gguf, base.path, trained, [TALK], threads=2)
    assert merged.causes == []
    assert (merged.token_differences, merged.template_differences, merged.answer_differences, merged.top1) == (0, 0, 0, 1.0)
    assert merged.positions > 30 and merged.kl < 1e-4
    assert compare(gguf, base.path, None, [TALK], threads=2).kl > 10 * merged.kl  # what was trained is in the file
