"""QLoRA on a small random model: what is held in 4 bits, and that it learns."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_frozen_linear_layers_are_nf4_and_the_adapter_learns_through_them(tiny_base: Path) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import supervised_loss
    from lorikeet.weights import Base

    torch.manual_seed(0)
    base = Base(tiny_base, "tiny", "f", "here", "unknown")
    ids = torch.randint(10, 4000, (4, 24))
    plain, model = (with_adapter(base, TrainSettings(method=method, first_layer=0), torch.float32) for method in ("lora", "qlora"))
    held = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert {m.weight.quant_type for m in held} == {"nf4"}
    assert all(m.weight.quant_state.nested for m in held)
    assert len(held) == 7 * model.config.num_hidden_layers  # the head stays as it is
    assert supervised_loss(model, ids, ids).item() == pytest.approx(supervised_loss(plain, ids, ids).item(), rel=0.02)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    optimiser = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(8):
        loss = supervised_loss(model, ids, ids)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
