"""An adapter as a GGUF of its own, put on a base's GGUF when it is loaded: several assistants for the memory of one.

llama.cpp multiplies by alpha / rank alone. The true scale, which rsLoRA and alphas and ranks of single layers change, is put into B beforehand.
"""

import json
import sys
from pathlib import Path

from lorikeet import process
from lorikeet.errors import ModelError
from lorikeet.export.changes import Delta, changes
from lorikeet.export.merge import converter_folder
from lorikeet.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter


def fold(adapter: Path, folder: Path) -> None:
    """Write an adapter whose alpha / rank is what it is multiplied by; ModelError for what no such file can hold."""
    from safetensors.torch import save_file

    if not is_adapter(adapter):
        raise ModelError("every weight was trained, which no adapter holds", "write export.adapter: false, or train.method: lora")
    tensors, ranks = {}, []
    for weight, change in changes(adapter).items():
        layer = weight.removesuffix(".weight")
        if not isinstance(change, Delta):
            raise ModelError(f"{weight} was trained whole, which an adapter's GGUF cannot hold", "write export.adapter: false, or train without embeddings")
        if change.stored_lengths is not None:
            raise ModelError("the adapter uses DoRA, which an adapter's GGUF cannot hold", "write export.adapter: false, or train.dora: false")
        a = change.a.contiguous()
        ranks.append(rank := a.shape[0])
        tensors[f"base_model.model.{layer}.lora_A.weight"] = a
        tensors[f"base_model.model.{layer}.lora_B.weight"] = (change.b * (change.scale * rank)).contiguous()  # the reader multiplies by 1 / rank
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    (folder / ADAPTER_CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": max(ranks), "lora_alpha": 1}), encoding="utf-8")


def write_adapter(base: Path, adapter: Path, target: Path, notes: Path) -> None:
    """The GGUF of an adapter, in float16, for the GGUFs of its base."""
    folded = notes / "folded"
    folded.mkdir(exist_ok=True)
    fold(adapter, folded)
    command = [
        sys.executable,
        str(converter_folder() / "convert_lora_to_gguf.py"),
        str(folded),
        "--base",
        str(base),
        "--outfile",
        str(target),
        "--outtype",
        "f16",
    ]
    process.run(command, notes / "adapter.log", "read adapter.log in the folder's notes; the base's architecture may be unknown to llama.cpp's converter")
    for path in folded.iterdir():
        path.unlink()
    folded.rmdir()
