"""Files with one fault each, planted, and the name that the parity check gives it; and files without."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorikeet.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the tiny base that says something else than the base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.normal_(0, 0.2)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def other_template(base: Path, adapter: Path) -> None:
    """Another trainer's idea of how turns are written."""
    (base / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    )


def doubled_bos(base: Path, adapter: Path) -> None:
    """The template writes what an engine writes, too."""
    path = base / "chat_template.jinja"
    path.write_text("{{ bos_token }}{{ bos_token }}" + path.read_text().replace("{{ bos_token }}", "", 1))


def swapped_token(base: Path, adapter: Path) -> None:
    """The ends of turns have changed places."""
    path = base / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    for a, b in (("<|im_start|>", "<swap>"), ("<|im_end|>", "<|im_start|>"), ("<swap>", "<|im_end|>")):
        text = text.replace(a, b)
    path.write_text(text, encoding="utf-8")


def wrong_scale(base: Path, adapter: Path) -> None:
    """Alpha where alpha / r is meant, or the other way round."""
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 32}))


def rslora_as_lora(base: Path, adapter: Path) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_rslora": True}))


def not_merged(base: Path, adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    save_file({name: tensor * ("lora_B" not in name) for name, tensor in load_file(path).items()}, path)


def other_weights(base: Path, adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = base / "model.safetensors"
    save_file({name: tensor * 5 if "proj" in name else tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


def nothing(base: Path, adapter: Path) -> None:
    """No fault."""


FAULTS: list[tuple[Callable[[Path, Path], None], str]] = [
    (nothing, ""), (other_template, "wrong-template"), (doubled_bos, "doubled-bos"), (swapped_token, "special-token-swapped"),
    (wrong_scale, "wrong-scale"), (rslora_as_lora, "wrong-scale"), (not_merged, "not-merged"), (other_weights, "other-weights"),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "name"), FAULTS, ids=[plant.__name__ for plant, _ in FAULTS])
def test_a_planted_fault_is_called_by_its_name(
    plant: Callable[[Path, Path], None], name: str, tiny_base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lorikeet.export.merge import Order, convert

    base = copy_of(tiny_base, tmp_path / "base")
    if plant is doubled_bos:  # the start token of this tokenizer begins every turn: here it gets one that does not
        config = json.loads((base / "tokenizer_config.json").read_text())
        config["bos_token"] = "<|endoftext|>"
        (base / "tokenizer_config.json").write_text(json.dumps(config))
        (base / "chat_template.jinja").write_text("{{ bos_token }}" + (base / "chat_template.jinja").read_text())
    right = copy_of(base, tmp_path / "right")
    made_of, with_adapter = base, copy_of(adapter, tmp_path / "adapter")
    plant(made_of, with_adapter)
    convert(Order(str(made_of), str(with_adapter), str(tmp_path / "m.gguf"), "F16", "m"), tmp_path)
    code = main(["parity", str(tmp_path / "m.gguf"), "--model", str(adapter), "--base", str(right), "--threads", "2", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [cause["code"] for cause in found["causes"]][:1] == ([name] if name else [])
    assert code == (3 if name else 0)
    if plant is wrong_scale:
        assert "at 4 times its scale" in found["causes"][0]["what"]


def test_a_quantised_file_is_held_to_tokens_template_and_scale(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    from lorikeet.export.merge import Order, convert
    from lorikeet.export.parity import TALKS, compare, told
    from lorikeet.export.quantize import quantize

    convert(Order(str(tiny_base), str(adapter), str(tmp_path / "m.gguf"), "F16", "m"), tmp_path)
    quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", "Q8_0", 2)
    found = compare(tmp_path / "q.gguf", tiny_base, adapter, TALKS, 2)
    assert (found.causes, found.kind, found.answers) == ([], "Q8_0", 0)
    assert "its weights are quantised (Q8_0)" in told(found, tmp_path / "q.gguf")


def test_a_bf16_file_is_the_model_too(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    from lorikeet.export.merge import Order, convert
    from lorikeet.export.parity import TALKS, compare

    convert(Order(str(tiny_base), str(adapter), str(tmp_path / "m.gguf"), "BF16", "m"), tmp_path)
    found = compare(tmp_path / "m.gguf", tiny_base, adapter, TALKS, 2)
    assert (found.causes, found.kind) == ([], "BF16")


def test_the_merged_folder_is_the_model_for_transformers(tiny_base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lorikeet.engine.torch_engine import TorchEngine
    from lorikeet.export.merge import FOLDER, Order, convert

    convert(Order(str(tiny_base), str(adapter), str(tmp_path / "m"), FOLDER, "m"), tmp_path)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "float16"
    whole, parts = TorchEngine(tmp_path / "m", None, 2), TorchEngine(tiny_base, adapter, 2)
    ids = parts.encode("Hello, what is this about?")
    torch.testing.assert_close(whole.logits(ids), parts.logits(ids), atol=2e-2, rtol=1e-2)
    assert whole.tokenizer.chat_template == parts.tokenizer.chat_template


def test_a_tokenizer_without_a_chat_template_is_refused(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lorikeet.export.merge import Order, convert

    base = copy_of(tiny_base, tmp_path / "base")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "adapter_config.json").write_text("{}")
    convert(Order(str(base), str(tmp_path / "none"), str(tmp_path / "m.gguf"), "F16", "m"), tmp_path)
    (base / "chat_template.jinja").unlink()
    assert main(["parity", str(tmp_path / "m.gguf"), "--model", str(base)]) == 2
    assert "has no chat template" in capsys.readouterr().err
