"""Conversations into tokens by the model's own chat template, with the mask that says which tokens get loss.

Supervised are exactly the assistant's words and the token that ends the turn. The mask goes by position in the text,
never by token id, so that a pad token equal to the end token costs the stop token nothing, and an answer that quotes
the end token is learned to its true end.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from lorikeet.conversation import Conversation, Message
from lorikeet.errors import DataError


@dataclass(frozen=True)
class Tokens:
    """Token ids of a row and, for each, whether it gets loss. Both have the same length."""

    ids: list[int]
    supervised: list[bool]


def _text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, prompt: bool) -> str:
    return _texts(tokenizer, [messages], prompt=prompt)[0]


def _texts(tokenizer: PreTrainedTokenizerBase, talks: Sequence[Sequence[Message]], *, prompt: bool) -> list[str]:
    turns = [[m.as_dict() for m in messages] for messages in talks]
    return list(map(str, tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)))


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
        waiting: tuple[list[_Written], Future[list[Encoding]]] | None = None
        rest, forms = iter(rows), _Forms()
        while chunk := list(islice(rest, CHUNK)):
            texts = _texts(tokenizer, [row.messages for row in chunk], prompt=False)
            written = [forms.recognised(row, text) or forms.learned(_write(tokenizer, row, text)) for row, text in zip(chunk, texts, strict=True)]
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


class _Form(NamedTuple):
    """What a template writes around the texts of a conversation: before the first, between them, behind the last. Each answer's span, counted from
    where its words begin and end.
    """

    around: list[str]
    answers: list[tuple[int, int]]


class _Forms:
    """How conversations of each order of roles were written. One whose whole text is the same but for what was said has its answers in the same
    places: its prompts need not be written too.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], _Form] = {}

    def recognised(self, row: Conversation, whole: str) -> "_Written | None":
        """The conversation with its answers' places, or None where its form is not known."""
        form = self._known.get(tuple(m.role for m in row.messages))
        if form is None or whole != "".join(chain.from_iterable(zip(form.around, (*(m.content for m in row.messages), ""), strict=True))):
            return None
        answers, at, spans = [], 0, iter(form.answers)
        for number, (message, before) in enumerate(zip(row.messages, form.around, strict=False), 1):
            begins = at + len(before)
            at = begins + len(message.content)
            if message.role == "assistant":
                start, end = next(spans)
                answers.append(_Span(number, begins + start, at + end, at))
        return _Written(row, whole, answers)

    def learned(self, written: "_Written") -> "_Written":
        """The same conversation; its form is kept where every answer stands there word for word."""
        around, places, at = [], [], 0
        for message in written.row.messages:
            begins = written.text.find(message.content, at)
            if begins < 0:
                return written
            around.append(written.text[at:begins])
            at = begins + len(message.content)
            places.append((begins, at))
        spoken = [places[answer.turn - 1] for answer in written.answers]
        if [ends for _, ends in spoken] == [answer.said for answer in written.answers]:
            spans = [(answer.start - begins, answer.end - ends) for answer, (begins, ends) in zip(written.answers, spoken, strict=True)]
            self._known[tuple(m.role for m in written.row.messages)] = _Form([*around, written.text[at:]], spans)
        return written


def _write(tokenizer: PreTrainedTokenizerBase, row: Conversation, whole: str) -> _Written:
    """The conversation with its answers' places, each found by writing the prompt before it."""
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


def _masked(tokenizer: PreTrainedTokenizerBase, special: set[int], written: Sequence[_Written], encoded: "Future[list[Encoding]]") -> Iterator[Tokens]:
    for text, encoding in zip(written, encoded.result(), strict=True):
        ids = encoding.ids
        if ids[:2] == [tokenizer.bos_token_id] * 2:
            raise DataError(f"{text.row.source}: the chat template begins the text with {tokenizer.bos_token!r} twice, which no served prompt will",
                            "take one of the two out of the model's chat template")  # fmt: skip
        yield Tokens(ids, _mask(text, ids, encoding, special))


def _mask(text: _Written, ids: Sequence[int], encoding: Encoding, special: set[int]) -> list[bool]:
    supervised = [False] * len(ids)
    for number, start, end, said in text.answers:
        first, behind = _token_at(encoding, start), _token_at(encoding, end) if end < len(text.text) else len(ids)
        # A token may begin before the answer: "ASSISTANT: " and "Cool" share the token " Cool". No special token does.
        if first < behind and ids[first] in special and _begins(encoding, first) < start:
            first += 1
        over = max(start, said)
        places = range(max(first, _token_at(encoding, over)), behind) if over < end else range(0)
        stops = (at for at in (places if said >= 0 else reversed(places)) if ids[at] in special and _begins(encoding, at) >= over)
        if (stop := next(stops, None)) is None:
            raise DataError(f"{text.row.source}: turn {number} ends without a stop token under this chat template, so the model would never learn to stop",
                            "use a model whose chat template ends the assistant's turn with a special token")  # fmt: skip
        supervised[first : stop + 1] = [True] * (stop + 1 - first)
    return supervised


def _begins(encoding: Encoding, token: int) -> int:
    """Where a token begins in the text."""
    span = encoding.token_to_chars(token)
    return span[0] if span else 0


def _token_at(encoding: Encoding, place: int) -> int:
    """The first token that ends behind a place in the text; their number where none does. A place between two tokens is looked up slowly."""
    found = encoding.char_to_token(place)
    return next((at for at, (_, last) in enumerate(encoding.offsets) if last > place), len(encoding.ids)) if found is None else int(found)


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
