"""Training in the memory there is: batches in passes, what is measured, and what is refused. Slow for the imports and the training."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorikeet import machine, memory
from lorikeet.artifact import Artifact, Manifest, begin
from lorikeet.bases import prepare
from lorikeet.errors import MachineError
from lorikeet.progress import Silent
from lorikeet.recipe import MachineSettings, TrainSettings
from lorikeet.weights import Base

pytestmark = pytest.mark.slow


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def settings(**changes: object) -> TrainSettings:
    return TrainSettings.model_validate({"method": "lora", "first_layer": 0, "precision": "fp32", "epochs": 3, "learning_rate": 0.001, **changes})


@pytest.fixture
def data(tmp_path: Path) -> Artifact:
    import pyarrow
    import pyarrow.parquet
    import torch

    torch.manual_seed(0)
    lengths = [40, 33, 40, 21, 38, 40, 35, 30, 12, 40, 40, 36, 25]
    ids = [torch.randint(10, 4000, (n,)).tolist() for n in lengths]
    parts = ["train"] * 12 + ["validation"]
    table = {"ids": ids, "supervised": [[n > 3 for n in range(len(row))] for row in ids], "split": parts, "kind": ["taught"] * 13}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "tokens.parquet")
    return Artifact(tmp_path, Manifest("data", "", "", {"tokens.parquet": ""}, {}, {}, {}))


def based(folder: Path) -> Base:
    """The base by the name of its folder: PEFT, saving an adapter, looks there and not on the Hub."""
    return replace(prepare(str(folder), Silent()), name=str(folder))


def trained(data: Artifact, base: Base, wanted: TrainSettings, name: str) -> tuple[list[float], list[str]]:
    """Losses of every step, and what was said."""
    from lorikeet.train import stage

    part, said = begin(data.path / name), Said()
    stage.run(data, base, wanted, 7, MachineSettings(threads=1), part, said)
    log = json.loads((part / "training.json").read_text())["log"]
    return [entry[key] for entry in log for key in ("loss", "eval_loss") if key in entry], said.lines


def room_for(rows: int, base: Base, wanted: TrainSettings) -> int:
    """Memory in which by prediction so many rows of 40 tokens fit at once."""
    shape = memory.shape_of(base)
    assert shape is not None
    return int(memory.predict(shape, wanted, rows, 40).total / MachineSettings().memory_share) + 2


def test_a_batch_that_does_not_fit_goes_through_in_passes_with_the_same_result(data: Artifact, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, wanted = based(tiny_base), settings(accumulate=2)
    whole, said = trained(data, base, wanted, "whole")
    assert not any("at once" in line for line in said)
    monkeypatch.setattr(machine, "memory_bytes", lambda: room_for(2, base, wanted))
    cut, said = trained(data, base, wanted, "cut")
    assert any("at most 2 go through at once" in line for line in said)
    assert cut == pytest.approx(whole, rel=1e-5)


def test_auto_measures_how_many_rows_go_at_once_and_learns_the_same(data: Artifact, tiny_base: Path) -> None:
    base = based(tiny_base)
    fixed, _ = trained(data, base, settings(batch=8, dropout=0.1), "fixed")
    auto, said = trained(data, base, settings(batch="auto", dropout=0.1), "auto")
    assert any("measured: 8 rows of 40 tokens at once" in line for line in said)
    assert auto == fixed


def test_auto_takes_fewer_rows_where_a_measured_pass_leaves_no_room(tiny_base: Path) -> None:
    import torch

    from lorikeet.train.fit import Fit, measured
    from lorikeet.train.lora import with_adapter

    base, wanted = based(tiny_base), settings(batch="auto")
    model = with_adapter(base, wanted, torch.float32)
    rows = [{"input_ids": [n % 1000 + 10 for n in range(500)], "labels": [n % 1000 + 10 for n in range(500)]}] * 8
    machine.give_back_memory()
    machine.reset_peak_memory()
    before = machine.peak_memory_mb() * 1e6
    assert measured(model, rows, Fit(8, 500, int(before) + 10_000_000), wanted, Silent()).rows == 1
    assert measured(model, rows, Fit(1, 500, int(before) + 2_000_000_000), wanted, Silent()).rows == 8
    assert all(p.grad is None for p in model.parameters())


def test_a_row_too_long_for_the_memory_is_refused_with_the_length_that_fits(data: Artifact, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, wanted = based(tiny_base), settings()
    shape = memory.shape_of(base)
    assert shape is not None
    limit = memory.predict(shape, wanted, 1, 30).total
    monkeypatch.setattr(machine, "memory_bytes", lambda: int(limit / 0.7) + 2)
    with pytest.raises(MachineError, match=r"training takes 0\.\d GB of memory with one row of 40 tokens at a time; this machine has 1\.\d GB") as refused:
        trained(data, base, wanted, "refused")
    assert "rows of at most 3" in refused.value.cure and "train.batch_tokens" in refused.value.cure
    monkeypatch.setattr(machine, "memory_bytes", lambda: 500_000_000)
    with pytest.raises(MachineError) as refused:
        trained(data, base, wanted, "none")
    assert "no batch fits" in refused.value.cure


def test_more_checkpoints_than_the_disk_holds_are_refused_before_training(data: Artifact, tiny_base: Path) -> None:
    with pytest.raises(MachineError, match=r"train\.keep_checkpoints 100000000, 100000001 checkpoints") as refused:
        trained(data, based(tiny_base), settings(keep_checkpoints=100_000_000), "disk")
    assert "lower train.keep_checkpoints" in refused.value.cure


KEPT: list[dict[str, Any]] = [
    {}, {"precision": "bf16"}, {"targets": "attention"}, {"targets": "mlp"}, {"first_layer": 1}, {"dropout": 0.1}, {"rank": 64}, {"shared": 30},
]  # fmt: skip


@pytest.mark.parametrize("changes", KEPT, ids=str)
def test_what_is_counted_as_kept_is_what_autograd_keeps(changes: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import supervised_loss

    shared, wanted = changes.get("shared", 0), settings(**{key: value for key, value in changes.items() if key != "shared"})
    LlamaForCausalLM(LlamaConfig(
        vocab_size=300, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2, head_dim=32,
        tie_word_embeddings=True,
    )).save_pretrained(tmp_path)  # fmt: skip
    base = Base(tmp_path, "m", "", "", "")
    bf16 = wanted.precision == "bf16"
    model = with_adapter(base, wanted, torch.bfloat16 if bf16 else torch.float32).train()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(5, 300, (3, 100))
    ids[:, :shared] = ids[0, :shared]
    labels = ids.clone()
    labels[:, : shared + 1] = -100
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        supervised_loss(model, ids, labels, share=not wanted.dropout)
    shape = memory.shape_of(base)
    assert shape is not None
    counted = memory.kept(shape, wanted, 3, 100, shared)
    if shared:  # the cache is held by the pass, not by autograd
        counted -= 4 * 4 * 2 * 3 * 100 * 2 * 32
    assert counted == pytest.approx(sum(found.values()), rel=0.05)


def test_predicted_peak_memory_is_within_a_tenth_of_measured() -> None:
    """On the default base; benchmarks/memory.py measures two shapes more."""
    script = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    done = subprocess.run(
        [sys.executable, str(script), "--json", "--shape", "smollm2-135m"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(script.parents[1])},
    )  # fmt: skip
    (told,) = json.loads(done.stdout.strip().splitlines()[-1]).values()
    assert told["total"] == pytest.approx(told["measured"], rel=0.1)
