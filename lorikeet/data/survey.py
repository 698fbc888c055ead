"""One pass over the rows: numbers that say which of them are alike, and what stands in them."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lorikeet.data.contents import SHOWN, Contents
from lorikeet.data.rows import KINDS, PARTS, TEST, TRAIN, Row
from lorikeet.private import knowing_secrets
from lorikeet.progress import Progress
from lorikeet.scoring import fold

TOLD = 1000
"""Rows after which it is said how far it is: fewer take no time worth a line."""


@dataclass(frozen=True)
class Survey:
    """What one pass over `rows` gave. Arrays have an entry a row. Those of hashes (64 bits) are equal where the words are:

    `whole` the messages letter for letter, `context` what the answer answers and `asked` the last question, folded; `answer` the answer, folded;
    `in_mode` context and mode; `group` the group's name. `part` and `kind` are numbers in PARTS and KINDS, `turns` counts answers, `words` those of the last.
    """

    rows: Sequence[Row]
    whole: np.ndarray
    context: np.ndarray
    asked: np.ndarray
    in_mode: np.ndarray
    answer: np.ndarray
    group: np.ndarray
    part: np.ndarray
    kind: np.ndarray
    turns: np.ndarray
    words: np.ndarray
    categories: Counter[str]
    files: frozenset[str]
    contents: Contents

    @cached_property
    def taught(self) -> np.ndarray:
        return np.asarray(self.kind == KINDS.index("taught"))

    @cached_property
    def wordings(self) -> bool:
        """Whether answers are both trained on and held out, as in a taught set."""
        held_out = self.group[self.taught & (self.part == TEST)]
        return bool(np.isin(self.group[self.taught & (self.part == TRAIN)], held_out).any())

    def places(self, positions: np.ndarray) -> tuple[str, ...]:
        """Where the first of the rows at `positions` stand, SHOWN at most."""
        return tuple(str(self.rows[n].conversation.source) for n in positions[:SHOWN].tolist())


def survey(rows: Sequence[Row], progress: Progress) -> Survey:
    """Look at every row once."""
    hashes = {name: array("q") for name in ("whole", "context", "asked", "in_mode", "answer", "group")}
    numbers = {name: array(code) for name, code in (("part", "b"), ("kind", "b"), ("turns", "i"), ("words", "i"))}
    categories: Counter[str] = Counter()
    files: set[str] = set()
    contents, total = Contents(), len(rows)
    with knowing_secrets():
        for number, row in enumerate(rows, 1):
            talk = row.conversation
            turns = [fold(m.content) for m in talk.messages[:-1] if m.role != "system"]
            context, answer = "\n".join(turns), fold(talk.answer)
            keys = ("\0".join((m.role + m.content) for m in talk.messages), context, turns[-1], f"{talk.mode}\0{context}", answer, row.group)
            for column, key in zip(hashes.values(), keys, strict=True):
                column.append(hash(key))
            counts = (PARTS.index(row.part), KINDS.index(row.kind), len(turns) // 2 + 1, len(talk.answer.split()))
            for column, count in zip(numbers.values(), counts, strict=True):
                column.append(count)
            categories[talk.category] += bool(talk.category)
            files.add(talk.source.file)
            contents.see(row)
            if number % TOLD == 0:
                progress.step("rows looked at", number, total)
    columns = {name: np.frombuffer(column, column.typecode) for name, column in [*hashes.items(), *numbers.items()]}
    return Survey(rows, **columns, categories=+categories, files=frozenset(files), contents=contents)
