"""The base with a LoRA adapter on it (Hu et al. 2021), by PEFT: a fresh one, or one to go on from."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from lorikeet.engine.torch_engine import load_model
from lorikeet.errors import ModelError, RecipeError, first_line
from lorikeet.recipe import Part, TrainSettings
from lorikeet.train.fused import fuse
from lorikeet.weights import Base, require_base_of

PART: dict[Part, str] = {"all": "", "attention": ".self_attn.", "mlp": ".mlp."}
"""What the names of the linear layers that `train.targets` means have in common."""


def _linear_names(model: torch.nn.Module, targets: Part | list[str], base: str) -> list[str]:
    """Last parts of the names of the linear layers inside the decoder's blocks that get LoRA."""
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and ".layers." in name]
    known = sorted({name.rsplit(".", 1)[-1] for name in linear})
    if not isinstance(targets, str):
        if unknown := [name for name in targets if name not in known]:
            raise RecipeError(f"train.targets names {unknown[0]!r}, which {base} does not have", f"use all, attention, mlp, or some of: {', '.join(known)}")
        return sorted(targets)
    if names := sorted({name.rsplit(".", 1)[-1] for name in linear if PART[targets] in name}):
        return names
    raise RecipeError(f"train.targets is {targets!r}, but {base} names no layer so", f"write train.targets: all, or some of: {', '.join(known)}")


def _whole_names(model: PreTrainedModel) -> list[str]:
    """Names of the embeddings, and of the head where it has a matrix of its own."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    wanted = [embeddings] if head is None or head.weight is embeddings.weight else [embeddings, head]
    return [name for name, module in model.named_modules() if any(module is one for one in wanted)]


def with_adapter(base: Base, settings: TrainSettings, dtype: torch.dtype) -> PeftModel:
    """The base's weights in `dtype` or in 4 bits, frozen, with LoRA on linear layers of its blocks, never the head: a fresh adapter, or that of
    `settings.adapter`, which brings its own shape. What is trained is float32: the adapter, and with `embeddings` copies of embeddings and head, one where
    they are tied.
    """
    model = load_model(base.path, dtype, four_bit=settings.method == "qlora")
    if settings.adapter:
        return _ready(_begun(model, base, Path(settings.adapter)), base)
    whole = _whole_names(model) if settings.embeddings else []
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=_linear_names(model, settings.targets, base.name),
        layers_to_transform=list(range(settings.first_layer or 0, model.config.num_hidden_layers)),
        modules_to_save=whole or None,
        ensure_weight_tying=len(whole) == 1,
        task_type="CAUSAL_LM",
    )
    return _ready(get_peft_model(model, config), base)


def _ready(tuned: PeftModel, base: Base) -> PeftModel:
    for parameter in (p for p in tuned.parameters() if p.requires_grad):
        parameter.data = parameter.data.float()  # PEFT does so for the adapter alone
    tuned.peft_config["default"].base_model_name_or_path = base.name
    return fuse(tuned)


def _begun(model: torch.nn.Module, base: Base, adapter: Path) -> PeftModel:
    """The base with an adapter that was trained before; ModelError where it does not fit."""
    require_base_of(adapter, base)
    try:
        return PeftModel.from_pretrained(model, adapter, is_trainable=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the adapter in {adapter} does not fit {base.name}: {first_line(error)}", "name the base that it was trained on") from error
