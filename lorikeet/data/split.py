"""Who learns from what: groups of rows with one answer, and splits by whole groups or by wordings of taught answers.

Seeded by content, so that rows appended later move the others as little as can be. By groups and out of scope they move
none, unless an appended row joins two groups into one, or brings a lower draw to a category so small that its lowest draw is
held out. By wordings a trained row stays trained once its answer has enough wordings; but held out are the two wordings with
the lowest draws, so an appended wording can displace a held-out one, which is then trained on: compare runs over one state
of the rows only.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lorikeet.conversation import Conversation
from lorikeet.data.similar import near_pairs
from lorikeet.scoring import fold

Part = Literal["train", "validation", "test"]
Kind = Literal["taught", "out-of-scope", "never-taught"]
ENOUGH_WORDINGS = 4
"""A group with fewer wordings is trained on whole: taking two away would leave too little to learn from."""
ENOUGH_GROUPS = 8
"""A category with fewer groups need not be held out: one to test and one to validate would be a large part of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation with its place in the split."""

    conversation: Conversation
    part: Part
    group: str
    kind: Kind


def groups_of(rows: Sequence[Conversation], near: Sequence[tuple[int, int]] = ()) -> list[str]:
    """A group name for each row. Rows with one answer, or one question, after folding, are in one group; so are the rows paired in `near`.

    A group is named after the answer of its first row, so that a row appended to it leaves its name alone.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for row in rows:
        parent[root("q:" + context(row))] = root("a:" + fold(row.answer))
    for one, other in near:
        parent[root("a:" + fold(rows[other].answer))] = root("a:" + fold(rows[one].answer))
    answers = ["a:" + fold(row.answer) for row in rows]
    first: dict[str, str] = {}
    for answer in answers:
        first.setdefault(root(answer), answer)
    return [hashlib.sha256(first[root(answer)].encode()).hexdigest()[:12] for answer in answers]


def _groups_with_near(rows: Sequence[Conversation]) -> list[str]:
    """The groups of the rows, near duplicates of a question joined."""
    return groups_of(rows, [(pair.first, pair.second) for pair in near_pairs(tuple(context(row) for row in rows))])


def context(row: Conversation) -> str:
    """What the answer answers: all turns before it but the system's, folded."""
    return "\n".join(fold(m.content) for m in row.messages[:-1] if m.role != "system")


def _draw(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and the words alone."""
    raw = hashlib.sha256("\x1f".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(raw[:8], "big") / 2**64


def by_groups(rows: Sequence[Conversation], seed: int, test_share: float) -> list[Row]:
    """Whole groups to test (test_share) and validation (half of it); the rest is trained on. Near duplicates of a question are of its group.

    Stratified by category: each with enough groups is tested and validated on. A group is of its first row's category.
    """
    names = _groups_with_near(rows)
    strata: dict[str, dict[str, float]] = defaultdict(dict)
    seen: set[str] = set()
    for row, name in zip(rows, names, strict=True):
        if name not in seen:
            seen.add(name)
            strata[row.category][name] = _draw(seed, "group", name)
    parts = {name: part for draws in strata.values() for name, part in _parts_of(draws, test_share).items()}
    return [Row(row, parts[name], name, "taught") for row, name in zip(rows, names, strict=True)]


def _parts_of(draws: Mapping[str, float], test_share: float) -> dict[str, Part]:
    """The part of each group of a stratum, by its draw; where none fell to a part and there are enough groups, the lowest draw left goes to it."""
    parts: dict[str, Part] = {name: "test" if draw < test_share else "validation" if draw < 1.5 * test_share else "train" for name, draw in draws.items()}
    wanted: tuple[Part, ...] = ("test", "validation") if test_share and len(draws) >= ENOUGH_GROUPS else ()
    for part in wanted:
        if part not in parts.values() and (left := [name for name in draws if parts[name] == "train"]):
            parts[min(left, key=lambda name: draws[name])] = part
    return parts


def given(rows: Sequence[Conversation], held_out: Sequence[Conversation], seed: int, test_share: float) -> list[Row]:
    """The split that a user made: `held_out` tests. Of the others whole groups validate, half of `test_share`; the rest is trained on.

    No held-out row shares a group with the others, so that the checks take what is alike in both for the leak that it is.
    """
    split: list[Row] = []
    for row, name in zip(rows, _groups_with_near(rows), strict=True):
        split.append(Row(row, "validation" if _draw(seed, "group", name) < test_share / 2 else "train", name, "taught"))
    return split + [Row(row, "test", f"test-{name}", "taught") for row, name in zip(held_out, groups_of(held_out), strict=True)]


def by_wordings(rows: Sequence[Conversation], seed: int) -> list[Row]:
    """Two wordings of every answer are held out: one validates, one tests. For a taught set only."""
    names = groups_of(rows)
    members: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        members[name].append(number)
    parts: list[Part] = ["train"] * len(rows)
    for numbers in members.values():
        different = {context(rows[n]): n for n in reversed(numbers)}
        if len(different) < ENOUGH_WORDINGS:
            continue
        order = sorted(different, key=lambda text: _draw(seed, "wording", text))
        held_out: tuple[Part, Part] = ("validation", "test")
        for text, part in zip(order, held_out, strict=False):
            for n in numbers:
                if context(rows[n]) == text:
                    parts[n] = part
    return [Row(row, part, name, "taught") for row, part, name in zip(rows, parts, names, strict=True)]


def openings_only(rows: Sequence[Row], whole: int, seed: int) -> set[int]:
    """Positions of the training rows that teach only how their answer begins: all but `whole` of each answer's wordings.

    In a taught set the wordings tell situations apart, and the first words of an answer are where that is learned; the rest
    of an answer is known after a few passes. An answer with very many wordings, as a refusal has, keeps a sixteenth of them
    whole: with fewer, its beginning is learned so much better than its end that the model goes on as it likes.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.part == "train":
            members[fold(row.conversation.answer)].append(number)
    cut: set[int] = set()
    for numbers in members.values():
        order = sorted(numbers, key=lambda n: _draw(seed, "whole", context(rows[n].conversation)))
        cut.update(order[max(whole, len(order) // 16) :])
    return cut


def is_taught_set(rows: Sequence[Conversation]) -> bool:
    """Whether at least half of the answers come in enough wordings for `by_wordings`."""
    counts: dict[str, set[str]] = defaultdict(set)
    for row, name in zip(rows, groups_of(rows), strict=True):
        counts[name].add(context(row))
    return sum(len(c) >= ENOUGH_WORDINGS for c in counts.values()) * 2 >= len(counts)


def out_of_scope(rows: Sequence[Conversation], seed: int) -> list[Row]:
    """A third of the out-of-scope questions, whole topics at a time, is held out for testing; the rest is trained on."""

    def part(row: Conversation) -> Part:
        return "test" if _draw(seed, "out-of-scope", row.topic or context(row)) < 1 / 3 else "train"

    return [Row(row, part(row), "out-of-scope", "out-of-scope") for row in rows]


def never_taught(rows: Sequence[Conversation]) -> list[Row]:
    """Situations held out whole."""
    names = groups_of(rows)
    return [Row(row, "test", name, "never-taught") for row, name in zip(rows, names, strict=True)]
