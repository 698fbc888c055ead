"""Log-likelihoods of continuations by a model of transformers: what contexts share is read once, and all options of a question go through in one row.

A row is a question's context and behind it its options side by side; a mask keeps every option from seeing the others, and positions go
on from the context for each. What all contexts begin with (the examples of TruthfulQA) is one cache for all. The field's other way, a row for each
option with all its context and logits at every position, gives the same numbers for several times the work.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

from lorikeet.engine import Choices, Likelihood

ROW_TOKENS = 2048
"""Tokens that go through at once, padding included."""
WORTH_KEEPING = 8
"""Tokens that all contexts have to begin with for a cache of their own to pay."""


class _Row(NamedTuple):
    """A question without the shared prefix: its place among the questions, what is left of the context, and its options."""

    position: int
    context: Sequence[int]
    options: Sequence[Sequence[int]]

    @property
    def width(self) -> int:
        """Tokens of the options that are read: nothing is asked after the last of each."""
        return sum(len(option) - 1 for option in self.options)


def weigh(model: PreTrainedModel, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
    """(position in `questions`, one Likelihood an option) for every question, as they are done. Contexts and options hold one token or more."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    longest = max((len(q.context) + max(map(len, q.options)) for q in questions), default=0)
    if window is not None and longest > window:
        yield from _one_by_one(model, questions)
        return
    prefix = _shared([q.context for q in questions])
    prefix = prefix if prefix >= WORTH_KEEPING else 0
    cache = _read(model, questions[0].context[:prefix]) if prefix else None
    rows = [_Row(n, q.context[prefix:], q.options) for n, q in enumerate(questions)]
    for batch in _batches(sorted(rows, key=lambda row: (row.width, len(row.context)))):
        yield from _batch(model, cache, prefix, batch)


def _shared(contexts: Sequence[Sequence[int]]) -> int:
    """How many tokens all contexts begin with, one left over in each."""
    if len(contexts) < 2:
        return 0
    first, last = min(contexts, key=list), max(contexts, key=list)
    most = min(map(len, contexts)) - 1
    return next((n for n in range(most) if first[n] != last[n]), most)


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    context = 0
    for row in rows:
        wider = max(context, len(row.context))
        if batch and (len(batch) + 1) * (wider + row.width) > ROW_TOKENS:
            yield batch
            batch, wider = [], len(row.context)
        batch.append(row)
        context = wider
    if batch:
        yield batch


def _read(model: PreTrainedModel, ids: Sequence[int]) -> DynamicCache:
    """Keys and values of a beginning, all layers whole, whatever window they see."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, logits_to_keep=1)
    return cache


def _batch(model: PreTrainedModel, cache: DynamicCache | None, prefix: int, rows: Sequence[_Row]) -> list[tuple[int, list[Likelihood]]]:
    """One pass: contexts are padded on the left, so that all options begin in one column, and options on the right."""
    context, width = max(len(row.context) for row in rows), max(row.width for row in rows)
    ids = torch.zeros((len(rows), context + width), dtype=torch.long)
    places = torch.zeros_like(ids)
    seen = torch.eye(context + width, dtype=torch.bool).repeat(len(rows), 1, 1)
    for n, row in enumerate(rows):
        start = context - len(row.context)
        ids[n, start:context] = torch.tensor(list(row.context))
        places[n, start:context] = torch.arange(prefix, prefix + len(row.context))
        seen[n, start:, start:context] = torch.ones((context + width - start, len(row.context)), dtype=torch.bool).tril()
        at = context
        for option in row.options:
            read = len(option) - 1
            ids[n, at : at + read] = torch.tensor(list(option[:-1]), dtype=torch.long)
            places[n, at : at + read] = torch.arange(read) + prefix + len(row.context)
            seen[n, at : at + read, at : at + read] = torch.ones((read, read), dtype=torch.bool).tril()
            at += read
    mask = torch.cat([torch.ones((len(rows), context + width, prefix), dtype=torch.bool), seen], dim=2)[:, None]
    hidden = torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, torch.finfo(model.dtype).min)
    with torch.inference_mode():
        past = _repeated(cache, len(rows)) if cache else None
        given = {"attention_mask": hidden, "position_ids": places, "past_key_values": past, "use_cache": past is not None}
        found = model(input_ids=ids, **given, logits_to_keep=width + 1).logits
        return [(row.position, _row(logits.float(), row)) for logits, row in zip(found, rows, strict=True)]


def _row(logits: torch.Tensor, row: _Row) -> list[Likelihood]:
    """The options' likelihoods from the logits after the context's last token (the first) and after the options' own."""
    after: list[int] = []
    at = 1
    for option in row.options:
        after += [0, *range(at, at + len(option) - 1)]
        at += len(option) - 1
    wanted = torch.tensor([token for option in row.options for token in option])
    chosen = logits[torch.tensor(after)]
    nats = chosen.gather(1, wanted[:, None])[:, 0] - chosen.logsumexp(1)
    likeliest = chosen.argmax(1) == wanted
    sizes = [len(option) for option in row.options]
    return [Likelihood(float(one.sum()), bool(all_.all())) for one, all_ in zip(nats.split(sizes), likeliest.split(sizes), strict=True)]


def _repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """The same keys and values for each of so many rows, in a cache of their own."""
    again = DynamicCache()
    for number, layer in enumerate(cache.layers):
        if layer.is_initialized:
            again.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return again


def _one_by_one(model: PreTrainedModel, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
    """Every option in a row of its own with the model's own mask: where a context is longer than the window that a layer sees."""
    for n, (context, options) in enumerate(questions):
        yield n, [_alone(model, context, option) for option in options]


def _alone(model: PreTrainedModel, context: Sequence[int], option: Sequence[int]) -> Likelihood:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*context, *option[:-1]]]), logits_to_keep=len(option)).logits[0].float()
        return _row(logits, _Row(0, context, [option]))[0]
