"""The learning rate falls as transformers' own schedules do, and a deadline bends it so that it is down when time is up."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorikeet.recipe import Decay


@pytest.mark.parametrize(("decay", "theirs"), [("cosine", "cosine"), ("linear", "linear"), ("constant", "constant_with_warmup")])
def test_the_rate_is_that_of_transformers_own_schedule(decay: Decay, theirs: str) -> None:
    import torch
    from transformers import get_scheduler

    from lorikeet.train.schedule import Schedule

    rates = []
    for make in (lambda o: torch.optim.lr_scheduler.LambdaLR(o, Schedule(decay, 0.05, 87)), lambda o: get_scheduler(theirs, o, 5, 87)):
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.003)
        schedule = make(optimiser)
        rates.append([(optimiser.step(), schedule.step(), schedule.get_last_lr()[0])[2] for _ in range(87)])
    assert rates[0] == rates[1]


def walk(monkeypatch: pytest.MonkeyPatch, budget: float, planned: int, cost: Any, spent: float = 0.0, begin: int = 0) -> tuple[int, list[float]]:
    """Steps until the deadline ends training where step n takes cost(n) seconds, and the rates."""
    from transformers import TrainerControl

    from lorikeet.train import schedule as module
    from lorikeet.train.schedule import Deadline, Schedule

    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    schedule = Schedule("cosine", 0.1, planned)
    schedule.spent = spent
    at = {"lr_scheduler": SimpleNamespace(lr_lambdas=[schedule])}
    deadline, control, rates = Deadline(budget), TrainerControl(), []
    state: Any = SimpleNamespace(global_step=begin, max_steps=planned)
    deadline.on_train_begin(None, state, control, **at)
    while not control.should_training_stop and state.global_step < planned:
        rates.append(schedule(state.global_step))
        now[0] += cost(state.global_step)
        state.global_step += 1
        deadline.on_step_end(None, state, control, **at)
    return state.global_step, rates


def test_as_many_steps_are_made_as_fit_and_the_rate_is_down_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, rates = walk(monkeypatch, budget=60, planned=1000, cost=lambda n: 3.0 if n == 0 else 0.5)
    assert 100 <= steps <= 120
    assert rates[-1] < 0.01
    assert max(rates) > 0.95


def test_steps_that_turn_slow_end_at_the_deadline_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, rates = walk(monkeypatch, budget=60, planned=1000, cost=lambda n: 0.5 if n < 60 else 2.0)
    assert 70 <= steps <= 76
    assert rates[-1] < 0.02


def test_a_budget_larger_than_what_is_planned_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorikeet.train.schedule import Schedule

    steps, rates = walk(monkeypatch, budget=600, planned=40, cost=lambda n: 0.5)
    assert steps == 40
    assert rates == [Schedule("cosine", 0.1, 40)(n) for n in range(40)]


def test_what_a_resumed_run_had_spent_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, _ = walk(monkeypatch, budget=60, planned=1000, cost=lambda n: 0.5, spent=30.0, begin=60)
    assert steps == 120


@pytest.mark.slow
def test_a_run_with_a_budget_ends_in_time_with_an_adapter_and_tells_its_steps(tiny_recipe: Path, tmp_path: Path) -> None:
    import json
    import time

    from lorikeet.cli import main

    begun = time.monotonic()
    sets = [x for s in ("train.epochs=100", "train.budget=4s", "train.patience=90", "train.neftune=5") for x in ("--set", s)]
    assert main(["train", str(tiny_recipe), "--out", str(tmp_path / "run"), *sets]) == 0
    assert time.monotonic() - begun < 60
    (folder,) = (tmp_path / "run").glob("train-*")
    training = json.loads((folder / "training.json").read_text())
    rates = [e["learning_rate"] for e in training["log"] if "learning_rate" in e]
    assert len(rates) == training["steps"] < 100 * 10
    assert rates[-1] < 0.2 * max(rates)
    assert (folder / "adapter_model.safetensors").is_file()
