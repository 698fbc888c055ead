"""The base with a fresh LoRA adapter on it (Hu et al. 2021), by PEFT."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from transformers import logging as transformers_logging

from lorikeet.recipe import TrainSettings
from lorikeet.weights import Base

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def with_adapter(base: Base, settings: TrainSettings, dtype: torch.dtype) -> PeftModel:
    """The base's weights in `dtype`, frozen, with LoRA on every linear layer but the head. The adapter is float32."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=dtype)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    tuned = get_peft_model(model, config)
    tuned.peft_config["default"].base_model_name_or_path = base.name
    return tuned
