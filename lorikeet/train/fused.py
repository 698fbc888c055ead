"""LoRA's linear layer and the head's loss as functions with gradients of their own: the same numbers to rounding, in fewer passes over memory."""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear


class _LoraLinear(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
    """x W^T + bias + scale (x A^T) B^T. Saves x and x A^T alone; W and its bias are frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ a.t()
        out = flat @ weight.t() if bias is None else torch.addmm(bias, flat, weight.t())
        out.addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(flat, inner, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, inner, weight, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        through = (gradient @ b).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ weight).addmm_(through, a).view(ctx.shape)
        return to_x, None, None, through.t() @ flat, (gradient.t() @ inner).mul_(ctx.scale), None


class FusedLinear(Linear):  # type: ignore[misc]  # peft is not followed
    """PEFT's LoRA layer, run as one function wherever that is the same: a plain frozen layer, one adapter, no dropout, one number format."""

    def forward(self, x: torch.Tensor, *args: Any, **rest: Any) -> torch.Tensor:
        layer, names = self.base_layer, self.active_adapters
        if args or rest or self.disable_adapters or self.merged or len(names) != 1:
            return super().forward(x, *args, **rest)
        a, b, dropout = self.lora_A[names[0]].weight, self.lora_B[names[0]], self.lora_dropout[names[0]]
        if b.bias is not None or {layer.weight.dtype, a.dtype, b.weight.dtype} != {x.dtype} or (self.training and getattr(dropout, "p", 0.0)):
            return super().forward(x)
        return _LoraLinear.apply(x, layer.weight, layer.bias, a, b.weight, self.scaling[names[0]])


def fuse(model: PeftModel) -> PeftModel:
    """Run the model's LoRA layers as `FusedLinear`, those over plain linear layers alone: DoRA's and 4-bit ones stay PEFT's."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear and not module.lora_variant:
            module.__class__ = FusedLinear
    return model


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """Summed cross-entropy of a head over states, block by block; what is kept for the backward pass are the gradients of the states, and of the head
    where it is trained, in the head's own number format whatever it is reckoned with.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, cap: float | None, rows: int, dtype: torch.dtype) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        to_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        with torch.autocast(states.device.type, enabled=False):
            head = weight.to(dtype)
            for start in range(0, len(states), rows):
                block, wanted = states[start : start + rows].to(dtype), targets[start : start + rows, None]
                logits = (block @ head.t()).float()
                if cap:
                    logits = torch.tanh(logits / cap).mul_(cap)
                chances = torch.log_softmax(logits, -1)
                total -= chances.gather(1, wanted).sum()
                if to_states is None and to_weight is None:
                    continue
                chances.exp_()
                chances.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=chances.dtype))
                if cap:
                    chances.mul_(1 - (logits / cap).square_())
                chances = chances.to(dtype)
                if to_states is not None:
                    to_states[start : start + rows] = chances @ head
                if to_weight is not None and dtype == weight.dtype:
                    to_weight.addmm_(chances.t(), block)
                elif to_weight is not None:
                    to_weight += chances.t() @ block
        ctx.save_for_backward(to_states, to_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        to_states, to_weight = (None if found is None else found * gradients[0] for found in ctx.saved_tensors)
        return to_states, to_weight, None, None, None, None


def head_loss(states: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor, cap: float | None, logits: int) -> torch.Tensor:
    """Summed cross-entropy, in nats, of a head without bias; its products are in autocast's number format where that is on.

    states: (tokens, width); targets: (tokens,) token ids; cap: where logits are squashed to (Gemma 2), or None; logits: most of them to
    hold at a time.
    """
    rows, device = max(1, logits // head.weight.shape[0]), states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    return _HeadLoss.apply(states, head.weight, targets, cap, rows, dtype)
