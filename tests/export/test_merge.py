"""What training did to each weight, read from what it left, against PEFT's own merging; and what is refused. Slow for PEFT's import."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorikeet.errors import LorikeetError, ModelError

pytestmark = pytest.mark.slow

PATTERNS: dict[str, Any] = {
    "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6},
    "alpha_pattern": {"self_attn.v_proj": 40, "^model.layers.0.self_attn.q_proj": 3, r".*\.0\.mlp\.(up|down)_proj": 16},
}


@pytest.mark.parametrize("rslora", [False, True])
def test_ranks_and_alphas_of_single_layers_are_those_that_peft_merges(tiny_base: Path, tmp_path: Path, rslora: bool) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from lorikeet.export.merge import Delta, changes

    def fresh() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)

    torch.manual_seed(0)
    model = get_peft_model(fresh(), LoraConfig(r=4, lora_alpha=8, use_rslora=rslora, target_modules="all-linear", task_type="CAUSAL_LM", **PATTERNS))
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.normal_(0, 0.1)
    model.save_pretrained(tmp_path)
    before, after = fresh().state_dict(), PeftModel.from_pretrained(fresh(), tmp_path).merge_and_unload().state_dict()
    made = changes(tmp_path)
    assert len({len(change.a) for change in made.values() if isinstance(change, Delta)}) == 3  # ranks 2, 4 and 6
    assert set(made) == {name for name in before if not torch.equal(before[name], after[name])}
    for name, change in made.items():
        assert isinstance(change, Delta)
        torch.testing.assert_close(before[name] + change.scale * change.b @ change.a, after[name])


def write_adapter(folder: Path, tensors: dict[str, Any], **config: Any) -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, **config}))
    return folder


def test_a_head_trained_apart_from_the_embeddings_it_is_tied_to_is_refused(tmp_path: Path) -> None:
    import torch

    from lorikeet.export.merge import Whole, changes, without_tied_head

    embeddings, head = torch.randn(8, 4), torch.randn(8, 4)
    names = ("base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight")
    same = changes(write_adapter(tmp_path / "same", dict(zip(names, (embeddings, embeddings.clone()), strict=True))))
    (kept,) = without_tied_head(same).items()
    assert kept[0] == "model.embed_tokens.weight"
    assert isinstance(kept[1], Whole) and torch.equal(kept[1].tensor, embeddings)
    for number, tensors in enumerate((dict(zip(names, (embeddings, head), strict=True)), {names[1]: head})):
        with pytest.raises(ModelError, match="the head was trained apart from embeddings"):
            without_tied_head(changes(write_adapter(tmp_path / str(number), tensors)))


@pytest.mark.parametrize(
    ("config", "told"), [({"lora_bias": True}, "uses LoRA bias"), ({"trainable_token_indices": [1]}, "uses trained tokens"), ({}, "lora_embedding_A")]
)
def test_what_cannot_be_merged_faithfully_is_refused_by_name(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    import torch

    from lorikeet.export.merge import changes

    adapter = write_adapter(tmp_path / "a", {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 8)}, **config)
    with pytest.raises(ModelError, match=told):
        changes(adapter)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("model.layers.7.mlp.up_proj.weight", (128, 64), "training changed model.layers.7"),
        ("model.norm.weight", (8,), r"is of \(8,\), the base's weight of \(64,\)"),
    ],
)
def test_what_does_not_fit_the_base_is_refused(tiny_base: Path, tmp_path: Path, name: str, shape: tuple[int, ...], told: str) -> None:
    import torch

    from lorikeet.export.merge import Order, convert

    adapter = write_adapter(tmp_path / "a", {f"base_model.model.{name}": torch.zeros(shape)})
    with pytest.raises(LorikeetError, match=told):
        convert(Order(str(tiny_base), str(adapter), str(tmp_path / "out.gguf"), "F16", "tiny"), tmp_path)
