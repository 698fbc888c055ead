"""An adapter's GGUF on the base's, against PEFT; and what no such file can hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorikeet.errors import ModelError

pytestmark = pytest.mark.slow


def write(base: Path, folder: Path, **settings: Any) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    wanted = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**wanted))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    return folder


PATTERNS = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 40}}


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, PATTERNS, {"use_rslora": True, **PATTERNS}], ids=["plain", "rslora", "patterns", "both"])
def test_the_adapter_on_the_base_says_what_peft_says(tiny_base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    from lorikeet import statistics
    from lorikeet.engine.llamacpp import LlamaCppEngine
    from lorikeet.engine.torch_engine import TorchEngine
    from lorikeet.export.adapter import write_adapter
    from lorikeet.export.merge import Order, convert

    trained, none = write(tiny_base, tmp_path / "trained", **settings), tmp_path / "none"
    none.mkdir()
    (none / "adapter_config.json").write_text("{}")
    convert(Order(str(tiny_base), str(none), str(tmp_path / "m.gguf"), "F16", "m"), tmp_path)
    write_adapter(tiny_base, trained, tmp_path / "a.gguf", tmp_path)
    hf = TorchEngine(tiny_base, trained, 2)
    ids = hf.encode("The nose bleeds: pinch it for ten minutes, and lean forward.")
    theirs = hf.logits(ids).numpy()
    with_adapter, alone = LlamaCppEngine(tmp_path / "m.gguf", 2, 1, adapter=tmp_path / "a.gguf"), LlamaCppEngine(tmp_path / "m.gguf", 2, 1)
    near, far = (float(np.mean(statistics.kl_divergence(theirs, engine.logits(ids)))) for engine in (with_adapter, alone))
    assert near < 1e-4 < 100 * near + 1e-4 < far
    for engine in (with_adapter, alone):
        engine.close()


@pytest.mark.parametrize(
    ("settings", "told"), [({"use_dora": True}, "uses DoRA"), ({"modules_to_save": ["lm_head"], "ensure_weight_tying": True}, "was trained whole")]
)
def test_what_no_adapter_file_holds_is_refused(tiny_base: Path, tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    from lorikeet.export.adapter import fold

    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=told):
        fold(write(tiny_base, tmp_path / "trained", **settings), tmp_path / "out")


def test_an_adapter_of_another_base_is_refused_by_the_engine(tiny_base: Path, tmp_path: Path) -> None:
    from lorikeet.engine.llamacpp import LlamaCppEngine
    from lorikeet.export.merge import Order, convert

    none = tmp_path / "none"
    none.mkdir()
    (none / "adapter_config.json").write_text(json.dumps({}))
    convert(Order(str(tiny_base), str(none), str(tmp_path / "m.gguf"), "F16", "m"), tmp_path)
    with pytest.raises(ModelError, match="cannot put"):
        LlamaCppEngine(tmp_path / "m.gguf", 2, 1, adapter=tmp_path / "m.gguf")
