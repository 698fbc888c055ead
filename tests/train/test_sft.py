"""What a batch is made of. Slow for the import of TRL alone."""

from pathlib import Path

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
    from lorikeet.train.sft import SimilarLengths

    lengths = [10, 90] * 64
    order = list(SimilarLengths(lengths, 8, seed=3))
    assert sorted(order) == list(range(128))
    batches = [{lengths[n] for n in order[at : at + 8]} for at in range(0, 128, 8)]
    assert all(len(kinds) == 1 for kinds in batches)
    assert batches != sorted(batches, key=max, reverse=True)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    from lorikeet.train.sft import SimilarLengths

    def order(seed: int, epoch: int) -> list[int]:
        sampler = SimilarLengths(range(50), 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_a_batch_that_is_not_full_comes_last() -> None:
    from lorikeet.train.sft import SimilarLengths

    order = list(SimilarLengths(range(21), 8, seed=1))
    assert len(set(order)) == 21
    lengths = sorted(order[-5:])
    assert lengths == [0, 1, 2, 3, 4]


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


def test_only_layers_from_the_first_one_up_are_adapted(tiny_base: Path) -> None:
    import torch

    from lorikeet.recipe import TrainSettings
    from lorikeet.train.lora import with_adapter
    from lorikeet.weights import Base

    base = Base(tiny_base, "tiny", "", "", "")
    names = [n for n, p in with_adapter(base, TrainSettings(first_layer=1), torch.float32).named_parameters() if p.requires_grad]
    assert names
    assert all(".layers.1." in n for n in names)
    assert not any("lm_head" in n for n in names)
