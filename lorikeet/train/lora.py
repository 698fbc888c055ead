"""The base with a fresh LoRA adapter on it (Hu et al. 2021), by PEFT."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from lorikeet.engine.torch_engine import load_model
from lorikeet.errors import RecipeError
from lorikeet.recipe import Targets, TrainSettings
from lorikeet.train.fused import fuse
from lorikeet.weights import Base

PART: dict[Targets, str] = {"all": "", "attention": ".self_attn.", "mlp": ".mlp."}
"""What the names of the linear layers that `train.targets` means have in common."""


def _linear_names(model: torch.nn.Module, targets: Targets) -> list[str]:
    """Last parts of the names of the linear layers inside the decoder's blocks that get LoRA."""
    linear = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and ".layers." in name)
    return sorted({name.rsplit(".", 1)[-1] for name in linear if PART[targets] in name})


def _whole_names(model: PreTrainedModel) -> list[str]:
    """Names of the embeddings, and of the head where it has a matrix of its own."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    wanted = [embeddings] if head is None or head.weight is embeddings.weight else [embeddings, head]
    return [name for name, module in model.named_modules() if any(module is one for one in wanted)]


def with_adapter(base: Base, settings: TrainSettings, dtype: torch.dtype) -> PeftModel:
    """The base's weights in `dtype` or in 4 bits, frozen, with LoRA on linear layers of its blocks, never the head. What is trained is float32: the adapter,
    and with `embeddings` copies of embeddings and head, one where they are tied.
    """
    model = load_model(base.path, dtype, four_bit=settings.method == "qlora")
    layers = model.config.num_hidden_layers
    first = settings.first_layer or 0
    names = _linear_names(model, settings.targets)
    whole = _whole_names(model) if settings.embeddings else []
    if not names:
        raise RecipeError(f"train.targets is {settings.targets!r}, but {base.name} names no layer so", "write train.targets: all")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=names,
        layers_to_transform=list(range(first, layers)),
        modules_to_save=whole or None,
        ensure_weight_tying=len(whole) == 1,
        task_type="CAUSAL_LM",
    )
    tuned = get_peft_model(model, config)
    for parameter in (p for p in tuned.parameters() if p.requires_grad):
        parameter.data = parameter.data.float()  # PEFT does so for the adapter alone
    tuned.peft_config["default"].base_model_name_or_path = base.name
    return fuse(tuned)
