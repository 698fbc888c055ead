"""Answers with a judgement, for KTO and DPO: each with its prompt, whether it was liked, and the pair that it is of.

Rows without a judgement show what to say, and count as liked where answers are learned one by one (KTO).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import tee
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet
from transformers import PreTrainedTokenizerBase

from lorikeet.conversation import Conversation, Message
from lorikeet.data.rows import Row
from lorikeet.data.template import Tokens, render_all
from lorikeet.data.tokens import WRITTEN
from lorikeet.errors import DataError
from lorikeet.recipe import Objective

_SCHEMA = pyarrow.schema([
    ("prompt", pyarrow.list_(pyarrow.int32())), ("answer", pyarrow.list_(pyarrow.int32())), ("liked", pyarrow.bool_()), ("pair", pyarrow.int32()),
    ("split", pyarrow.string()),
])  # fmt: skip
ALONE = -1
"""The pair of an answer that was rated by itself."""


class Rated(NamedTuple):
    """An answer with its judgement; two of one `pair` answer the same question."""

    talk: Conversation
    liked: bool
    pair: int
    part: str


def is_rated(talk: Conversation) -> bool:
    """Whether the row carries a judgement."""
    return talk.liked is not None or bool(talk.rejected)


def rated_answers(rows: Iterable[Row], objective: Objective) -> Iterator[Rated]:
    """What a row's judgement says of answers: pairs alone for DPO; for KTO every answer, one without a judgement as liked where it is trained on."""
    for number, row in enumerate(rows):
        talk = row.conversation
        pair = number if talk.rejected else ALONE
        if talk.rejected or (objective == "kto" and row.kind != "never-taught" and (talk.liked is not None or row.part == "train")):
            yield Rated(talk, talk.liked is not False, pair, row.part)
        if talk.rejected:
            yield Rated(replace(talk, messages=(*talk.messages[:-1], Message("assistant", talk.rejected))), False, pair, row.part)


def require_both(rows: Sequence[Row], objective: Objective) -> None:
    """DataError where there is nothing to prefer to anything, in what is trained on and in each part that is held out."""
    seen: dict[tuple[str, bool], int] = {}
    for answer in rated_answers(rows, objective):
        seen[answer.part, answer.liked] = seen.get((answer.part, answer.liked), 0) + 1
    wanted = "'chosen' and 'rejected'" if objective == "dpo" else "'label' true or false"
    for liked, word in ((True, "liked"), (False, "disliked")):
        if not any(found == liked for _, found in seen):
            raise DataError(f"train.objective is {objective}, but no answer of data.train is {word}", f"add rows with {wanted} (docs/data.md)")
        for part in ("train", "validation", "test"):
            if (part, liked) not in seen:
                raise DataError(f"too few ratings: no {word} answer falls to the {part} part of the split",
                                "add ratings, or raise data.test_share; some forty of each kind are the least")  # fmt: skip


def write_ratings(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Row], objective: Objective, limit: int, path: Path) -> None:
    """Write the tokens of every rated answer; DataError for one of more than `limit` tokens, since none is cut."""
    answers, ahead = tee(rated_answers(rows, objective))
    waiting: list[dict[str, object]] = []
    with pyarrow.parquet.ParquetWriter(path, _SCHEMA) as file:
        for rated, tokens in zip(answers, render_all(tokenizer, (answer.talk for answer in ahead)), strict=True):
            if len(tokens.ids) > limit:
                raise DataError(f"{rated.talk.source}: a rated answer has {len(tokens.ids)} tokens with its prompt, more than data.max_tokens",
                                f"raise data.max_tokens ({limit}), or take the row out")  # fmt: skip
            start, end = _last_answer(tokens)
            waiting.append({"prompt": tokens.ids[:start], "answer": tokens.ids[start:end], "liked": rated.liked, "pair": rated.pair, "split": rated.part})
            if len(waiting) == WRITTEN:
                file.write_table(pyarrow.Table.from_pylist(waiting, _SCHEMA))
                waiting.clear()
        file.write_table(pyarrow.Table.from_pylist(waiting, _SCHEMA))


def write_judged(rows: Iterable[Row], path: Path) -> None:
    """The judged answers as text, one {messages, liked, split, mode} a line, for the evaluation to ask their questions again."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            talk = row.conversation
            if talk.liked is not None:
                line = {"messages": [m.as_dict() for m in talk.messages], "liked": talk.liked, "split": row.part, "mode": talk.mode}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _last_answer(tokens: Tokens) -> tuple[int, int]:
    """Where the last run of supervised tokens begins and ends: earlier answers of a talk are part of its prompt."""
    end = len(tokens.supervised) - tokens.supervised[::-1].index(True)
    start = end - next((n for n, lossy in enumerate(tokens.supervised[:end][::-1]) if not lossy), end)
    return start, end
