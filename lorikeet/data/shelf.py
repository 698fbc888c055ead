"""Conversations in a file of their own, so that memory holds where each begins and no more, however many there are."""

import marshal
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from lorikeet.conversation import Conversation, Message, Source

IN_MEMORY = 1 << 24
"""Bytes that are kept in memory before the file is made."""
READ = 1 << 20
"""Bytes that are read together."""


class Shelf(Sequence[Conversation]):
    """Conversations in the order in which they were put there. The file is nameless and gone with the shelf."""

    def __init__(self, talks: Iterable[Conversation] = ()) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - it lives as long as the shelf
        weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])
        for talk in talks:
            self.append(talk)

    def append(self, talk: Conversation) -> None:
        packed = marshal.dumps((
            [(m.role, m.content) for m in talk.messages], (talk.source.file, talk.source.line, talk.source.counted),
            talk.topic, talk.category, talk.mode, talk.rejected, talk.liked,
        ))  # fmt: skip
        self._file.seek(self._ends[-1])
        self._file.write(packed)
        self._ends.append(self._ends[-1] + len(packed))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> Conversation: ...
    @overload
    def __getitem__(self, at: slice) -> list[Conversation]: ...
    def __getitem__(self, at: int | slice) -> Conversation | list[Conversation]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        n = range(len(self))[at]
        self._file.seek(self._ends[n])
        return _unpacked(self._file.read(self._ends[n + 1] - self._ends[n]))

    def __iter__(self) -> Iterator[Conversation]:
        """In order, READ bytes at a time; what is read or put there in between disturbs nothing."""
        at = 0
        while at < len(self):
            upto = at + 1
            while upto < len(self) and self._ends[upto + 1] - self._ends[at] <= READ:
                upto += 1
            self._file.seek(self._ends[at])
            block = memoryview(self._file.read(self._ends[upto] - self._ends[at]))
            for n in range(at, upto):
                yield _unpacked(block[self._ends[n] - self._ends[at] : self._ends[n + 1] - self._ends[at]])
            at = upto


def _unpacked(packed: bytes | memoryview) -> Conversation:
    turns, source, *rest = marshal.loads(packed)
    return Conversation(tuple(Message(*turn) for turn in turns), Source(*source), *rest)
