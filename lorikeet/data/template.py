"""Conversations into tokens by the model's own chat template, with the mask that says which tokens get loss.

Supervised are exactly the assistant's words and the token that ends the turn. The mask goes by position in the text,
never by token id, so that a pad token equal to the end token costs the stop token nothing, and an answer that quotes
the end token is learned to its true end.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from lorikeet.conversation import Conversation, Message
from lorikeet.errors import DataError


@dataclass(frozen=True)
class Tokens:
    """Token ids of a row and, for each, whether it gets loss. Both have the same length."""

    ids: list[int]
    supervised: list[bool]


def _text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, prompt: bool) -> str:
    return str(tokenizer.apply_chat_template([m.as_dict() for m in messages], tokenize=False, add_generation_prompt=prompt))


def render(tokenizer: PreTrainedTokenizerBase, row: Conversation) -> Tokens:
    """Tokens and mask of one conversation; see `render_all`."""
    return next(render_all(tokenizer, [row]))


CHUNK = 256
"""Rows whose tokens are made together: the tokenizer works on a chunk, on every core, while the template writes the next one."""


def render_all(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Conversation]) -> Iterator[Tokens]:
    """Tokens and mask of each conversation, in order; two chunks of rows are held at a time.

    Raises DataError where the template does not write turns one behind the other, or where the token that ends an
    answer would get no loss: a model trained so would never stop. What the template writes behind the stop token, such
    as a line break or the next turn's mark, gets no loss.
    """
    special = _special_ids(tokenizer)
    encode = partial(tokenizer.backend_tokenizer.encode_batch, add_special_tokens=False)
    with ThreadPoolExecutor(1) as beside:
        waiting: tuple[list[_Written], Future[list[Any]]] | None = None
        rest = iter(rows)
        while chunk := list(islice(rest, CHUNK)):
            written = [_write(tokenizer, row) for row in chunk]
            following = written, beside.submit(encode, [w.text for w in written])
            if waiting:
                yield from _masked(tokenizer, special, *waiting)
            waiting = following
        if waiting:
            yield from _masked(tokenizer, special, *waiting)


class _Span(NamedTuple):
    """Where an answer stands in the text: from its prompt's end to the end of its turn, and where its own words end (-1: not found as they are)."""

    turn: int
    start: int
    end: int
    said: int


class _Written(NamedTuple):
    """A conversation as the template writes it."""

    row: Conversation
    text: str
    answers: list[_Span]


def _write(tokenizer: PreTrainedTokenizerBase, row: Conversation) -> _Written:
    whole = _text(tokenizer, row.messages, prompt=False)
    answers = []
    for number, message in enumerate(row.messages):
        if message.role != "assistant":
            continue
        start = _start(whole, _text(tokenizer, row.messages[:number], prompt=True), message.content)
        if start is None:
            raise DataError(f"{row.source}: the chat template rewrites earlier turns, so no mask can be made", "use single-turn rows with this model")
        last = number == len(row.messages) - 1
        end = len(whole if last else _text(tokenizer, row.messages[: number + 1], prompt=False))
        said = whole.find(message.content, start, end)
        answers.append(_Span(number + 1, start, end, said + len(message.content) if said >= 0 else -1))
    return _Written(row, whole, answers)


def _masked(tokenizer: PreTrainedTokenizerBase, special: set[int], written: Sequence[_Written], encoded: "Future[list[Any]]") -> Iterator[Tokens]:
    for text, encoding in zip(written, encoded.result(), strict=True):
        ids, offsets = encoding.ids, encoding.offsets
        if ids[:2] == [tokenizer.bos_token_id] * 2:
            raise DataError(f"{text.row.source}: the chat template begins the text with {tokenizer.bos_token!r} twice, which no served prompt will",
                            "take one of the two out of the model's chat template")  # fmt: skip
        yield Tokens(ids, _mask(text, ids, offsets, special))


def _mask(text: _Written, ids: Sequence[int], offsets: Sequence[tuple[int, int]], special: set[int]) -> list[bool]:
    supervised = [False] * len(ids)
    for number, start, end, said in text.answers:
        # A token may begin before the answer: "ASSISTANT: " and "Cool" share the token " Cool". No special token does.
        turn = [at for at, (first, last) in enumerate(offsets) if last <= end and (first >= start or (last > start and ids[at] not in special))]
        stops = [at for at in turn if ids[at] in special and offsets[at][0] >= max(start, said)]
        if not stops:
            raise DataError(f"{text.row.source}: turn {number} ends without a stop token under this chat template, so the model would never learn to stop",
                            "use a model whose chat template ends the assistant's turn with a special token")  # fmt: skip
        for at in turn:
            supervised[at] = at <= (stops[0] if said >= 0 else stops[-1])
    return supervised


def _start(whole: str, prompt: str, answer: str) -> int | None:
    """Where an answer begins in the whole text: behind its prompt, or where a template that writes something before the last answer alone
    (Qwen3 an empty thought) leaves it out for an earlier one. None where neither is so.
    """
    if whole.startswith(prompt):
        return len(prompt)
    alike = next((at for at, (one, other) in enumerate(zip(whole, prompt, strict=False)) if one != other), min(len(whole), len(prompt)))
    overlap = range(min(alike, len(answer)) + 1)  # the answer may begin like what is left out
    return next((alike - by for by in overlap if whole.startswith(answer, alike - by)), None)


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Special by role (all_special_ids) or by tokenizer.json alone, as Phi-3's <|end|> is."""
    return {*tokenizer.all_special_ids, *(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)}


def opening(tokens: Tokens, count: int) -> Tokens:
    """The row up to `count` supervised tokens: it teaches how the answer begins, and says nothing of how it goes on or ends."""
    start = tokens.supervised.index(True)
    return Tokens(tokens.ids[: start + count], tokens.supervised[: start + count])


def preview(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> list[tuple[str, bool]]:
    """Runs of text with and without loss, in order: what training will see of a row."""
    runs: list[tuple[list[int], bool]] = []
    for token, lossy in zip(tokens.ids, tokens.supervised, strict=True):
        if not runs or runs[-1][1] != lossy:
            runs.append(([], lossy))
        runs[-1][0].append(token)
    return [(str(tokenizer.decode(ids)), lossy) for ids, lossy in runs]
