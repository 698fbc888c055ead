"""Rows into the tokens that training sees: written as they come, so that memory holds their lengths and no more."""

from collections.abc import Collection, Sequence
from itertools import tee
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import pyarrow
import pyarrow.parquet
from transformers import PreTrainedTokenizerBase

from lorikeet.data.figures import LongRow
from lorikeet.data.rows import Row
from lorikeet.data.template import Tokens, opening, preview, render_all
from lorikeet.progress import Progress

_SCHEMA = pyarrow.schema([
    ("ids", pyarrow.list_(pyarrow.int32())), ("supervised", pyarrow.list_(pyarrow.bool_())), ("split", pyarrow.string()), ("kind", pyarrow.string()),
])  # fmt: skip
WRITTEN = 4096
"""Rows that are written together."""


class TokenFile:
    """tokens.parquet as it is written: a row's ids and mask, its part of the split, its kind. Nothing is written where the path is None."""

    def __init__(self, path: Path | None) -> None:
        self._file = pyarrow.parquet.ParquetWriter(path, _SCHEMA) if path else None
        self._waiting: list[tuple[np.ndarray, np.ndarray, str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush()
        if self._file:
            self._file.close()

    def add(self, row: Row, tokens: Tokens) -> None:
        if not self._file:
            return
        self._waiting.append((np.array(tokens.ids, np.int32), np.array(tokens.supervised), row.part, row.kind))
        if len(self._waiting) == WRITTEN:
            self._flush()

    def _flush(self) -> None:
        if self._file and self._waiting:
            columns = zip(zip(*self._waiting, strict=True), _SCHEMA, strict=True)
            self._file.write_table(pyarrow.table([pyarrow.array(values, field.type) for values, field in columns], schema=_SCHEMA))
        self._waiting.clear()


class Seen(NamedTuple):
    """What training sees: each row's length and supervised tokens, the rows that are too long, and rows painted, by their position."""

    lengths: np.ndarray
    supervised: np.ndarray
    long: list[LongRow]
    painted: dict[int, list[tuple[str, bool]]]


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    path: Path | None,
    progress: Progress,
    *,
    limit: int,
    openings: Collection[int] = (),
    opening_tokens: int = 0,
    paint: Collection[int] = (),
) -> Seen:
    """Render every row once and write it to `path`; those at `openings` are cut after so many tokens of their answer.

    Raises DataError where the chat template cannot be learned from. A row of more than `limit` tokens is told, and kept whole.
    """
    lengths, supervised = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
    seen = Seen(lengths, supervised, [], {})
    shown, ahead = tee(rows)  # the renderer is two chunks ahead
    with TokenFile(path) as file:
        for n, (row, tokens) in enumerate(zip(shown, render_all(tokenizer, (row.conversation for row in ahead)), strict=True)):
            if len(tokens.ids) > limit:
                talk = row.conversation
                seen.long.append(LongRow(talk.source, talk.question[:200], len(tokens.ids), sum(tokens.supervised[limit:])))
            kept = opening(tokens, opening_tokens) if n in openings else tokens
            lengths[n], supervised[n] = len(kept.ids), sum(kept.supervised)
            if n in paint:
                seen.painted[n] = preview(tokenizer, kept)
            file.add(row, kept)
            progress.step("rows rendered", n + 1, len(rows))
    return seen
