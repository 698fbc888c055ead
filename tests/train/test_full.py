"""Every weight trained, and embeddings trained beside an adapter: what is trained, its loss and gradients, and what is kept. Slow for the imports alone."""

from pathlib import Path
from typing import Any

import pytest

from lorikeet.recipe import TrainSettings
from lorikeet.weights import Base

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def untied_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of random weights in the shape of Qwen 3, whose head has a matrix of its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("untied")
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = AutoConfig.for_model("qwen3", **sizes, head_dim=16, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def base_of(folder: Path) -> Base:
    return Base(folder, "tiny", "f", "here", "unknown")


def trained_parts(model: Any) -> set[str]:
    """What is trained outside the blocks, and the blocks in which anything is."""
    names = [n.removeprefix("base_model.model.") for n, p in model.named_parameters() if p.requires_grad]
    return {n.partition(".layers.")[2].split(".")[0] or n.removesuffix(".weight").removesuffix(".modules_to_save.default").rsplit(".", 1)[-1] for n in names}


@pytest.mark.parametrize("cap", [None, 3.0])
def test_the_loss_of_a_trained_head_in_blocks_has_the_gradients_of_the_plain_one(cap: float | None) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from lorikeet.train.fused import head_loss

    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=False)
    states, targets = torch.randn(23, 16, requires_grad=True), torch.randint(0, 50, (23,))
    ours = head_loss(states, head, targets, cap, logits=7 * 50)
    logits = head(states)
    plain = cross_entropy(torch.tanh(logits / cap) * cap if cap else logits, targets, reduction="sum")
    torch.testing.assert_close(ours, plain)
    for mine, theirs in zip(*(torch.autograd.grad(3 * loss, (states, head.weight)) for loss in (ours, plain)), strict=True):
        torch.testing.assert_close(mine, theirs)
    (alone,) = torch.autograd.grad(head_loss(states.detach(), head, targets, cap, logits=7 * 50), head.weight)
    torch.testing.assert_close(alone, theirs / 3)


def test_under_autocast_a_head_in_float32_is_reckoned_with_in_bfloat16_and_its_gradient_is_float32() -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from lorikeet.train.fused import head_loss

    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=False)
    states, targets = torch.randn(40, 16, requires_grad=True), torch.randint(0, 50, (40,))
    exact = torch.autograd.grad(head_loss(states, head, targets, None, 7 * 50), head.weight)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, plain = head_loss(states, head, targets, None, 7 * 50), cross_entropy(head(states).float(), targets, reduction="sum")
    torch.testing.assert_close(ours, plain)
    mine, theirs = (torch.autograd.grad(loss, head.weight)[0] for loss in (ours, plain))
    assert mine.dtype == torch.float32
    assert 0 < (mine - exact).norm() <= 2 * (theirs - exact).norm()


@pytest.mark.parametrize(
    ("tied", "settings", "expected"),
    [
        (True, {"method": "full", "first_layer": 0}, {"embed_tokens", "0", "1", "norm"}),
        (True, {"method": "full", "first_layer": 1}, {"1", "norm"}),
        (False, {"method": "full", "first_layer": 0}, {"embed_tokens", "0", "1", "norm", "lm_head"}),
        (False, {"method": "full", "first_layer": 1}, {"1", "norm", "lm_head"}),
        (True, {"embeddings": True, "first_layer": 1}, {"embed_tokens", "1"}),
        (False, {"embeddings": True, "first_layer": 0}, {"embed_tokens", "0", "1", "lm_head"}),
    ],
)
def test_what_the_method_names_is_trained_in_float32(tiny_base: Path, untied_base: Path, tied: bool, settings: dict[str, Any], expected: set[str]) -> None:
    import torch

    from lorikeet.train.full import whole_model
    from lorikeet.train.lora import with_adapter

    base, wanted = base_of(tiny_base if tied else untied_base), TrainSettings(**settings)
    model = whole_model(base, wanted) if wanted.method == "full" else with_adapter(base, wanted, torch.bfloat16)
    assert trained_parts(model) == expected
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    causal = model if wanted.method == "full" else model.get_base_model()
    assert (causal.get_output_embeddings().weight is causal.get_input_embeddings().weight) == tied


@pytest.mark.parametrize("settings", [{"method": "full"}, {"embeddings": True}], ids=["full", "embeddings"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_over_a_shared_prefix_has_the_whole_models_gradients(tiny_base: Path, untied_base: Path, tied: bool, settings: dict[str, Any]) -> None:
    import torch

    from lorikeet.train.full import whole_model
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import shared_prefix, supervised_loss

    torch.manual_seed(0)
    base, wanted = base_of(tiny_base if tied else untied_base), TrainSettings(first_layer=0, **settings)
    model = whole_model(base, wanted) if wanted.method == "full" else with_adapter(base, wanted, torch.float32)
    names, trained = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.02 * torch.randn_like(parameter))
    ids = torch.randint(5, 300, (3, 40))
    ids[:, :20] = ids[0, :20]
    labels = ids.clone()
    labels[:, :25] = -100
    assert shared_prefix(ids, labels) == 20
    wanted_at = labels[:, 1:] != -100
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1][wanted_at]
    plain = torch.nn.functional.cross_entropy(logits, labels[:, 1:][wanted_at], reduction="sum")
    ours = supervised_loss(model, ids, labels)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    assert any("embed_tokens" in name for name in names)
    for name, mine, theirs in zip(names, *(torch.autograd.grad(loss, trained) for loss in (ours, plain)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()), msg=lambda told, name=name: f"{name}: {told}")


def test_room_for_the_checkpoints_of_a_whole_model_is_weights_and_two_moments_each(untied_base: Path) -> None:
    import torch

    from lorikeet.train.full import whole_model
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.stage import CHECKPOINT, disk_needed

    base = base_of(untied_base)
    model = whole_model(base, TrainSettings(method="full", first_layer=0))
    weights = sum(p.numel() for p in model.parameters())
    assert disk_needed(model, TrainSettings(method="full", keep_checkpoints=2))[1] == 4 * (3 * 3 * weights + weights + CHECKPOINT)
    embeddings = 2 * 300 * 32
    lora, both = (with_adapter(base, TrainSettings(embeddings=e, first_layer=0), torch.float32) for e in (False, True))
    many = [disk_needed(model, TrainSettings(keep_checkpoints=1))[1] for model in (both, lora)]
    assert many[0] - many[1] == 4 * (2 * 3 * embeddings + embeddings)


def test_embeddings_beside_an_adapter_get_a_tenth_of_its_rate_and_follow_its_schedule(tiny_base: Path, tmp_path: Path) -> None:
    import torch
    from datasets import Dataset

    from lorikeet.bases import load_tokenizer
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.schedule import Schedule
    from lorikeet.train.sft import Batches, SupervisedTrainer, collate
    from lorikeet.train.stage import arguments

    settings = TrainSettings(embeddings=True, first_layer=0, learning_rate=1e-3)
    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "length": 3}])
    trainer = SupervisedTrainer(
        batches=Batches([3], 1, 8, 7), schedule=lambda total: Schedule("constant", 0.5, total), train_dataset=rows, data_collator=collate,
        model=with_adapter(base_of(tiny_base), settings, torch.float32), eval_dataset=rows, processing_class=load_tokenizer(base_of(tiny_base)),
        args=arguments(settings, 7, "fp32", "adamw", tmp_path, dataset_kwargs={"skip_prepare_dataset": True}),
    )  # fmt: skip
    optimiser = trainer.create_optimizer()
    assert trainer.create_optimizer() is optimiser
    schedule = trainer.create_scheduler(10)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    rates: dict[bool, set[float]] = {True: set(), False: set()}
    for _ in range(3):
        optimiser.step()
        schedule.step()
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            rates["embed_tokens" in names[id(parameter)]].add(round(group["lr"], 9))
    assert rates == {True: {6e-5}, False: {6e-4}}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len([p for p in trainer.model.parameters() if p.requires_grad])
