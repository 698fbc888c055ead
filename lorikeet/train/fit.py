"""How many tokens go through the model at once, so that training fits in memory: by prediction, or measured for `train.batch: auto`.

Nothing here changes what a step learns from: a batch that is too large is cut into passes whose gradients add up.
"""

from typing import NamedTuple

import torch
from peft import PeftModel

from lorikeet import machine, memory
from lorikeet.errors import MachineError
from lorikeet.progress import Progress
from lorikeet.recipe import MachineSettings, TrainSettings
from lorikeet.train.sft import Rows, collate, supervised_loss
from lorikeet.weights import Base


class Fit(NamedTuple):
    """Rows of the greatest length that go through at once, that length, and the bytes that training may take (0: not known)."""

    rows: int
    longest: int
    limit: int

    def tokens(self, settings: TrainSettings) -> int | None:
        """Most tokens, padding included, that go through at once; None where every batch does whole."""
        return None if self.rows >= memory.largest_batch(settings, self.longest) else self.rows * self.longest


def predicted(base: Base, settings: TrainSettings, longest: int, here: MachineSettings, progress: Progress) -> Fit:
    """What fits by prediction, before anything is loaded. MachineError where not even one row does."""
    gpu = torch.cuda.is_available()
    has = torch.cuda.get_device_properties(0).total_memory if gpu else machine.memory_bytes()
    limit, shape, whole = int(has * here.memory_share), memory.shape_of(base), memory.largest_batch(settings, longest)
    if not has or shape is None:
        return Fit(whole, longest, limit)
    rows = memory.rows_that_fit(shape, settings, longest, 0, limit, gpu=gpu)
    if not rows:
        need, fits = memory.predict(shape, settings, 1, longest), memory.longest_that_fits(shape, settings, longest, limit, gpu=gpu)
        shorter = f"rows of at most {fits} tokens fit: set data.max_tokens and train.batch_tokens to {fits}; or " if fits >= 16 else "no batch fits: "
        raise MachineError(
            f"training takes {(need.on_gpu if gpu else need.total) / 1e9:.1f} GB of memory with one row of {longest} tokens at a time; "
            f"this machine has {has / 1e9:.1f} GB, of which machine.memory_share allows {limit / 1e9:.1f}",
            f"{shorter}take a smaller base, raise train.first_layer or machine.memory_share",
        )
    if rows < whole:
        need = memory.predict(shape, settings, whole, longest)
        takes = f"{whole} rows of {longest} tokens at once would take {(need.on_gpu if gpu else need.total) / 1e9:.1f} GB, {limit / 1e9:.1f} are allowed"
        progress.say(f"  {takes}: at most {rows} go through at once; a step learns from as many rows as before")
    return Fit(rows, longest, limit)


def measured(model: PeftModel, rows: Rows, fit: Fit, settings: TrainSettings, progress: Progress) -> Fit:
    """The most rows that stay below the limit, found by forward and backward passes over the longest rows: one, then twice as many each time.

    A pass is made only where what the one before it took leaves room for it. Peak memory is measured anew from here on.
    """
    whole = memory.largest_batch(settings, fit.longest)
    if not fit.limit:
        return fit._replace(rows=whole)
    longest = sorted(rows, key=lambda row: -len(row["input_ids"]))[:whole]
    rested, count = _peak(model), 1
    peak = _peak(model, longest[:1])
    while count < whole:
        room = int((fit.limit - rested) / max(1, (peak - rested) / count))
        following = min(2 * count, whole, room)
        if following <= count:
            break
        count = following
        peak = _peak(model, longest[:count])
        if peak > fit.limit:
            count = max(1, int(count * (fit.limit - rested) / (peak - rested)))
            break
    progress.say(f"  measured: {count} rows of {fit.longest} tokens at once, {peak / 1e9:.1f} GB of {fit.limit / 1e9:.1f} allowed")
    return fit._replace(rows=count)


def _peak(model: PeftModel, rows: Rows = ()) -> float:
    """Peak bytes of a forward and backward pass over rows. Leaves neither gradients nor a trace in the random numbers."""
    gpu = torch.cuda.is_available()
    machine.give_back_memory()
    machine.reset_peak_memory()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    if rows:
        batch, held = collate(rows), model.dtype
        with torch.random.fork_rng(), torch.autocast(model.device.type, held, enabled=held != torch.float32):
            loss = supervised_loss(model, batch["input_ids"].to(model.device), batch["labels"].to(model.device), share=False)
        loss.backward()
        del loss
        model.zero_grad(set_to_none=True)
    return float(torch.cuda.max_memory_allocated()) if gpu else machine.peak_memory_mb() * 1e6
