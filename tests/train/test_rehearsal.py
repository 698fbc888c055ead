"""Texts that the base writes by itself and learns again. Slow for the imports and the writing."""

import json
from pathlib import Path

import pytest

from lorikeet.progress import Silent
from lorikeet.recipe import TrainSettings
from lorikeet.weights import Base

pytestmark = pytest.mark.slow


def written(base: Path, notes: Path, seed: int = 3, spoil: float = 0.0) -> list[list[int]]:
    """Texts of the base with an adapter on it, whose weights are `spoil`."""
    import torch

    from lorikeet.bases import load_tokenizer
    from lorikeet.train import rehearsal
    from lorikeet.train.lora import with_adapter

    made = Base(base, "tiny", "", "", "")
    model = with_adapter(made, TrainSettings(first_layer=0), torch.float32)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(spoil)
    notes.mkdir(exist_ok=True)
    torch.manual_seed(11)
    chance = torch.random.get_rng_state()
    found = rehearsal.texts(model, load_tokenizer(made), 20, seed, notes, Silent())
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert model.training and all(p.requires_grad for name, p in model.named_parameters() if "lora_" in name)
    return found


def test_texts_are_the_base_s_own_whatever_its_adapter_says_and_the_same_for_a_seed(tiny_base: Path, tmp_path: Path) -> None:
    plain = written(tiny_base, tmp_path / "a")
    assert len(plain) == 20 and max(map(len, plain)) == 64 and len({text[1] for text in plain}) > 15
    assert written(tiny_base, tmp_path / "b", spoil=0.5) == plain
    assert written(tiny_base, tmp_path / "c", seed=4) != plain


def test_a_training_that_goes_on_learns_from_the_texts_that_it_began_with(tiny_base: Path, tmp_path: Path) -> None:
    first = written(tiny_base, tmp_path)
    kept = json.loads((tmp_path / "rehearsal.json").read_text())
    assert kept == first
    (tmp_path / "rehearsal.json").write_text(json.dumps([[1, 5, 6]] * 20))
    assert written(tiny_base, tmp_path) == [[1, 5, 6]] * 20


def test_what_a_text_was_made_to_begin_with_is_not_learned() -> None:
    from lorikeet.train import rehearsal

    assert rehearsal.labels([1, 900, 17, 18]) == [-100, -100, 17, 18]
