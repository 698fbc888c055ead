"""TRL's SFTTrainer with the loss computed on supervised positions only, and an exact held-out loss.

The objective is TRL's own (mean cross-entropy over supervised tokens); only the language-model head is run on fewer
rows. Rows are padded on the right, so causal attention needs no padding mask.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from lorikeet.progress import Progress

Rows = Sequence[Mapping[str, list[int]]]
COMPLETE = "complete"
"""Marker written into a checkpoint after everything else: one without it was cut off and is not resumed from."""


def collate(rows: Rows) -> dict[str, torch.Tensor]:
    """Right-padded input_ids and labels (-100 where no loss), both of shape (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        labels[number, : len(row["labels"])] = torch.tensor(row["labels"])
    return {"input_ids": ids, "labels": labels}


def supervised_loss(model: PeftModel, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy, in nats, of the tokens whose label is not -100; the head runs on their positions alone."""
    causal = model.get_base_model()
    hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    wanted = labels[:, 1:] != -100
    logits = causal.get_output_embeddings()(hidden[:, :-1][wanted]).float()
    if cap := getattr(causal.config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return cross_entropy(logits, labels[:, 1:][wanted], reduction="sum")


class SimilarLengths(Sampler[int]):  # type: ignore[misc]  # torch is not followed
    """Row numbers in an order in which each batch holds rows of like length, and the batches come in random order.

    The order depends on the seed and the epoch alone, so that a resumed run sees the same batches. (transformers' own sampler
    leaves each stretch sorted from long to short: the short rows would all be learned last.)
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = list(lengths), batch, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        random = Random(f"{self._seed}/{self._epoch}")
        order = list(range(len(self._lengths)))
        random.shuffle(order)
        stretch = 32 * self._batch
        order = [n for at in range(0, len(order), stretch) for n in sorted(order[at : at + stretch], key=lambda n: -self._lengths[n])]
        batches = [order[at : at + self._batch] for at in range(0, len(order), self._batch)]
        last = [batches.pop()] if len(batches[-1]) < self._batch else []
        random.shuffle(batches)
        yield from (n for batch in batches + last for n in batch)


class SupervisedTrainer(SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """SFTTrainer over rows that are tokens already."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        """The hook of transformers for the order of the rows."""
        rows = self.train_dataset if train_dataset is None else train_dataset
        return SimilarLengths(rows["length"], self.args.per_device_train_batch_size, self.args.data_seed)

    def compute_loss(
        self,
        model: PeftModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Loss a supervised token of the whole batch, gradient accumulation included."""
        tokens = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"][:, 1:] != -100).sum()
        return supervised_loss(model, inputs["input_ids"], inputs["labels"]) / tokens

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Held-out loss a token over all rows: every token counts the same, whatever batch it falls in."""
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        model, total, tokens = self.model, 0.0, 0
        model.eval()
        with torch.no_grad(), self.autocast_smart_context_manager():
            for start in range(0, len(rows), 8):
                batch = collate([rows[i] for i in range(start, min(start + 8, len(rows)))])
                total += float(supervised_loss(model, batch["input_ids"].to(model.device), batch["labels"].to(model.device)))
                tokens += int((batch["labels"][:, 1:] != -100).sum())
        model.train()
        metrics = {f"{metric_key_prefix}_loss": total / tokens}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """Marks whole checkpoints, and tells the reader how far it is and how long it will take."""

    def __init__(self, progress: Progress, every: int) -> None:
        self._progress = progress
        self._every = every
        self._begun = 0.0
        self._first = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        self._begun, self._first = time.monotonic(), state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        if state.global_step % self._every == 0:
            control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **rest: Any,
    ) -> None:
        done = state.global_step - self._first
        if not logs or not done:
            return
        left = (time.monotonic() - self._begun) / done * (state.max_steps - state.global_step)
        if "eval_loss" in logs:
            self._progress.say(f"  epoch {state.epoch or 0:.2g}: held-out loss {logs['eval_loss']:.3f}, perplexity {math.exp(logs['eval_loss']):.2f}")
        elif "loss" in logs:
            self._progress.step("steps", state.global_step, state.max_steps, f"loss {logs['loss']:.3f}  {left / 60:.1f} min left")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / COMPLETE).write_text("")
