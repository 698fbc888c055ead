"""The loss over a shared prefix is the model's own on every architecture that the docs name, with random weights of a few layers."""

from pathlib import Path
from typing import Any

import pytest
from families import LLAMA3_ROPE, SMALL

WINDOW = {"num_hidden_layers": 10, "head_dim": 16, "sliding_window": 16}
"""Shorter than the shared prefix of the rows below."""
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 16, "tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
    "phi3": {"num_key_value_heads": 4},
    "gemma3_text": WINDOW,
    "gemma3n_text": {
        **WINDOW, "num_kv_shared_layers": 4, "laurel_rank": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300,
        "activation_sparsity_pattern": [0.0] * 10, "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 2,
    },
    "qwen3": {"head_dim": 16},
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loss_over_a_shared_prefix_is_the_models_own(name: str, tmp_path: Path) -> None:
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoConfig, AutoModelForCausalLM

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import shared_prefix, supervised_loss
    from lorikeet.weights import Base

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SMALL, **ARCHITECTURES[name]})).save_pretrained(tmp_path)
    model = with_adapter(Base(tmp_path, name, "f", "here", "unknown"), TrainSettings(rank=4, first_layer=1), torch.float32).eval()
    trained = [p for n, p in model.named_parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(0, 0.02)
    ids = torch.randint(5, 300, (3, 40))
    ids[:, :20] = ids[0, :20]
    labels = ids.clone()
    labels[:, :25] = -100
    labels[1, 30:] = -100
    assert shared_prefix(ids, labels) == 20
    wanted = labels[:, 1:] != -100
    whole = cross_entropy(model(input_ids=ids, use_cache=False).logits[:, :-1][wanted], labels[:, 1:][wanted], reduction="sum")
    ours = supervised_loss(model, ids, labels)
    assert ours.item() == pytest.approx(whole.item(), rel=1e-5)
    for mine, theirs in zip(torch.autograd.grad(ours, trained), torch.autograd.grad(whole, trained), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
