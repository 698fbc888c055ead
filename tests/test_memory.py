"""What is predicted of a training step's memory, from a config alone."""

import json
from pathlib import Path

import pytest
from toy_recipe import write_recipe

from lorikeet import machine, memory, pipeline, steps
from lorikeet.artifact import Json
from lorikeet.memory import Shape
from lorikeet.recipe import LoadedRecipe, TrainSettings, load_recipe
from lorikeet.weights import Base

SHAPE = Shape(hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, ffn=1536, vocab=49152, weights=134_515_008, stored=269_060_552)
CONFIG = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152,
}  # fmt: skip


def settings(**changes: object) -> TrainSettings:
    return TrainSettings.model_validate({"method": "lora", "first_layer": 0, "precision": "fp32", **changes})


def total(rows: int = 8, longest: int = 256, shared: int = 0, **changes: object) -> int:
    return memory.predict(SHAPE, settings(**changes), rows, longest, shared).total


def test_lora_of_rank_16_on_the_default_base_has_the_weights_that_peft_counts() -> None:
    assert memory.adapter_weights(SHAPE, settings()) == 4_884_480


def test_more_rows_longer_rows_and_a_higher_rank_take_more() -> None:
    assert total(rows=4) < total(rows=8) < total(longest=512)
    assert total(rank=16) < total(rank=256)


def test_frozen_layers_a_shared_beginning_bf16_and_fewer_targets_take_less() -> None:
    whole = total()
    assert total(first_layer=15) < whole
    assert total(shared=200) < whole
    assert total(precision="bf16") < whole
    assert total(targets="attention") < whole


def test_a_base_in_4_bits_takes_less_and_the_rest_stays() -> None:
    four, plain = (memory.predict(SHAPE, settings(method=method), 1, 64) for method in ("qlora", "lora"))
    assert four.weights < plain.weights / 2
    assert four.adapter == plain.adapter


def test_loading_counts_where_the_step_takes_less() -> None:
    need = memory.predict(SHAPE, settings(first_layer=29), 1, 16)
    assert need.total == need.libraries + need.weights + max(need.loading, need.adapter + need.activations + need.working)


def test_what_fits_is_the_most_that_fits() -> None:
    limit = total(rows=3)
    assert memory.rows_that_fit(SHAPE, settings(), 256, 0, limit) == 3
    assert memory.rows_that_fit(SHAPE, settings(), 256, 0, limit - 1) == 2
    assert memory.rows_that_fit(SHAPE, settings(), 256, 0, 10**9) == 0
    longest = memory.longest_that_fits(SHAPE, settings(), 4096, limit)
    assert total(rows=1, longest=longest) <= limit < total(rows=1, longest=longest + 1)


def test_a_batch_holds_no_more_rows_than_its_tokens_admit() -> None:
    assert memory.largest_batch(settings(), 100) == 8
    assert memory.largest_batch(settings(), 1024) == 4
    assert memory.largest_batch(settings(), 9000) == 1


def test_auto_makes_a_steps_rows_one_batch() -> None:
    auto = settings(batch="auto", accumulate=4)
    assert (auto.rows, auto.row_tokens, auto.batches) == (32, 4 * 4096, 1)
    fixed = settings(batch=8, accumulate=4)
    assert (fixed.rows, fixed.row_tokens, fixed.batches) == (8, 4096, 4)


@pytest.fixture
def planned(tmp_path: Path) -> tuple[LoadedRecipe, Base]:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return load_recipe(write_recipe(tmp_path / "recipe")), Base(folder, "m", "print", "here", "unknown", SHAPE.weights, SHAPE.layers)


def train_of(steps: list[dict[str, Json]]) -> dict[str, Json]:
    told = next(step for step in steps if step["name"] == "train")["memory"]
    assert isinstance(told, dict)
    return told


def test_a_plan_tells_the_memory_of_training_by_the_longest_row_there_may_be(planned: tuple[LoadedRecipe, Base], tmp_path: Path) -> None:
    told = train_of(pipeline.plan(*planned, tmp_path / "run"))
    assert (told["longest"], told["longest_known"]) == (1024, False)
    assert isinstance(told["total"], int) and told["total"] > 4 * SHAPE.weights


def test_a_plan_cuts_batches_to_the_share_of_the_memory(planned: tuple[LoadedRecipe, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 100_000_000_000)
    assert train_of(pipeline.plan(*planned, tmp_path / "run"))["rows"] == 4
    monkeypatch.setattr(machine, "memory_bytes", lambda: 3_700_000_000)
    small = train_of(pipeline.plan(*planned, tmp_path / "run"))
    assert small["rows"] in (1, 2, 3)
    assert isinstance(small["total"], int) and isinstance(small["allowed"], int) and small["total"] <= small["allowed"]


def test_the_share_of_the_memory_is_in_no_key(planned: tuple[LoadedRecipe, Base], tmp_path: Path) -> None:
    _, base = planned
    path = tmp_path / "recipe" / "recipe.yaml"
    keys = [steps.key_of(steps.steps_of(load_recipe(path, change).for_base(base), base)[1], {"base": "b", "data": "d"})
            for change in ([], ["machine.memory_share=0.5"], ["train.batch=auto"])]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


def test_a_plan_tells_what_a_step_took_last_time(planned: tuple[LoadedRecipe, Base], tmp_path: Path) -> None:
    notes = tmp_path / "run" / "train-01234567" / "notes"
    notes.mkdir(parents=True)
    (notes / "cost.json").write_text('{"seconds": 71.5, "peak_rss_mb": 900}')
    seconds = {step["name"]: step["seconds"] for step in pipeline.plan(*planned, tmp_path / "run")}
    assert (seconds["train"], seconds["data"]) == (71.5, None)
