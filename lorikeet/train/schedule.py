"""The learning rate over the steps, and a deadline that sets how many steps there are."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorikeet import processes
from lorikeet.recipe import Decay

MEASURED = 5
"""Steps from which their number is set by the clock: the first ones are slow."""


class Schedule:
    """Share of the peak rate at a step: rising over `warmup` (a share of all steps), then falling to nought as `decay` says.

    An object and not a function, so that torch keeps it in checkpoints: `total`, the steps that there will be, and `spent`, the seconds since training
    began, are set anew by `Deadline`.
    """

    def __init__(self, decay: Decay, warmup: float, total: int) -> None:
        self.decay, self.warmup, self.total, self.spent = decay, warmup, total, 0.0

    def __call__(self, step: int) -> float:
        rising = math.ceil(self.warmup * self.total)
        if step < rising:
            return step / rising
        if self.decay == "constant":
            return 1.0
        falling, left = max(1, self.total - rising), max(0, self.total - step)
        return left / falling if self.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - rising) / falling)))


class Scheduled:
    """The hook of transformers for the learning rate, for a trainer that is given its `schedule` before it trains."""

    schedule: Callable[[int], Schedule]
    optimizer: torch.optim.Optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> torch.optim.lr_scheduler.LRScheduler:
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self.schedule(num_training_steps))
        return self.lr_scheduler


class Deadline(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """Fits the steps to `seconds`: measured all along, so that the rate has come down when time is up, and ends training then.

    What a resumed run had spent at its checkpoint counts. Held-out looks between the passes are part of it, the one at the end is not. Of several
    processes the first one's clock decides.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        self._begun = time.monotonic() - schedule_of(rest).spent

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        schedule, done = schedule_of(rest), state.global_step
        schedule.spent = processes.agree(time.monotonic() - self._begun)
        if done >= MEASURED:
            schedule.total = max(done, min(state.max_steps, int(self._seconds / (schedule.spent / done))))
        if schedule.spent >= self._seconds or done >= schedule.total:
            control.should_training_stop = True


def schedule_of(rest: dict[str, Any]) -> Schedule:
    """The schedule among what transformers hands to a callback."""
    schedule: Schedule = rest["lr_scheduler"].lr_lambdas[0]
    return schedule
