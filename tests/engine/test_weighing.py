"""Likelihoods of options by one pass over all of them are those of each option read alone, on every architecture; and llama.cpp's are the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from families import LLAMA3_ROPE, SMALL
from transformers import AutoConfig, AutoModelForCausalLM

from lorikeet.engine import Choices, Sampling, weighing
from lorikeet.engine.torch_engine import TorchEngine

WINDOW = {"num_hidden_layers": 10, "head_dim": 16, "sliding_window": 64}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 16, "rope_parameters": LLAMA3_ROPE},
    "phi3": {"num_key_value_heads": 4},
    "gemma2": {"head_dim": 16, "sliding_window": 64, "final_logit_softcapping": 30.0},
    "gemma3_text": WINDOW,
    "gemma3_text, longer than its window": {**WINDOW, "sliding_window": 16},
    "gemma3n_text": {
        **WINDOW, "num_kv_shared_layers": 4, "laurel_rank": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300,
        "activation_sparsity_pattern": [0.0] * 10, "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 2,
    },
    "qwen3": {"head_dim": 16},
    "mistral": {"head_dim": 16, "sliding_window": None},
}  # fmt: skip


def questions(shared: int) -> list[Choices]:
    """Questions of several lengths whose contexts begin with so many tokens alike, with two to five options of one to six tokens."""
    torch.manual_seed(3)

    def ids(n: int) -> list[int]:
        return [int(t) for t in torch.randint(5, 300, (n,))]

    start = ids(shared)
    return [Choices([*start, *ids(3 + n)], [ids(1 + (n + k) % 6) for k in range(2 + n % 4)]) for n in range(9)]


@pytest.mark.parametrize("shared", [0, 12])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_options_side_by_side_weigh_what_each_weighs_alone(name: str, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighing, "ROW_TOKENS", 96)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name.partition(",")[0], **{**SMALL, **ARCHITECTURES[name]})).eval()
    asked = questions(shared)
    found = dict(weighing.weigh(model, asked))
    assert sorted(found) == list(range(len(asked)))
    for n, (context, options) in enumerate(asked):
        assert len(found[n]) == len(options)
        for option, weighed in zip(options, found[n], strict=True):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*context, *option]])).logits[0, len(context) - 1 : -1].float()
            alone = logits.log_softmax(-1)[torch.arange(len(option)), torch.tensor(option)].sum()
            assert weighed.nats == pytest.approx(float(alone), abs=2e-4)
            assert weighed.greedy == (logits.argmax(-1).tolist() == option)


def test_no_question_weighs_nothing() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL))
    assert list(weighing.weigh(model, [])) == []


@pytest.mark.slow
def test_both_engines_weigh_and_go_on_alike(tiny_base: Path, tmp_path: Path) -> None:
    from lorikeet import bases
    from lorikeet.engine.llamacpp import LlamaCppEngine
    from lorikeet.export.merge import Order, convert
    from lorikeet.progress import Silent

    base = bases.prepare(str(tiny_base), Silent())
    nothing = tmp_path / "nothing-trained"
    nothing.mkdir()
    convert(Order(str(base.path), str(nothing), str(tmp_path / "tiny.gguf"), "F16", "tiny"), tmp_path)
    ours, theirs = TorchEngine(base.path, None, 2), LlamaCppEngine(tmp_path / "tiny.gguf", 2, slots=6)
    texts = ["Question: What floats?\nAnswer:", "Question: What sinks in water, and why does it?\nAnswer:", "Once"]
    assert [ours.encode(text) for text in texts] == [theirs.encode(text) for text in texts]
    asked = [Choices(ours.encode(text), [ours.encode(f" {word}", special=False) for word in ("a cork", "lead", "an iron nail")]) for text in texts]
    mine, others = dict(ours.likelihoods(asked)), dict(theirs.likelihoods(asked))
    for n in range(len(asked)):
        assert [w.nats for w in mine[n]] == pytest.approx([w.nats for w in others[n]], abs=0.05)
    sampling = Sampling(max_tokens=6)
    written = dict(ours.complete(texts, sampling, []))
    assert dict(theirs.complete(texts, sampling, [])) == written
    stop = written[0][2]
    assert (
        dict(ours.complete(texts, sampling, [stop])) == dict(theirs.complete(texts, sampling, [stop])) == {n: t.partition(stop)[0] for n, t in written.items()}
    )
