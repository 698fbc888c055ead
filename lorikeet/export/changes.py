"""What training did to the base's weights, read from what it left: products to be added, and tensors that take a weight's place."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lorikeet.errors import ModelError
from lorikeet.weights import ADAPTER_CONFIG, is_adapter, lora_scale

if TYPE_CHECKING:
    import torch

_REFUSED = {"lora_bias": "LoRA bias", "trainable_token_indices": "trained tokens"}
HEAD = "lm_head.weight"


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


class Stored(NamedTuple):
    """A tensor of a safetensors file, read anew whenever it is asked for, so that no part of what was trained stays in memory."""

    file: Path
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        from safetensors import safe_open

        with safe_open(self.file, "pt") as opened:
            return tuple(opened.get_slice(self.name).get_shape())

    @property
    def tensor(self) -> "torch.Tensor":
        from safetensors import safe_open

        with safe_open(self.file, "pt") as opened:
            return opened.get_tensor(self.name)

    def rows(self, first: int, last: int) -> "torch.Tensor":
        from safetensors import safe_open

        with safe_open(self.file, "pt") as opened:
            return opened.get_slice(self.name)[first:last]


class Whole(Stored):
    """A tensor that takes a weight's place."""


@dataclass(frozen=True)
class Delta:
    """What is added to a weight of (out, in), scale * B A: A is (r, in), B is (out, r); with DoRA the lengths (out,) that its rows get. Read as float32."""

    stored_a: Stored
    stored_b: Stored
    scale: float
    stored_lengths: Stored | None = None

    @property
    def a(self) -> "torch.Tensor":
        return self.stored_a.tensor.float()

    @property
    def b(self) -> "torch.Tensor":
        return self.stored_b.tensor.float()

    @property
    def lengths(self) -> "torch.Tensor | None":
        return self.stored_lengths.tensor.float() if self.stored_lengths else None


def changes(trained: Path) -> dict[str, Delta | Whole]:
    """What training did to every weight that it changed, by its name in the base."""
    from safetensors import safe_open

    made: dict[str, Delta | Whole] = {}
    pairs: dict[str, dict[str, Stored]] = {}
    config = read_config(trained) if is_adapter(trained) else None
    for path in sorted(trained.glob("*.safetensors")):
        with safe_open(path, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no dict
                own = name.removeprefix("base_model.model.")
                layer, _, part = own.removesuffix(".weight").rpartition(".")
                if config is not None and part.startswith("lora_"):
                    pairs.setdefault(layer, {})[part] = Stored(path, name)
                else:
                    made[own if config is not None else name] = Whole(path, name)
    if config is None:
        return made
    for layer, parts in pairs.items():
        if "lora_A" not in parts or "lora_B" not in parts:
            raise ModelError(f"the adapter in {trained} changes {layer} by {', '.join(sorted(parts))}, which export does not handle", "train it as plain LoRA")
        scale = scale_of(config, layer, parts["lora_A"].shape[0])
        made[f"{layer}.weight"] = Delta(parts["lora_A"], parts["lora_B"], scale, parts.get("lora_magnitude_vector"))
    return made


def without_tied_head(made: dict[str, Delta | Whole]) -> dict[str, Delta | Whole]:
    """The changes to a base whose head is its embeddings: PEFT writes that one matrix twice. ModelError where the two are not one."""
    import torch

    head = made.get(HEAD)
    embeddings = next((change for name, change in made.items() if name.endswith("embed_tokens.weight")), None)
    if isinstance(head, Whole) and not (isinstance(embeddings, Whole) and torch.equal(head.tensor, embeddings.tensor)):
        raise ModelError(
            "the head was trained apart from embeddings to which the base ties it", "train it with ensure_weight_tying, so that it stays one matrix"
        )
    return {name: change for name, change in made.items() if name != HEAD}


def changed(before: Any, change: Delta | Whole, rows: slice | None = None, wrap: Callable[[Any], Any] = lambda tensor: tensor) -> Any:
    """A base's weight, or some rows of it, as training changed it. `wrap` makes the kind of tensor that `before` is of one of torch's."""
    import torch

    if isinstance(change, Whole):
        return wrap(change.tensor if rows is None else change.rows(rows.start, rows.stop))
    b, lengths = change.b, change.lengths
    if rows is not None:
        b, lengths = b[rows], None if lengths is None else lengths[rows]
    after = torch.addmm(before.to(torch.float32), wrap(b * change.scale), wrap(change.a))  # the whole product is never held beside the sum
    if lengths is None:
        return after
    return after * (wrap(lengths) / after.square().sum(1).sqrt())[:, None]


def require_shape(weight: str, change: Delta | Whole, there: tuple[int, ...]) -> None:
    shape = change.shape if isinstance(change, Whole) else (change.stored_b.shape[0], change.stored_a.shape[1])
    if there != shape:
        raise ModelError(f"what was trained for {weight} is of {shape}, the base's weight of {there}", "use it with the base it was trained from")
