"""Rows with their places in the split. The conversations may lie on a shelf; the places are arrays, a few bytes a row."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import add
from typing import Literal, NamedTuple, overload

import numpy as np

from lorikeet.conversation import Conversation
from lorikeet.data.shelf import Shelf
from lorikeet.scoring import fold

Part = Literal["train", "validation", "test"]
Kind = Literal["taught", "out-of-scope", "never-taught"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
"""Parts in the order in which they are used up: what stands in one must not be asked in a later one."""
KINDS: tuple[Kind, ...] = ("taught", "out-of-scope", "never-taught")
TRAIN, VALIDATION, TEST = range(3)
GROUP = 17
"""Bytes of the longest name of a group."""


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation with its place in the split."""

    conversation: Conversation
    part: Part
    group: str
    kind: Kind


class _Piece(NamedTuple):
    """Conversations of one kind; the part of each as its number in PARTS, and its group's name in ASCII."""

    talks: Sequence[Conversation]
    kind: Kind
    parts: np.ndarray
    groups: np.ndarray

    def row(self, n: int, talk: Conversation) -> Row:
        return Row(talk, PARTS[self.parts[n]], self.groups[n].decode(), self.kind)


class Rows(Sequence[Row]):
    """Rows, each made when it is asked for."""

    def __init__(self, talks: Sequence[Conversation], kind: Kind, parts: np.ndarray, groups: np.ndarray) -> None:
        """`parts` are numbers in PARTS, `groups` names in ASCII, both of the conversations' length."""
        self._pieces = [_Piece(talks, kind, parts.astype(np.int8), groups.astype(f"S{GROUP}"))]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """Rows that come one by one, put on shelves: one a kind, in the kinds' order."""
        shelves = {kind: (Shelf(), array("b"), bytearray()) for kind in KINDS}
        for row in rows:
            shelf, parts, groups = shelves[row.kind]
            shelf.append(row.conversation)
            parts.append(PARTS.index(row.part))
            groups += row.group.encode().ljust(GROUP, b"\0")
        held = (cls(shelf, kind, np.array(parts), np.frombuffer(groups, f"S{GROUP}")) for kind, (shelf, parts, groups) in shelves.items())
        return reduce(add, held)

    def __add__(self, other: "Rows") -> "Rows":
        both = Rows.__new__(Rows)
        both._pieces = [*self._pieces, *other._pieces]
        return both

    def __len__(self) -> int:
        return sum(len(piece.talks) for piece in self._pieces)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        n = range(len(self))[at]
        begins = [0, *accumulate(len(piece.talks) for piece in self._pieces)]
        which = bisect_right(begins, n) - 1
        piece = self._pieces[which]
        return piece.row(n - begins[which], piece.talks[n - begins[which]])

    def __iter__(self) -> Iterator[Row]:
        for piece in self._pieces:
            yield from (piece.row(n, talk) for n, talk in enumerate(piece.talks))


def alike(keys: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """The positions, ascending, of each key that stands at least so many times; in the order of the keys."""
    order = np.argsort(keys, kind="stable")
    bounds = np.concatenate([[0], np.flatnonzero(keys[order[1:]] != keys[order[:-1]]) + 1, [len(order)]])
    return [order[bounds[n] : bounds[n + 1]] for n in np.flatnonzero(np.diff(bounds) >= least)]


def context(row: Conversation) -> str:
    """What the answer answers: all turns before it but the system's, folded."""
    return "\n".join(fold(m.content) for m in row.messages[:-1] if m.role != "system")
