"""What a batch is made of. Slow for the import of TRL alone."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_rows_are_padded_on_the_right_and_padding_gets_no_loss() -> None:
    from lorikeet.train.sft import collate

    batch = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_one_row_is_not_padded() -> None:
    from lorikeet.train.sft import collate

    assert collate([{"input_ids": [5, 6], "labels": [-100, 6]}])["input_ids"].shape == (1, 2)


def test_batches_hold_rows_of_like_length_and_come_in_mixed_order() -> None:
    from lorikeet.train.sft import Batches

    lengths = [10, 90] * 64
    batches = list(Batches(lengths, rows=8, tokens=10_000, seed=3))
    assert sorted(n for batch in batches for n in batch) == list(range(128))
    kinds = [{lengths[n] for n in batch} for batch in batches]
    assert all(len(kind) == 1 for kind in kinds)
    assert kinds != sorted(kinds, key=max, reverse=True)


def test_a_batch_of_long_rows_is_smaller() -> None:
    from lorikeet.train.sft import Batches

    lengths = [10] * 20 + [50] * 10 + [500]
    batches = list(Batches(lengths, rows=8, tokens=200, seed=3))
    assert sorted(n for batch in batches for n in batch) == list(range(31))
    assert max(len(b) * max(lengths[n] for n in b) for b in batches if len(b) > 1) <= 200
    assert [30] in batches
    assert max(len(b) for b in batches) == 8


def test_the_batches_depend_on_seed_and_epoch_alone_and_every_epoch_has_as_many() -> None:
    from lorikeet.train.sft import Batches

    def batches(seed: int, epoch: int) -> list[list[int]]:
        made = Batches([n // 7 for n in range(50)], rows=8, tokens=30, seed=seed)
        made.set_epoch(epoch)
        assert len(list(made)) == len(made)
        return list(made)

    assert batches(1, 0) == batches(1, 0)
    assert batches(1, 0) != batches(1, 1)
    assert batches(1, 0) != batches(2, 0)
    assert len(batches(1, 0)) == len(batches(1, 1)) == len(batches(2, 0))


def test_processes_share_out_every_batch_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorikeet.train.sft import Batches

    def batches(rank: int, world: int) -> list[list[int]]:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))
        return list(Batches([n // 7 for n in range(50)], rows=4, tokens=30, seed=1))

    whole, shares = batches(0, 1), [batches(rank, 3) for rank in range(3)]
    assert [sorted(batch) for batch in whole] == [sorted(n for part in parts for n in part) for parts in zip(*shares, strict=True)]
    assert any(not part for share in shares for part in share)  # of batches of two, one process gets nothing


def test_a_process_without_rows_adds_nothing_but_takes_part(tiny_base: Path) -> None:
    import torch

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import collate, supervised_loss
    from lorikeet.weights import Base

    model = with_adapter(Base(tiny_base, "tiny", "", "", ""), TrainSettings(first_layer=0), torch.float32)
    idle = collate([])
    loss = supervised_loss(model, idle["input_ids"], idle["labels"])
    assert loss.item() == 0
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(gradient.count_nonzero() == 0 for gradient in torch.autograd.grad(loss, trained))


def test_the_loss_is_that_of_the_whole_model_over_supervised_tokens(tiny_base: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from lorikeet.train.sft import collate, supervised_loss

    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), LoraConfig(target_modules="all-linear"))
    ids = [torch.randint(10, 4000, (n,)).tolist() for n in (12, 7, 20)]
    batch = collate([{"input_ids": row, "labels": [-100] * 4 + row[4:]} for row in ids])
    ours = supervised_loss(model, batch["input_ids"], batch["labels"]) / (batch["labels"] != -100).sum()
    mask = torch.arange(20)[None] < torch.tensor([[12], [7], [20]])
    reference = model(input_ids=batch["input_ids"], attention_mask=mask.long(), labels=batch["labels"]).loss
    assert ours.item() == pytest.approx(reference.item(), rel=1e-5)


def test_a_prefix_that_all_rows_share_changes_neither_loss_nor_gradients(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from lorikeet.train import sft

    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), LoraConfig(target_modules="all-linear"))
    adapter = [p for p in model.parameters() if p.requires_grad]
    for weights in adapter:
        torch.nn.init.normal_(weights, std=0.05)
    system = list(range(100, 115))
    rows = [system + torch.randint(200, 4000, (n,)).tolist() for n in (12, 7, 20)]
    batch = sft.collate([{"input_ids": row, "labels": [-100] * 19 + row[19:]} for row in rows])
    assert sft.shared_prefix(batch["input_ids"], batch["labels"]) == 15
    found = []
    for least in (4, 1000):
        monkeypatch.setattr(sft, "WORTH_SHARING", least)
        loss = sft.supervised_loss(model, batch["input_ids"], batch["labels"])
        found.append((loss.detach(), torch.autograd.grad(loss, adapter)))
    (shared, gradients), (whole, expected) = found
    assert shared.item() == pytest.approx(whole.item(), rel=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_noise_and_dropout_fall_on_every_row_by_itself(tiny_base: Path) -> None:
    """NEFTune's noise comes by transformers' hook; the shared prefix would give all rows one draw of it."""
    import torch
    from transformers.integrations.neftune import activate_neftune

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import supervised_loss
    from lorikeet.weights import Base

    model = with_adapter(Base(tiny_base, "tiny", "", "", ""), TrainSettings(first_layer=0), torch.float32)
    ids = torch.randint(10, 4000, (1, 24)).expand(2, -1)
    labels = ids.clone()
    labels[:, :12] = -100
    plain = supervised_loss(model, ids, labels).item()
    activate_neftune(model, 50.0)
    model.train()
    noisy = {supervised_loss(model, ids, labels, share=False).item() for _ in range(3)}
    assert len(noisy) == 3 and plain not in noisy
    model.eval()
    assert supervised_loss(model, ids, labels).item() == plain


def test_a_shared_prefix_ends_before_the_token_that_predicts_the_first_answer() -> None:
    import torch

    from lorikeet.train.sft import shared_prefix

    same = torch.tensor([[1, 2, 3, 4]] * 2)
    assert shared_prefix(same, torch.tensor([[-100, -100, 3, 4]] * 2)) == 1
    assert shared_prefix(same, torch.tensor([[-100, -100, -100, -100], [-100, 2, 3, 4]])) == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"first_layer": 1}, {"1.mlp", "1.self_attn"}),
        ({"targets": "mlp"}, {"0.mlp", "1.mlp"}),
        ({"targets": "attention", "first_layer": 1}, {"1.self_attn"}),
        ({"targets": ["q_proj", "v_proj"], "first_layer": 1}, {"1.self_attn"}),
    ],
)
def test_only_what_the_recipe_names_is_adapted(tiny_base: Path, settings: dict[str, Any], expected: set[str]) -> None:
    import torch

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.weights import Base

    tuned = with_adapter(Base(tiny_base, "tiny", "", "", ""), TrainSettings(**settings), torch.float32)
    trained = [n for n, p in tuned.named_parameters() if p.requires_grad]
    assert {".".join(n.partition(".layers.")[2].split(".")[:2]) for n in trained} == expected


def test_a_layer_that_the_base_does_not_have_is_refused_with_those_it_has(tiny_base: Path) -> None:
    import torch

    from lorikeet.errors import RecipeError
    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.weights import Base

    with pytest.raises(RecipeError, match=r"names .qkv_proj., which tiny does not have") as error:
        with_adapter(Base(tiny_base, "tiny", "", "", ""), TrainSettings(targets=["q_proj", "qkv_proj"]), torch.float32)
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in error.value.cure


@pytest.mark.parametrize("cap", [None, 3.0])
def test_the_heads_loss_in_blocks_has_the_gradient_of_the_plain_one(cap: float | None) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from lorikeet.train.fused import head_loss

    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=False).requires_grad_(False)
    states, targets = torch.randn(23, 16, requires_grad=True), torch.randint(0, 50, (23,))
    ours = head_loss(states, head, targets, cap, logits=7 * 50)
    logits = head(states)
    plain = cross_entropy(torch.tanh(logits / cap) * cap if cap else logits, targets, reduction="sum")
    torch.testing.assert_close(ours, plain)
    (mine,), (theirs,) = (torch.autograd.grad(3 * loss, states) for loss in (ours, plain))
    torch.testing.assert_close(mine, theirs)


def test_a_fused_layer_is_pefts_own(tiny_base: Path) -> None:
    import torch
    from peft.tuners.lora import Linear

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.fused import FusedLinear
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import supervised_loss
    from lorikeet.weights import Base

    torch.manual_seed(0)
    model = with_adapter(Base(tiny_base, "tiny", "", "", ""), TrainSettings(first_layer=0), torch.float32)
    adapter = [p for p in model.parameters() if p.requires_grad]
    for weights in adapter:
        torch.nn.init.normal_(weights, std=0.05)
    ids = torch.randint(10, 4000, (3, 12))
    fused = [m for m in model.modules() if isinstance(m, FusedLinear)]
    assert len(fused) == 7 * model.config.num_hidden_layers
    found = []
    for kind in (FusedLinear, Linear):
        for module in fused:
            module.__class__ = kind
        loss = supervised_loss(model, ids, ids)
        found.append((loss, torch.autograd.grad(loss, adapter)))
    (ours, mine), (plain, theirs) = found
    torch.testing.assert_close(ours, plain)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_fused_layer_leaves_dropout_and_a_switched_off_adapter_to_peft(tiny_base: Path) -> None:
    import torch

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.weights import Base

    model = with_adapter(Base(tiny_base, "tiny", "", "", ""), TrainSettings(first_layer=0, dropout=0.5), torch.float32)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    ids = torch.randint(10, 4000, (1, 12))
    with torch.no_grad():
        assert not torch.equal(model(ids).logits, model(ids).logits)
        model.eval()
        adapted = model(ids).logits
        assert torch.equal(adapted, model(ids).logits)
        with model.disable_adapter():
            assert not torch.allclose(adapted, model(ids).logits)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_training_and_names_the_step(loss: float) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from lorikeet.errors import ModelError
    from lorikeet.progress import Silent
    from lorikeet.train.sft import Watch

    state = TrainerState(global_step=3)
    with pytest.raises(ModelError, match=f"training went to {loss} at step 3"):
        Watch(Silent(), 5).on_log(TrainingArguments(use_cpu=True, bf16=False), state, TrainerControl(), {"loss": loss})
