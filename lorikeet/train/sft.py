"""TRL's SFTTrainer with the loss computed on supervised positions only, and an exact held-out loss.

The objective is TRL's own (mean cross-entropy over supervised tokens); what all rows of a batch begin with (the system
turn) is run through the model once, and the language-model head on supervised positions only. Rows are padded on the
right, so causal attention needs no padding mask.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import Any

import torch
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from peft import PeftModel
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer
from trl.models.utils import _ForwardRedirection

from lorikeet import machine, processes
from lorikeet.artifact import COMPLETE
from lorikeet.errors import ModelError
from lorikeet.progress import Progress
from lorikeet.recipe import WHOLE
from lorikeet.train.fused import head_loss
from lorikeet.train.schedule import Schedule, Scheduled, schedule_of

Rows = Sequence[Mapping[str, list[int]]]
WORTH_SHARING = 4
"""Shared tokens from which a pass of their own saves time."""
LOGITS = 7_500_000
"""Logits in one block: 30 MB, which `machine.keep_freed_memory` still keeps. Larger blocks are new pages at every step."""
MARGIN = "eval_rewards/margins"
"""What KTO and DPO log of held-out answers: how much further liked ones have risen than disliked ones, times beta, in nats."""


def collate(rows: Rows) -> dict[str, torch.Tensor]:
    """Right-padded input_ids and labels (-100 where no loss), both of shape (rows, longest).

    No rows give one of two tokens without loss: what a process learns from that has no row of a batch smaller than there are processes.
    """
    longest = max((len(row["input_ids"]) for row in rows), default=2)
    ids = torch.zeros(max(1, len(rows)), longest, dtype=torch.long)
    labels = torch.full(ids.shape, -100, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        labels[number, : len(row["labels"])] = torch.tensor(row["labels"])
    return {"input_ids": ids, "labels": labels}


def shared_prefix(ids: torch.Tensor, labels: torch.Tensor) -> int:
    """How many columns of a batch are the same tokens in every row and predict nothing: what `supervised_loss` runs once."""
    same = (ids[:, :-1] == ids[:1, :-1]).all(0) & (labels[:, 1:] == -100).all(0)
    return int(same.long().cumprod(0).sum())


def supervised_loss(model: PeftModel | PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor, *, share: bool = True) -> torch.Tensor:
    """Summed cross-entropy, in nats, of the tokens whose label is not -100. ids and labels are of shape (rows, tokens).

    The prefix that the rows share goes through the decoder as one row, and its keys and values, gradient and all, serve every
    row: the same loss for fewer tokens. Not without `share`, where chance (dropout, NEFTune) is to fall on every row by itself. The head runs on
    supervised positions alone.
    """
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    decoder, prefix = causal.get_decoder(), shared_prefix(ids, labels) if share else 0
    if len(ids) > 1 and prefix >= WORTH_SHARING:
        cache = decoder(input_ids=ids[:1, :prefix], use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(ids))
        ids, labels = ids[:, prefix:], labels[:, prefix:]
        hidden = decoder(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    else:
        hidden = decoder(input_ids=ids, use_cache=False).last_hidden_state
    wanted = labels[:, 1:] != -100
    cap = getattr(causal.config, "final_logit_softcapping", None)
    return head_loss(hidden[:, :-1][wanted], causal.get_output_embeddings(), labels[:, 1:][wanted], cap, LOGITS)


class Batches(Sampler[list[int]]):  # type: ignore[misc]  # torch is not followed
    """Batches of row numbers: rows of like length together, at most `rows` of them and at most `tokens` tokens with padding.

    The batches come in random order, and rows of one length change places; both depend on the seed and the epoch alone, so that
    a resumed run sees the same batches, and every epoch has as many. (transformers' own sampler leaves each stretch sorted from
    long to short: the short rows would all be learned last.) A row longer than `tokens` is a batch of its own. Each of several
    processes gets its share of every batch, so that a step learns from the same rows however many there are.
    """

    def __init__(self, lengths: Sequence[int], rows: int, tokens: int, seed: int) -> None:
        self._lengths, self._seed, self._epoch = list(lengths), seed, 0
        self._sizes: list[int] = []
        longest = 0
        for length in sorted(lengths, reverse=True):
            if not self._sizes or self._sizes[-1] == rows or (self._sizes[-1] + 1) * longest > tokens:
                self._sizes.append(0)
                longest = length
            self._sizes[-1] += 1

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[list[int]]:
        random = Random(f"{self._seed}/{self._epoch}")
        order = list(range(len(self._lengths)))
        random.shuffle(order)
        order.sort(key=lambda n: -self._lengths[n])
        ends = list(accumulate(self._sizes))
        batches = [order[end - size : end] for end, size in zip(ends, self._sizes, strict=True)]
        random.shuffle(batches)
        yield from (batch[processes.rank() :: processes.world()] for batch in batches)


class SupervisedTrainer(Scheduled, SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """SFTTrainer over rows that are tokens already, in the batches it is given."""

    def __init__(self, *, batches: Batches, schedule: Callable[[int], Schedule], **settings: Any) -> None:
        shares = getattr(settings["model"].config.get_text_config(), "num_kv_shared_layers", 0)
        settings["args"].ddp_find_unused_parameters = bool(shares)  # keys and values that such layers have, and never use
        settings["args"]._n_gpu = min(settings["args"].n_gpu, 1)  # transformers would take DataParallel, which knows nothing of what a step's loss is
        super().__init__(**settings)
        self._batches, self.schedule = batches, schedule
        adapters = self.model.peft_config.values() if isinstance(self.model, PeftModel) else ()
        chances = (config.lora_dropout for config in adapters)
        self._share = not any(chances) and not self.args.neftune_noise_alpha
        self.at_once: int | None = None
        """Most tokens, padding included, that go through the model at once; None: a whole batch."""

    def training_step(self, model: PeftModel, inputs: dict[str, torch.Tensor], num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        """The loss of a batch. One of more than `at_once` tokens is cut into passes whose gradients add up: the same step to rounding.

        The cut is left to memory, so a dropped or noisy number (dropout, NEFTune) is drawn anew with it.
        """
        rows, width = inputs["input_ids"].shape
        most = rows if self.at_once is None else max(1, self.at_once // width)
        if most >= rows:
            return super().training_step(model, inputs, num_items_in_batch)
        tokens = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"][:, 1:] != -100).sum()
        passes = math.ceil(rows / most)
        ends = [rows * n // passes for n in range(passes + 1)]
        loss = torch.zeros((), device=self.args.device)
        for begin, end in pairwise(ends):
            with nullcontext() if end == rows else self.accelerator.no_sync(model):
                loss += super().training_step(model, {name: values[begin:end] for name, values in inputs.items()}, tokens)
        return loss

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The hook of transformers for the optimiser: matrices that are trained whole beside an adapter get a rate of their own."""
        if self.optimizer is not None:
            return self.optimizer
        made: torch.optim.Optimizer = super().create_optimizer(model)
        whole = {id(p) for name, p in self.model.named_parameters() if ".modules_to_save." in name and p.requires_grad}
        for group in list(made.param_groups):
            apart = [p for p in group["params"] if id(p) in whole]
            group["params"] = [p for p in group["params"] if id(p) not in whole]
            if apart:
                made.add_param_group({**group, "params": apart, "lr": group["lr"] / WHOLE})
        return made

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The hook of transformers for what a step learns from."""
        loader: DataLoader[Any] = DataLoader(self.train_dataset, batch_sampler=self._batches, collate_fn=self.data_collator)
        return prepare_data_loader(loader, self.accelerator.device, num_processes=1, process_index=0, put_on_device=True)  # the batches are shared out already

    def compute_loss(
        self,
        model: PeftModel | PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Loss a supervised token of the whole step: its batches and its processes, over which DDP takes the mean, the Trainer too of what it logs."""
        tokens = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"][:, 1:] != -100).sum()
        return self._summed(model, inputs["input_ids"], inputs["labels"]) / tokens * processes.world()

    def _summed(self, model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The summed loss, by way of DDP's forward where the model is wrapped in it: only then are gradients shared."""
        if model is self.model:
            return supervised_loss(model, ids, labels, share=self._share)
        loss: torch.Tensor = _ForwardRedirection()(model, self.model, partial(supervised_loss, self.model, share=self._share), ids, labels)
        return loss

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Held-out loss a token over all rows: every token counts the same, whatever batch it falls in."""
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        model, total, tokens = self.model, 0.0, 0
        model.eval()
        with torch.no_grad(), self.autocast_smart_context_manager():
            longest = max(len(row["input_ids"]) for row in rows)
            many = 8 if self.at_once is None else max(1, min(8, self.at_once // longest))
            for start in range(many * processes.rank(), len(rows), many * processes.world()):
                batch = collate([rows[i] for i in range(start, min(start + many, len(rows)))])
                total += float(supervised_loss(model, batch["input_ids"].to(model.device), batch["labels"].to(model.device)))
                tokens += int((batch["labels"][:, 1:] != -100).sum())
        model.train()
        sums = self.accelerator.reduce(torch.tensor([total, tokens], dtype=torch.float64, device=self.accelerator.device))
        metrics = {f"{metric_key_prefix}_loss": float(sums[0] / sums[1])}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """Marks whole checkpoints, and tells the reader how far it is: loss, tokens a second with padding, peak memory, time left."""

    def __init__(self, progress: Progress, every: int) -> None:
        self._progress = progress
        self._every = every
        self._begun = 0.0
        self._first = self._tokens = 0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        self._begun, self._first, self._tokens = time.monotonic(), state.global_step, state.num_input_tokens_seen

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        ends = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps or control.should_training_stop
        if state.global_step % self._every == 0 and not ends:  # a checkpoint before the held-out look that is due would be resumed from without it
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
        if not math.isfinite(logs.get("loss", 0.0)):
            raise ModelError(f"training went to {logs['loss']} at step {state.global_step}", "lower train.learning_rate, or set train.precision: fp32")
        steps = schedule_of(rest).total
        spent = time.monotonic() - self._begun
        left, rate = spent / done * (steps - state.global_step), (state.num_input_tokens_seen - self._tokens) / spent
        if "eval_loss" in logs:
            told = f"margin {logs[MARGIN]:.3f}" if MARGIN in logs else f"perplexity {math.exp(logs['eval_loss']):.2f}"
            self._progress.say(f"  epoch {state.epoch or 0:.2g}: held-out loss {logs['eval_loss']:.3f}, {told}")
        elif "loss" in logs:
            told = f"loss {logs['loss']:.3f}  {rate:.0f} tokens/s  {machine.peak_memory_mb() / 1000:.1f} GB  {left / 60:.1f} min left"
            self._progress.step("steps", state.global_step, steps, told)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        PartialState().wait_for_everyone()  # each process has a file in it
        if not processes.rank():
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / COMPLETE).write_text("")
