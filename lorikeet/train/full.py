"""The base itself, to be trained whole: no adapter."""

import re

import torch
from transformers import PreTrainedModel

from lorikeet.engine.torch_engine import load_model
from lorikeet.recipe import TrainSettings
from lorikeet.weights import Base

_LAYER = re.compile(r"\.layers\.(\d+)\.")


def whole_model(base: Base, settings: TrainSettings) -> PreTrainedModel:
    """The base in float32, whatever format is reckoned in: bfloat16 holds no step as small as training's.

    Layers below `first_layer` are frozen, and with them the embeddings, a head that is tied to them too.
    """
    model = load_model(base.path, torch.float32)
    first = settings.first_layer or 0
    if first:
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if (layer := _LAYER.search(name)) and int(layer[1]) < first:
            parameter.requires_grad_(False)
    return model
