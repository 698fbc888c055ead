"""What is put on a shelf, or among rows, comes back as it was: by position, in order, and while more is put there."""

from dataclasses import replace

import pytest

from lorikeet.conversation import Conversation, Source, conversation
from lorikeet.data import shelf
from lorikeet.data.rows import KINDS, PARTS, Row, Rows
from lorikeet.data.shelf import Shelf


def talk(n: int, length: int = 1) -> Conversation:
    turns = [("system", "S"), ("user", f"q{n} \u00e9 \U0001f691"), ("assistant", "a" * length)]
    return conversation(turns, Source("rows.jsonl", n, "row"), topic=f"t{n}", category="c", mode="m")


TALKS = [talk(1), replace(talk(2), rejected="worse", liked=False), talk(3, 5000), talk(4), talk(5, 3)]


@pytest.mark.parametrize("read", [1, 6000, 1 << 20])
@pytest.mark.parametrize("in_memory", [1, 1 << 24])
def test_conversations_come_back_as_they_were(read: int, in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "READ", read)
    monkeypatch.setattr(shelf, "IN_MEMORY", in_memory)
    kept = Shelf(TALKS)
    assert list(kept) == TALKS
    assert [kept[n] for n in range(len(kept))] == TALKS
    assert (kept[-1], kept[1:4:2], len(kept)) == (TALKS[-1], TALKS[1:4:2], 5)
    with pytest.raises(IndexError):
        kept[5]


def test_what_is_read_and_put_there_while_it_is_gone_through_disturbs_nothing() -> None:
    kept = Shelf(TALKS)
    seen = []
    for one in kept:
        seen.append(one)
        assert kept[0] == TALKS[0]
        if len(seen) <= 2:
            kept.append(one)
    assert seen == [*TALKS, *TALKS[:2]]


def test_rows_come_back_in_the_order_of_their_kinds() -> None:
    rows = [Row(talk(n), PARTS[n % 3], f"group-{n}", KINDS[n % 3]) for n in range(12)]
    kept, ordered = Rows.of(rows), sorted(rows, key=lambda row: KINDS.index(row.kind))
    assert list(kept) == ordered
    assert [kept[n] for n in range(-12, 12)] == [*ordered, *ordered]
    assert len(Rows.of([])) == 0
