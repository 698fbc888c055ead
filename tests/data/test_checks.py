"""Checks on the rows: each finding has its code, says how many, and shows one."""

from pathlib import Path

from lorikeet.conversation import Source, conversation
from lorikeet.data.checks import FEW_ROWS, leaked_probes, run_checks
from lorikeet.data.split import Part, Row
from lorikeet.evidence import Finding
from lorikeet.suite import load_suite


def row(question: str, answer: str, part: Part = "train", line: int = 1, system: str = "") -> Row:
    turns = [("system", system)] if system else []
    return Row(conversation([*turns, ("user", question), ("assistant", answer)], Source("rows.jsonl", line)), part, "g", "taught")


def clean(count: int = FEW_ROWS) -> list[Row]:
    return [row(f"question {n}", f"answer {n}", line=n + 100) for n in range(count)]


def only(rows: list[Row]) -> Finding:
    (found,) = run_checks(rows)
    return found


def test_clean_rows_give_no_finding() -> None:
    assert run_checks([*clean(), row("other", "thing", "test")]) == []


def test_copies_are_counted_without_the_first() -> None:
    found = only([*clean(), row("Twice", "A", line=1), row("Twice", "A", line=2), row("Twice", "A", line=3)])
    assert (found.code, found.severity) == ("data.duplicate.exact", "warning")
    assert found.what.startswith("2 rows")
    assert found.rows == ("rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3")


def test_rows_that_differ_in_capitals_or_commas_are_no_copies() -> None:
    assert run_checks([*clean(), row("on monday", "On Monday"), row("On Monday", "On Monday"), row("On, Monday", "On Monday")]) == []


def test_one_answer_to_many_questions_is_no_copy() -> None:
    assert run_checks([*clean(), row("a", "same"), row("b", "same")]) == []


def test_two_answers_to_one_question_conflict() -> None:
    found = only([*clean(), row("Hot?", "Yes.", line=1), row("hot", "No.", line=2)])
    assert (found.code, found.severity, found.excerpt) == ("data.conflict", "warning", "Hot?")
    assert found.rows == ("rows.jsonl:1", "rows.jsonl:2")


def test_a_trained_question_among_the_held_out_is_an_error() -> None:
    found = run_checks([*clean(), row("Hot?", "Yes.", "train"), row("hot", "Yes.", "test", 9)])[0]
    assert (found.code, found.severity, found.rows) == ("data.leak.exact", "error", ("rows.jsonl:9",))


def test_a_leak_into_validation_is_an_error() -> None:
    assert run_checks([*clean(), row("Hot?", "Yes."), row("hot", "No.", "validation")])[0].code == "data.leak.exact"


def test_another_system_turn_does_not_hide_a_leak() -> None:
    assert run_checks([*clean(), row("Hot?", "Yes.", system="S"), row("hot", "No.", "test", system="T")])[0].code == "data.leak.exact"


def test_the_same_question_twice_among_the_held_out_is_no_leak() -> None:
    found = run_checks([*clean(), row("Hot?", "Yes.", "test"), row("Hot?", "Yes.", "validation")])
    assert "data.leak.exact" not in {f.code for f in found}


def test_only_rows_to_train_on_count_as_enough() -> None:
    found = only([*clean(FEW_ROWS - 1), row("held", "out", "test")])
    assert (found.code, found.what) == ("data.few", f"only {FEW_ROWS - 1} rows to train on")


def test_the_worst_stands_first() -> None:
    found = run_checks([row("Hot?", "Yes."), row("Hot?", "No."), row("Hot?", "Yes.", "test")])
    assert [f.severity for f in found] == ["error", "warning", "warning", "warning"]


def test_every_finding_has_a_cure() -> None:
    assert all(f.cure for f in run_checks([row("Hot?", "Yes."), row("Hot?", "No."), row("Hot?", "Yes.", "test")]))


def test_a_probe_of_the_suite_that_is_trained_on_is_an_error_with_both_places(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "name: s\nprobes:\n- id: p1\n  topic: t\n  question: Hot pan?\n  accepted: [Yes.]\n- id: p2\n  topic: t\n  question: hot OIL\n  accepted: [Yes.]\n"
    )
    suite = load_suite(path)
    (found,) = leaked_probes([*clean(), row("Hot oil!", "Yes.", "validation", 3)], suite, path)
    assert (found.severity, found.rows[0]) == ("error", "suite.yaml:7")
    assert found.rows[1].endswith(":3")
    assert leaked_probes([*clean(), row("Hot oil!", "Yes.", "test")], suite, path) == []
