"""The importance matrix: how large what goes into each column of a tensor is, over the recipe's own training text, so that rounding spares what counts.

Collected by hooks on the trained model, for the tensors that llama-imatrix collects (linear layers of the blocks), and written in its GGUF format, which
llama.cpp's own tools read. What llama.cpp keeps per expert is not collected: experts are no linear layers in transformers.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from lorikeet.errors import ModelError
from lorikeet.export.mixture import Importance

_SUMS, _COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNKS, CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"


def tensor_names(reader: gguf.GGUFReader) -> gguf.TensorNameMap:
    """What a GGUF's architecture calls the tensors of a transformers model."""
    architecture = str(reader.fields["general.architecture"].contents())
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return gguf.get_tensor_name_map(number, int(reader.fields[f"{architecture}.block_count"].contents()))


def linear_layers(model: Any, reader: gguf.GGUFReader) -> Iterator[tuple[str, str, Any]]:
    """The linear layers of a transformers model that a GGUF of its architecture has a name for: that name, the path in the model, the module."""
    import torch

    names = tensor_names(reader)
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and (name := names.get_name(f"{path}.weight", try_suffixes=(".weight",))):
            yield name, path, module


def collect(model: Any, rows: Sequence[Sequence[int]], like: Path) -> dict[str, tuple[np.ndarray, int]]:
    """Of each linear layer of the blocks, by its name in the GGUF: sums of squares of what went into it, of shape (columns,), and the number of tokens.

    model: a transformers model on the CPU. like: a GGUF of it, which says its architecture. ModelError where no layer has a name there.
    """
    import torch

    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            seen = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
            sums[name] = sums.get(name, torch.zeros(seen.shape[-1], dtype=torch.float64)) + seen.square().sum(0)
            counts[name] = counts.get(name, 0) + len(seen)

        return hook

    hooks = []
    for name, _, module in linear_layers(model, gguf.GGUFReader(like)):
        if name.startswith("blk."):
            hooks.append(module.register_forward_pre_hook(watch(name)))
    if not hooks:
        raise ModelError(f"no linear layer of the model has a name in {like.name}", "write export.imatrix: none")
    try:
        with torch.inference_mode():
            for ids in rows:
                model(input_ids=torch.tensor([list(ids)]), logits_to_keep=1, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (sums[name].numpy().astype(np.float32), counts[name]) for name in sorted(sums)}


def write(path: Path, collected: dict[str, tuple[np.ndarray, int]], dataset: str, rows: int, longest: int) -> None:
    """Write an importance matrix in the format of llama-imatrix; a chunk is a row."""
    writer = gguf.GGUFWriter(path, "", use_temp_file=False)
    writer.kv_data[0].pop("general.architecture", None)
    writer.add_type("imatrix")
    writer.add_array(DATASETS, [dataset])
    writer.add_uint32(CHUNKS, rows)
    writer.add_uint32(CHUNK_SIZE, longest)
    for name, (sums, count) in collected.items():
        writer.add_tensor(name + _SUMS, sums.reshape(1, -1))
        writer.add_tensor(name + _COUNTS, np.array([[count]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> Importance:
    """What each column of a tensor counts, from a file of llama-imatrix's or of ours: mean squares, of shape (experts times columns,)."""
    try:
        tensors = {tensor.name: np.array(tensor.data, np.float32) for tensor in gguf.GGUFReader(path).tensors}
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ModelError(f"the importance matrix {path} cannot be read: {error}", "make it again with llama-imatrix, in the format gguf") from error
    found = {}
    for name in (name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)):
        sums, counts = tensors[name + _SUMS], tensors[name + _COUNTS].reshape(-1, 1)
        found[name] = np.where(counts > 0, sums.reshape(len(counts), -1) / np.maximum(counts, 1), 1).astype(np.float32).reshape(-1)
    return found


def chunks(path: Path) -> int:
    """How many chunks, which in ours are rows, an importance matrix was collected over."""
    return int(gguf.GGUFReader(path).fields[CHUNKS].contents())
