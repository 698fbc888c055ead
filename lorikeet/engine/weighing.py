"""Log-likelihoods of continuations by a model of transformers: whatever begins alike is read once, and many questions go through as one row without padding.

A row is a tree of tokens: contexts that begin alike share their first nodes, options hang behind their context, and options that begin alike share theirs.
Every token sees its ancestors and nothing else, and its position is its depth. What all contexts begin with, where it is long (the examples of
TruthfulQA), is one cache for all rows. The head runs where a token is asked for and nowhere else. The field's other way, a row for each option with all
its context and logits at every position, gives the same numbers for several times the work.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

from lorikeet.engine import Choices, Likelihood, shared_beginning

ROW_TOKENS = 512
"""Tokens of a row: more would be spent on the mask than is won by a larger product."""
WORTH_KEEPING = 8
"""Tokens that all contexts have to begin with for a cache of their own to pay."""


class _Asked(NamedTuple):
    """An option, and for each of its tokens the node behind which it stands."""

    option: Sequence[int]
    nodes: list[int]


class _Tree:
    """Tokens, the parent and the depth of each (-1: no parent), and what is asked of them: of each question, by its position, its options."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.asked: dict[int, list[_Asked]] = {}
        self._nodes: dict[tuple[int, int], int] = {}

    def add(self, position: int, context: Sequence[int], options: Sequence[Sequence[int]]) -> None:
        """Hang in the question at `position`. Nothing is asked behind the last token of an option, which is not read."""
        end = self._walk(-1, context)[-1]
        self.asked[position] = [_Asked(option, [end, *self._walk(end, option[:-1])]) for option in options]

    def _walk(self, node: int, tokens: Sequence[int]) -> list[int]:
        """The nodes of tokens behind a node, made where they are not there."""
        found = []
        for token in tokens:
            key = (node, token)
            if key not in self._nodes:
                self._nodes[key] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(self.depths[node] + 1 if node >= 0 else 0)
            node = self._nodes[key]
            found.append(node)
        return found

    def sight(self) -> torch.Tensor:
        """Which nodes each node sees, itself among them: shape (nodes, nodes), bool."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def weigh(model: PreTrainedModel, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
    """(position in `questions`, one Likelihood an option) for every question, as they are done. Contexts and options hold one token or more."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    longest = max((len(q.context) + max(map(len, q.options)) for q in questions), default=0)
    if window is not None and longest > window:
        yield from _one_by_one(model, questions)
        return
    prefix = shared_beginning([q.context for q in questions])
    prefix = prefix if prefix >= WORTH_KEEPING else 0
    cache = _read(model, questions[0].context[:prefix]) if prefix else None
    for tree in _trees(questions, prefix):
        yield from _row(model, cache, prefix, tree)


def _trees(questions: Sequence[Choices], prefix: int) -> Iterator[_Tree]:
    """Trees of about ROW_TOKENS, of contexts without the prefix, those that begin alike together; a longer question is one of its own."""
    order = sorted(range(len(questions)), key=lambda n: list(questions[n].context))
    tree = _Tree()
    for n in order:
        context, options = questions[n]
        if tree.asked and len(tree.tokens) + len(context) - prefix + sum(len(option) - 1 for option in options) > ROW_TOKENS:
            yield tree
            tree = _Tree()
        tree.add(n, context[prefix:], options)
    if tree.asked:
        yield tree


def _read(model: PreTrainedModel, ids: Sequence[int]) -> DynamicCache:
    """Keys and values of a beginning, all layers whole, whatever window they see."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, logits_to_keep=1)
    return cache


def _row(model: PreTrainedModel, cache: DynamicCache | None, prefix: int, tree: _Tree) -> list[tuple[int, list[Likelihood]]]:
    """One pass over the questions of a tree."""
    hidden = torch.zeros((1, 1, len(tree.tokens), prefix + len(tree.tokens)), dtype=model.dtype)
    hidden[0, 0, :, prefix:].masked_fill_(~tree.sight(), torch.finfo(model.dtype).min)
    wanted = sorted({node for options in tree.asked.values() for asked in options for node in asked.nodes})
    row_of = {node: n for n, node in enumerate(wanted)}
    places = torch.tensor([tree.depths]) + prefix
    with torch.inference_mode():
        past = _copied(cache) if cache else None
        given = {"attention_mask": hidden, "position_ids": places, "past_key_values": past, "use_cache": past is not None}
        logits = model(input_ids=torch.tensor([tree.tokens]), **given, logits_to_keep=torch.tensor(wanted)).logits[0].float()
        total, likeliest = logits.logsumexp(1), logits.argmax(1)
        found = []
        for position, options in tree.asked.items():
            weighed = []
            for option, nodes in options:
                rows, tokens = torch.tensor([row_of[node] for node in nodes]), torch.tensor(list(option))
                weighed.append(Likelihood(float((logits[rows, tokens] - total[rows]).sum()), bool((likeliest[rows] == tokens).all())))
            found.append((position, weighed))
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
