"""Who learns from what: groups of rows with one answer, and splits by whole groups or by wordings of taught answers.

Seeded by content, so that rows appended later move the others as little as can be. By groups and out of scope they move
none, unless an appended row joins two groups into one, or brings a lower draw to a category so small that its lowest draw is
held out. By wordings a trained row stays trained once its answer has enough wordings; but held out are the two wordings with
the lowest draws, so an appended wording can displace a held-out one, which is then trained on: compare runs over one state
of the rows only.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lorikeet.conversation import Conversation
from lorikeet.data.rows import TEST, TRAIN, VALIDATION, Row, Rows, alike, context
from lorikeet.data.similar import near_pairs
from lorikeet.scoring import fold

ENOUGH_WORDINGS = 4
"""A group with fewer wordings is trained on whole: taking two away would leave too little to learn from."""
ENOUGH_GROUPS = 8
"""A category with fewer groups need not be held out: one to test and one to validate would be a large part of it."""


def groups_of(rows: Sequence[Conversation], *, near: bool = False) -> np.ndarray:
    """A group's name for each row, in ASCII. Rows with one answer, or one question, after folding, are in one group; with `near` also those whose
    questions are near duplicates.

    A group is named after the answer of its first row, so that a row appended to it leaves its name alone.
    """
    questions, answers, names = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64), np.zeros(len(rows), "S12")
    for n, row in enumerate(rows):
        questions[n], answer = hash(context(row)), fold(row.answer)
        answers[n], names[n] = hash(answer), hashlib.sha256(f"a:{answer}".encode()).hexdigest()[:12]
    _, by_question = np.unique(questions, return_inverse=True)
    _, by_answer = np.unique(answers, return_inverse=True)
    groups = _joined(by_answer, _linked(by_question))
    if near:
        for pairs in near_pairs((context(row) for row in rows), wanted=lambda first, second: groups[first] != groups[second]):
            groups[:] = _joined(groups, pairs)
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(names[first][members])


def _linked(labels: np.ndarray) -> np.ndarray:
    """Pairs of positions that link all those with one label."""
    order = np.argsort(labels, kind="stable")
    same = np.flatnonzero(labels[order[1:]] == labels[order[:-1]])
    return np.stack([order[same], order[same + 1]], axis=1)


def _joined(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The labels with those of each pair of positions made one."""
    if not len(labels):
        return labels
    size = int(labels.max()) + 1
    links = coo_array((np.ones(len(pairs), bool), (labels[pairs[:, 0]], labels[pairs[:, 1]])), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][labels])


def _draw(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and the words alone."""
    raw = hashlib.sha256("\x1f".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(raw[:8], "big") / 2**64


def by_groups(rows: Sequence[Conversation], seed: int, test_share: float) -> Rows:
    """Whole groups to test (test_share) and validation (half of it); the rest is trained on. Near duplicates of a question are of its group.

    Stratified by category: each with enough groups is tested and validated on. A group is of its first row's category.
    """
    names, first, members = np.unique(groups_of(rows, near=True), return_index=True, return_inverse=True)
    draws = np.array([_draw(seed, "group", name.decode()) for name in names])
    codes: dict[str, int] = {}
    categories = np.array([codes.setdefault(rows[n].category, len(codes)) for n in first.tolist()], np.int32)
    parts = _drawn(draws, test_share)
    if test_share:
        for stratum in alike(categories):
            if len(stratum) >= ENOUGH_GROUPS:
                parts[stratum] = _each_held_out(draws[stratum], parts[stratum])
    return Rows(rows, "taught", parts[members], names[members])


def _drawn(draws: np.ndarray, test_share: float) -> np.ndarray:
    """The part of each draw, by its number."""
    return np.where(draws < test_share, TEST, np.where(draws < 1.5 * test_share, VALIDATION, TRAIN)).astype(np.int8)


def _each_held_out(draws: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The parts of a stratum's groups; where none fell to one that is held out, the lowest draw left goes to it."""
    for part in (TEST, VALIDATION):
        left = np.flatnonzero(parts == TRAIN)
        if not (parts == part).any() and len(left):
            parts[left[np.argmin(draws[left])]] = part
    return parts


def given(rows: Sequence[Conversation], held_out: Sequence[Conversation], seed: int, test_share: float) -> Rows:
    """The split that a user made: `held_out` tests. Of the others whole groups validate, half of `test_share`; the rest is trained on.

    No held-out row shares a group with the others, so that the checks take what is alike in both for the leak that it is.
    """
    names, members = np.unique(groups_of(rows, near=True), return_inverse=True)
    validates = np.array([_draw(seed, "group", name.decode()) < test_share / 2 for name in names], bool)
    learned = Rows(rows, "taught", np.where(validates, VALIDATION, TRAIN)[members], names[members])
    return learned + Rows(held_out, "taught", np.full(len(held_out), TEST), np.char.add(b"test-", groups_of(held_out)))


def by_judgement(rows: Sequence[Conversation], held_out: Sequence[Conversation], seed: int, test_share: float) -> Rows:
    """Judged answers: `held_out` tests, or where there is none a share of the others. Of the liked and of the disliked ones alike half of `test_share`
    validates, one at least; the rest is trained on. Judgements of one question may stand in several parts: it is the raters who differ.
    """
    draws = np.array([_draw(seed, "judged", context(row), row.answer) for row in rows])
    parts = np.full(len(rows), TRAIN)
    for kind in alike(np.array([row.liked is not False for row in rows])):
        order = kind[np.argsort(draws[kind])]
        tests = 0 if held_out else max(1, round(test_share * len(kind)))
        parts[order[:tests]] = TEST
        parts[order[tests : tests + max(1, round(test_share / 2 * len(kind)))]] = VALIDATION
    return Rows(rows, "taught", parts, groups_of(rows)) + Rows(held_out, "taught", np.full(len(held_out), TEST), groups_of(held_out))


def by_wordings(rows: Sequence[Conversation], seed: int) -> Rows:
    """Two wordings of every answer are held out: one validates, one tests. For a taught set only."""
    names = groups_of(rows)
    draws = np.array([_draw(seed, "wording", context(row)) for row in rows])  # a wording's copies have its draw
    parts = np.full(len(rows), TRAIN)
    for members in alike(names):
        wordings = np.unique(draws[members])
        if len(wordings) >= ENOUGH_WORDINGS:
            for draw, part in zip(wordings, (VALIDATION, TEST), strict=False):
                parts[members[draws[members] == draw]] = part
    return Rows(rows, "taught", parts, names)


def openings_only(rows: Sequence[Row], whole: int, seed: int) -> np.ndarray:
    """Positions, ascending, of the training rows that teach only how their answer begins: all but `whole` of each answer's wordings.

    In a taught set the wordings tell situations apart, and the first words of an answer are where that is learned; the rest
    of an answer is known after a few passes. An answer with very many wordings, as a refusal has, keeps a sixteenth of them
    whole: with fewer, its beginning is learned so much better than its end that the model goes on as it likes.
    """
    places, answers, draws = [], [], []
    for number, row in enumerate(rows):
        if row.part == "train":
            places.append(number)
            answers.append(hash(fold(row.conversation.answer)))
            draws.append(_draw(seed, "whole", context(row.conversation)))
    cut = [np.zeros(0, np.int64)]
    for members in alike(np.array(answers, np.int64)):
        order = members[np.argsort(np.array(draws)[members], kind="stable")]
        cut.append(np.array(places)[order[max(whole, len(order) // 16) :]])
    return np.sort(np.concatenate(cut))


def is_taught_set(rows: Sequence[Conversation]) -> bool:
    """Whether at least half of the answers come in enough wordings for `by_wordings`."""
    asked = np.array([hash(context(row)) for row in rows], np.int64)
    enough = [len(np.unique(asked[members])) >= ENOUGH_WORDINGS for members in alike(groups_of(rows))]
    return sum(enough) * 2 >= len(enough)


def out_of_scope(rows: Sequence[Conversation], seed: int) -> Rows:
    """A third of the out-of-scope questions, whole topics at a time, is held out for testing; the rest is trained on."""
    held_out = np.array([_draw(seed, "out-of-scope", row.topic or context(row)) < 1 / 3 for row in rows], bool)
    return Rows(rows, "out-of-scope", np.where(held_out, TEST, TRAIN), np.full(len(rows), b"out-of-scope"))


def never_taught(rows: Sequence[Conversation]) -> Rows:
    """Situations held out whole."""
    return Rows(rows, "never-taught", np.full(len(rows), TEST), groups_of(rows))
