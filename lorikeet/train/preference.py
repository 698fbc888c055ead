"""Answers preferred to others, by TRL's KTOTrainer (Ethayarajh et al. 2024) and DPOTrainer (Rafailov et al. 2023), over rows that are tokens already.

What the model said before training is the reference, reckoned once before the first step. Rows are taken in one order, by seed, in every pass: KTO
measures how far the model has gone from the reference on answers that stand beside each other.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import pyarrow.parquet
from datasets import Dataset, disable_progress_bars
from transformers import Trainer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from lorikeet import processes
from lorikeet.artifact import Artifact
from lorikeet.errors import MachineError, RecipeError
from lorikeet.exam import RATINGS
from lorikeet.recipe import TrainSettings
from lorikeet.train.schedule import Schedule, Scheduled

Answers = Sequence[Mapping[str, Any]]


class _OverTokens(Scheduled):
    """What both trainers share."""

    def _prepare_dataset(self, dataset: Dataset, *rest: Any) -> Dataset:
        """TRL's hook for making tokens, which there are."""
        return dataset


class KtoOverTokens(_OverTokens, KTOTrainer):  # type: ignore[misc]  # TRL ships no types
    """KTOTrainer over prompt_ids, completion_ids, KL_completion_ids and label."""


class DpoOverTokens(_OverTokens, DPOTrainer):  # type: ignore[misc]
    """DPOTrainer over prompt_ids, chosen_ids and rejected_ids."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the bars that TRL and datasets draw while the reference is reckoned."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    disable_progress_bars()
    try:
        yield
    finally:
        del os.environ["TQDM_DISABLE"]
        if before is not None:
            os.environ["TQDM_DISABLE"] = before


@_quietly()
def trainer(data: Artifact, settings: TrainSettings, seed: int, told: Callable[..., Any], rest: Mapping[str, Any]) -> Trainer:
    """The trainer of the recipe's objective over the rated answers of a data folder; `told` makes its arguments, `rest` is what every trainer takes."""
    if processes.world() > 1:
        raise MachineError(f"train.objective {settings.objective} trains in one process, and there are {processes.world()}", "run it without torchrun")
    parts = {part: _answers(data, part) for part in ("train", "validation")}
    own: dict[str, Any] = {"per_device_eval_batch_size": settings.rows, "beta": settings.beta, "precompute_ref_log_probs": True}
    made: KtoOverTokens | DpoOverTokens
    if settings.objective == "dpo":
        rows = {part: _pairs(answers, seed) for part, answers in parts.items()}
        made = DpoOverTokens(args=told(DPOConfig, **own), train_dataset=rows["train"], eval_dataset=rows["validation"], **rest)
    else:
        if settings.rows < 2:
            raise RecipeError("train.batch is 1, but KTO holds each answer against another of its batch", "write train.batch: 2 or more, such as 8")
        rows = {part: _singles(answers, settings.rows, seed) for part, answers in parts.items()}
        weights = weights_of(rows["train"]["label"])
        own |= {"train_sampling_strategy": "sequential", "desirable_weight": weights[True], "undesirable_weight": weights[False]}
        made = KtoOverTokens(args=told(KTOConfig, **own), train_dataset=rows["train"], eval_dataset=rows["validation"], **rest)
    made.schedule = partial(Schedule, settings.schedule, settings.warmup)
    return made


def weights_of(labels: Sequence[bool]) -> dict[bool, float]:
    """Weights of liked and disliked answers that make both kinds count the same (equation 8 of the KTO paper): the rarer kind's is above 1."""
    liked = sum(labels)
    disliked = len(labels) - liked
    return {True: max(1.0, disliked / liked), False: max(1.0, liked / disliked)}


def _answers(data: Artifact, part: str) -> Answers:
    rows: Answers = pyarrow.parquet.read_table(data.file(RATINGS), filters=[("split", "==", part)]).to_pylist()
    return rows


def _singles(answers: Answers, batch: int, seed: int) -> Dataset:
    """Answers one by one, in an order by seed in which liked and disliked ones are mixed; beside each the answer before it in its batch, to another
    question, by which KTO estimates how far the model has gone.
    """
    rows = [{"prompt_ids": row["prompt"], "completion_ids": row["answer"], "label": row["liked"]} for row in answers]
    Random(seed).shuffle(rows)
    for start in range(0, len(rows), batch):
        together = rows[start : start + batch]
        for row, before in zip(together, [together[-1], *together[:-1]], strict=True):
            row["KL_completion_ids"] = before["completion_ids"]
    return Dataset.from_list(rows)


def _pairs(answers: Answers, seed: int) -> Dataset:
    """The better and the worse answer to each question, in an order by seed."""
    better = {row["pair"]: row for row in answers if row["liked"]}
    rows = [
        {"prompt_ids": better[row["pair"]]["prompt"], "chosen_ids": better[row["pair"]]["answer"], "rejected_ids": row["answer"]}
        for row in answers
        if not row["liked"]
    ]
    Random(seed).shuffle(rows)
    return Dataset.from_list(rows)
