"""Log-likelihoods of continuations by a model of transformers: what contexts share is read once, and many questions go through as one row without padding.

In the row a question's context stands in front of its options, side by side; a mask keeps every option from seeing the others and every question from
seeing the others, and positions go on from the context for each. What all contexts begin with (the examples of TruthfulQA) is one cache for all.
The head runs where a token is asked for and nowhere else. The field's other way, a row for each option with all its context and logits at every
position, gives the same numbers for several times the work.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

from lorikeet.engine import Choices, Likelihood

ROW_TOKENS = 512
"""Tokens of a row: more would be spent on the mask than is won by a larger product."""
WORTH_KEEPING = 8
"""Tokens that all contexts have to begin with for a cache of their own to pay."""


class _Question(NamedTuple):
    """A question without the shared prefix: its place among the questions, what is left of the context, and its options."""

    position: int
    context: Sequence[int]
    options: Sequence[Sequence[int]]

    @property
    def read(self) -> int:
        """Tokens that are read: nothing is asked after the last of each option."""
        return len(self.context) + sum(len(option) - 1 for option in self.options)


def weigh(model: PreTrainedModel, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
    """(position in `questions`, one Likelihood an option) for every question, as they are done. Contexts and options hold one token or more."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    longest = max((len(q.context) + max(map(len, q.options)) for q in questions), default=0)
    if window is not None and longest > window:
        yield from _one_by_one(model, questions)
        return
    prefix = _shared([q.context for q in questions])
    prefix = prefix if prefix >= WORTH_KEEPING else 0
    cache = _read(model, questions[0].context[:prefix]) if prefix else None
    left = [_Question(n, q.context[prefix:], q.options) for n, q in enumerate(questions)]
    for row in _rows(left):
        yield from _row(model, cache, prefix, row)


def _shared(contexts: Sequence[Sequence[int]]) -> int:
    """How many tokens all contexts begin with, one left over in each."""
    if len(contexts) < 2:
        return 0
    first, last = min(contexts, key=list), max(contexts, key=list)
    most = min(map(len, contexts)) - 1
    return next((n for n in range(most) if first[n] != last[n]), most)


def _rows(questions: Sequence[_Question]) -> Iterator[list[_Question]]:
    """Questions in rows of at most ROW_TOKENS; a longer one is a row of its own."""
    row: list[_Question] = []
    for question in questions:
        if row and sum(q.read for q in row) + question.read > ROW_TOKENS:
            yield row
            row = []
        row.append(question)
    if row:
        yield row


def _read(model: PreTrainedModel, ids: Sequence[int]) -> DynamicCache:
    """Keys and values of a beginning, all layers whole, whatever window they see."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, logits_to_keep=1)
    return cache


def _row(model: PreTrainedModel, cache: DynamicCache | None, prefix: int, questions: Sequence[_Question]) -> list[tuple[int, list[Likelihood]]]:
    """One pass over several questions."""
    length = sum(question.read for question in questions)
    ids: list[int] = []
    places: list[int] = []
    asked: list[list[list[int]]] = []
    seen = torch.zeros((length, length), dtype=torch.bool)
    for question in questions:
        start, end = len(ids), len(ids) + len(question.context)
        ids += question.context
        places += range(prefix, prefix + len(question.context))
        seen[start:end, start:end] = torch.ones((end - start, end - start), dtype=torch.bool).tril()
        behind = []
        for option in question.options:
            at, read = len(ids), len(option) - 1
            ids += option[:-1]
            places += range(prefix + len(question.context), prefix + len(question.context) + read)
            seen[at : at + read, start:end] = True
            seen[at : at + read, at : at + read] = torch.ones((read, read), dtype=torch.bool).tril()
            behind.append([end - 1, *range(at, at + read)])
        asked.append(behind)
    hidden = torch.zeros((1, 1, length, prefix + length), dtype=model.dtype)
    hidden[0, 0, :, prefix:].masked_fill_(~seen, torch.finfo(model.dtype).min)
    wanted = sorted({at for behind in asked for option in behind for at in option})
    row_of = {at: n for n, at in enumerate(wanted)}
    with torch.inference_mode():
        past = _copied(cache) if cache else None
        given = {"attention_mask": hidden, "position_ids": torch.tensor([places]), "past_key_values": past, "use_cache": past is not None}
        logits = model(input_ids=torch.tensor([ids]), **given, logits_to_keep=torch.tensor(wanted)).logits[0].float()
        nats, likeliest = logits.logsumexp(1), logits.argmax(1)
        found = []
        for question, behind in zip(questions, asked, strict=True):
            weighed = []
            for option, positions in zip(question.options, behind, strict=True):
                rows, tokens = torch.tensor([row_of[at] for at in positions]), torch.tensor(list(option))
                weighed.append(Likelihood(float((logits[rows, tokens] - nats[rows]).sum()), bool((likeliest[rows] == tokens).all())))
            found.append((question.position, weighed))
    return found


def _copied(cache: DynamicCache) -> DynamicCache:
    """The same keys and values in a cache of their own, to be read on."""
    again = DynamicCache()
    for number, layer in enumerate(cache.layers):
        if layer.is_initialized:
            again.update(layer.keys, layer.values, number)
    return again


def _one_by_one(model: PreTrainedModel, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
    """Every option in a row of its own with the model's own mask: where a context is longer than the window that a layer sees."""
    for n, (context, options) in enumerate(questions):
        yield n, [_alone(model, context, option) for option in options]


def _alone(model: PreTrainedModel, context: Sequence[int], option: Sequence[int]) -> Likelihood:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*context, *option[:-1]]]), logits_to_keep=len(option)).logits[0].float()
        tokens = torch.tensor(list(option))
        nats = logits[torch.arange(len(option)), tokens] - logits.logsumexp(1)
        return Likelihood(float(nats.sum()), bool((logits.argmax(1) == tokens).all()))
