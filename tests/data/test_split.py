"""Splits: no answer and no wording on both sides, and the same split every time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lorikeet.conversation import Conversation, Source, conversation
from lorikeet.data import split
from lorikeet.data.rows import Row
from lorikeet.data.split import ENOUGH_GROUPS, ENOUGH_WORDINGS, by_groups, by_wordings, is_taught_set, never_taught, out_of_scope
from lorikeet.scoring import fold


def row(question: str, answer: str, topic: str = "", system: str = "") -> Conversation:
    turns = [("system", system)] if system else []
    return conversation([*turns, ("user", question), ("assistant", answer)], Source("rows.jsonl", 1), topic)


def taught(answers: int, wordings: int) -> list[Conversation]:
    return [row(f"wording {w} of {a}", f"answer {a}") for a in range(answers) for w in range(wordings)]


def groups_of(rows: Sequence[Conversation]) -> list[bytes]:
    return list(split.groups_of(rows))


def parts(rows: Sequence[Row]) -> dict[str, str]:
    return {r.conversation.question: r.part for r in rows}


@pytest.mark.parametrize(("first", "second"), [("Stop!", "stop"), ("a  b", "A, b."), ("STRASSE", "straße"), ("Да", "да!")])
def test_folding_takes_case_punctuation_and_spacing_away(first: str, second: str) -> None:
    assert fold(first) == fold(second)


@pytest.mark.parametrize(("first", "second"), [("ab", "a b"), ("10 mg", "100 mg"), ("?", "!"), ("火", "水")])
def test_folding_keeps_what_differs_apart(first: str, second: str) -> None:
    assert fold(first) != fold(second)


@pytest.mark.parametrize(("first", "second"), [("कि", "की"), ("กี่", "กู่")])
def test_folding_keeps_vowel_signs(first: str, second: str) -> None:
    assert fold(first) != fold(second)


def test_every_category_with_enough_groups_is_tested_and_validated_on() -> None:
    rows = [replace(row(f"q{c} {n}", f"a{c} {n}"), category=f"c{c}") for c in range(30) for n in range(ENOUGH_GROUPS)]
    halves = by_groups(rows, 7, 0.1)
    held_out = {part: {r.conversation.category for r in halves if r.part == part} for part in ("train", "validation", "test")}
    assert held_out["test"] == held_out["validation"] == held_out["train"] == {f"c{c}" for c in range(30)}
    without = [replace(r, category="") for r in rows]
    assert len({r.conversation.answer[:4] for r in by_groups(without, 7, 0.1) if r.part == "test"}) < 30, "the draws alone leave categories out"


def test_a_small_category_need_not_be_held_out_and_no_share_holds_nothing_out() -> None:
    rows = [replace(row(f"q{n}", f"a{n}"), category="c") for n in range(ENOUGH_GROUPS - 1)]
    assert {r.part for r in by_groups(rows, 7, 1e-9)} == {"train"}
    assert {r.part for r in by_groups([*rows, *rows], 7, 0.0)} == {"train"}


def test_rows_with_one_answer_are_one_group() -> None:
    a, b, c = groups_of([row("q1", "Cool it."), row("q2", "cool it"), row("q3", "Cover it.")])
    assert a == b != c


def test_rows_with_one_question_are_one_group() -> None:
    a, b = groups_of([row("What now?", "Cool it."), row("what now", "Cover it.")])
    assert a == b


def test_groups_join_over_a_chain_in_any_order() -> None:
    chain = [row("q1", "a1"), row("q2", "a1"), row("q2", "a2"), row("q3", "a2")]
    assert len(set(groups_of(chain))) == 1
    assert len(set(groups_of([chain[3], chain[0], chain[2], chain[1]]))) == 1


def test_a_system_turn_makes_no_difference_to_a_group() -> None:
    a, b = groups_of([row("q", "a1", system="S"), row("q", "a2")])
    assert a == b


def test_the_same_last_question_in_another_talk_is_another_question() -> None:
    longer = conversation([("user", "x"), ("assistant", "y"), ("user", "q"), ("assistant", "a1")], Source("f", 1))
    a, b = groups_of([longer, row("q", "a2")])
    assert a != b


def test_no_group_stands_on_two_sides() -> None:
    sides: dict[str, set[str]] = {}
    for r in by_groups(taught(60, 3), 7, 0.2):
        sides.setdefault(r.group, set()).add(r.part)
    assert all(len(s) == 1 for s in sides.values())


def test_shares_are_about_what_was_asked_for() -> None:
    count = Counter(r.part for r in by_groups(taught(1000, 1), 7, 0.2))
    assert (count["test"], count["validation"]) == (pytest.approx(200, abs=50), pytest.approx(100, abs=40))


def test_a_halvesby_groups_is_the_same_again_and_another_under_another_seed() -> None:
    rows = taught(60, 1)
    assert list(by_groups(rows, 7, 0.2)) == list(by_groups(rows, 7, 0.2))
    assert parts(by_groups(rows, 7, 0.2)) != parts(by_groups(rows, 8, 0.2))


def test_the_order_of_rows_does_not_move_them() -> None:
    rows = taught(60, 1)
    assert parts(by_groups(rows, 7, 0.2)) == parts(by_groups(rows[::-1], 7, 0.2))


def test_rows_appended_with_answers_of_their_own_do_not_move_the_others() -> None:
    before = parts(by_groups(taught(40, 2), 7, 0.2))
    after = parts(by_groups(taught(60, 2), 7, 0.2))
    assert before.items() <= after.items()


def test_a_row_appended_to_a_group_does_not_rename_it() -> None:
    rows = [row("q1", "a1"), row("q2", "a1")]
    assert groups_of([*rows, row("q1", "a2")])[:2] == groups_of(rows)
    assert groups_of([*rows, row("q1", "a0")])[:2] == groups_of(rows)


def test_a_row_that_joins_two_groups_moves_only_the_later_one() -> None:
    rows = [row("q1", "a2"), row("q2", "a1")]
    assert groups_of([*rows, row("q1", "a1")]) == [groups_of(rows)[0]] * 3


def test_rows_appended_to_groups_by_a_second_answer_do_not_move_the_others() -> None:
    rows = taught(60, 2)
    more = [row(f"wording 0 of {a}", f"0 another answer {a}") for a in range(60)]
    assert parts(by_groups(rows, 7, 0.2)).items() <= parts(by_groups(rows + more, 7, 0.2)).items()


def test_two_wordings_of_every_answer_are_held_out() -> None:
    for a in range(12):
        found = Counter(r.part for r in by_wordings(taught(12, 6), 7) if r.conversation.answer == f"answer {a}")
        assert found == {"train": 4, "validation": 1, "test": 1}


def test_an_answer_in_too_few_wordings_is_trained_on_whole() -> None:
    assert {r.part for r in by_wordings(taught(5, ENOUGH_WORDINGS - 1), 7)} == {"train"}


def test_copies_of_a_wording_do_not_make_it_enough() -> None:
    rows = [*taught(1, ENOUGH_WORDINGS - 1), row("WORDING 0 of 0!", "answer 0")]
    assert {r.part for r in by_wordings(rows, 7)} == {"train"}


def test_copies_of_a_held_out_wording_are_held_out_with_it() -> None:
    rows = taught(8, 5)
    copies = [row(r.question.upper() + "?", r.answer) for r in rows]
    sides: dict[str, set[str]] = {}
    for r in by_wordings(rows + copies, 7):
        sides.setdefault(fold(r.conversation.question), set()).add(r.part)
    assert all(len(s) == 1 for s in sides.values())


def test_wordings_appended_never_move_a_trained_row_out() -> None:
    before = parts(by_wordings(taught(20, 6), 7))
    after = parts(by_wordings(taught(20, 6) + [row(f"new {a}", f"answer {a}") for a in range(20)], 7))
    assert all(after[question] == "train" for question, part in before.items() if part == "train")


def test_a_wording_appended_can_displace_a_held_out_one() -> None:
    """What the module says of itself: the two lowest draws are held out, whichever they are."""
    before = parts(by_wordings(taught(20, 6), 7))
    after = parts(by_wordings(taught(20, 6) + [row(f"new {a}", f"answer {a}") for a in range(20)], 7))
    assert any(after[question] == "train" for question, part in before.items() if part != "train")
    assert Counter(part for part in after.values()) == {"train": 100, "validation": 20, "test": 20}


def test_a_halvesby_wordings_is_another_under_another_seed() -> None:
    assert parts(by_wordings(taught(12, 6), 7)) != parts(by_wordings(taught(12, 6), 8))


@pytest.mark.parametrize(("rows", "enough"), [(taught(4, 4), True), (taught(4, 3), False), ([*taught(2, 4), row("x", "y"), row("z", "w")], True)])
def test_a_taught_set_has_enough_wordings_of_half_its_answers(rows: list[Conversation], enough: bool) -> None:
    assert is_taught_set(rows) is enough


def test_out_of_scope_topics_are_held_out_whole() -> None:
    rows = [row(f"q{t}-{n}", "not taught", topic=f"t{t}") for t in range(30) for n in range(3)]
    sides: dict[str, set[str]] = {}
    for r in out_of_scope(rows, 7):
        sides.setdefault(r.conversation.topic, set()).add(r.part)
    assert all(len(s) == 1 for s in sides.values())
    assert 4 <= sum(s == {"test"} for s in sides.values()) <= 16


def test_out_of_scope_rows_are_marked_so() -> None:
    assert {r.kind for r in out_of_scope([row("q", "a")], 7)} == {"out-of-scope"}


def test_what_is_never_taught_is_all_held_out() -> None:
    assert {(r.part, r.kind) for r in never_taught(taught(5, 5))} == {("test", "never-taught")}


def test_a_few_wordings_teach_the_whole_answer_and_the_others_how_it_begins() -> None:
    talks = [conversation([("user", f"wording {n} of {a}"), ("assistant", a)], Source("t", n)) for a in ("alpha", "beta") for n in range(20)]
    rows = split.by_wordings(talks, seed=1)
    cut = split.openings_only(rows, whole=5, seed=1)
    whole = [row for n, row in enumerate(rows) if row.part == "train" and n not in cut]
    assert sorted(row.conversation.answer for row in whole) == ["alpha"] * 5 + ["beta"] * 5
    assert all(rows[n].part == "train" for n in cut)


def test_an_answer_of_very_many_wordings_keeps_a_sixteenth_of_them_whole() -> None:
    talks = [conversation([("user", f"wording {n}"), ("assistant", "not taught")], Source("t", n)) for n in range(320)]
    cut = split.openings_only([split.Row(talk, "train", "g", "out-of-scope") for talk in talks], whole=5, seed=1)
    assert len(talks) - len(cut) == 20
