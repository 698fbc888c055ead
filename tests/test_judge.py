"""A judge is believed where it tells planted controls apart, asks nothing twice, and stops at its budget."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_endpoint import served

from lorikeet.engine.endpoint import EndpointEngine
from lorikeet.errors import ModelError, RefusedError
from lorikeet.judge import EVASION, PLATITUDE, Item, Judge

REFERENCES = {f"What is {n} plus {n}?": f"It is {2 * n}." for n in range(1, 13)}


def items(subject: str, answer: Callable[[int, str], str]) -> list[Item]:
    return [Item(subject, str(n), q, answer(n, r), r) for n, (q, r) in enumerate(REFERENCES.items())]


def between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0].strip()


def fair(text: str) -> str:
    """Knows the right answers; of two prefers the right one, else finds neither better."""
    right = REFERENCES[between(text, "Question:\n", "\n\n")]
    if "Second answer:" in text:
        first, second = between(text, "First answer:\n", "\n\nSecond"), between(text, "Second answer:\n", "\n\nReply")
        better = "neither" if (first == right) == (second == right) else "first" if first == right else "second"
        return f'{{"better": "{better}"}}'
    return f'{{"grade": {5 if between(text, "Answer to grade:" + chr(10), chr(10) * 2 + "Grades") == right else 1}}}'


def judge(url: str, cache: Path, budget: int | None = None) -> Judge:
    return Judge(EndpointEngine(url, "fake"), cache, budget, lambda done, total: None)


def test_a_fair_judge_is_believed_and_its_grades_are_told(tmp_path: Path) -> None:
    asked = [*items("base", lambda n, r: "I do not know."), *items("tuned", lambda n, r: r if n % 2 else "Perhaps.")]
    with served(fair) as (url, _):
        found = judge(url, tmp_path / "kept.jsonl").grade(asked, 7)
    assert found.controls.value == 1.0
    assert found.controls.n == 36
    (base,), (tuned,) = found.columns("base"), found.columns("tuned")
    assert base.measure("base", 1).value == 0.0
    assert tuned.measure("tuned", 1).value == 0.5
    assert "100% of 36 control pairs" in found.finding("fake").what


def test_it_never_sees_whose_answer_it_is_and_sees_them_mixed(tmp_path: Path) -> None:
    asked = [*items("base", lambda n, r: "B"), *items("tuned", lambda n, r: "T")]
    with served(fair) as (url, seen):
        judge(url, tmp_path / "kept.jsonl").grade(asked, 7)
    assert not any("base" in text or "tuned" in text for text in seen)
    order = [between(text, "Answer to grade:\n", "\n\nGrades") for text in seen]
    assert {EVASION, PLATITUDE} <= set(order)
    assert "T" in order[: order.index("B") + 12] and "B" in order[order.index("T") :]


@pytest.mark.parametrize("said", ['{"grade": 5}', '{"grade": 1}', "I like it."])
def test_one_that_cannot_tell_controls_apart_is_refused(said: str, tmp_path: Path) -> None:
    with served(lambda text: said) as (url, _), pytest.raises(RefusedError, match="cannot be believed"):
        judge(url, tmp_path / "kept.jsonl").grade(items("base", lambda n, r: "x"), 7)


def test_without_references_no_judge_is_believed(tmp_path: Path) -> None:
    bare = [i._replace(reference="") for i in items("base", lambda n, r: r)]
    with served(fair) as (url, _), pytest.raises(RefusedError, match="no question has a reference"):
        judge(url, tmp_path / "kept.jsonl").grade(bare, 7)


def test_rubbish_is_counted_and_left_out(tmp_path: Path) -> None:
    with served(lambda text: "Hm." if "strange" in text else fair(text)) as (url, _):
        found = judge(url, tmp_path / "kept.jsonl").grade(items("base", lambda n, r: "strange" if n == 3 else r), 7)
    assert found.unreadable == 1
    assert "3" not in found.grades["base"]
    assert "1 judgements could not be read" in found.finding("fake").what


def test_what_was_judged_is_not_asked_again(tmp_path: Path) -> None:
    asked = items("base", lambda n, r: r)
    with served(fair) as (url, seen):
        first = judge(url, tmp_path / "kept.jsonl").grade(asked, 7)
        often = len(seen)
        with (tmp_path / "kept.jsonl").open("a") as file:
            file.write('{"key": "cut o')
        assert judge(url, tmp_path / "kept.jsonl").grade(asked, 7) == first
        assert len(seen) == often


def test_a_spent_budget_is_an_error_and_the_next_try_goes_on(tmp_path: Path) -> None:
    asked = items("base", lambda n, r: r + "!")
    with served(fair) as (url, seen):
        with pytest.raises(ModelError, match=r"the judge has used 120 tokens, and 120 are allowed; 50 judgements are left"):
            judge(url, tmp_path / "kept.jsonl", budget=120).grade(asked, 7)
        assert len(seen) == 10
        judge(url, tmp_path / "kept.jsonl").grade(asked, 7)
        assert len(seen) == 60


def test_of_two_answers_the_one_that_wins_in_both_orders_is_better(tmp_path: Path) -> None:
    pairs = list(zip(items("a", lambda n, r: r), items("b", lambda n, r: "No." if n < 6 else r), strict=True))
    with served(fair) as (url, _):
        found, controls = judge(url, tmp_path / "kept.jsonl").prefer(pairs, 7)
    assert controls.value == 1.0
    assert [found[str(n)] for n in range(12)] == ["first"] * 6 + ["neither"] * 6


def test_one_that_always_likes_what_comes_first_is_refused(tmp_path: Path) -> None:
    pairs = list(zip(items("a", lambda n, r: r), items("b", lambda n, r: "No."), strict=True))
    with served(lambda text: '{"better": "first"}') as (url, _), pytest.raises(RefusedError, match="0% of 36"):
        judge(url, tmp_path / "kept.jsonl").prefer(pairs, 7)
