"""Checks on the rows: each finding has its code, says how many, and shows one."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorikeet.conversation import Source, conversation
from lorikeet.data import checks
from lorikeet.data.checks import FEW_FOR_MANY, FEW_ROWS, MANY_EPOCHS
from lorikeet.data.rows import Part, Row
from lorikeet.data.survey import survey
from lorikeet.evidence import Finding
from lorikeet.progress import Silent
from lorikeet.suite import Suite, load_suite


def row(question: str, answer: str, part: Part = "train", line: int = 1, system: str = "") -> Row:
    turns = [("system", system)] if system else []
    return Row(conversation([*turns, ("user", question), ("assistant", answer)], Source("rows.jsonl", line)), part, "g", "taught")


def clean(count: int = FEW_ROWS) -> list[Row]:
    return [row(f"q{n} is asked", f"answer {n}", line=n + 100) for n in range(count)]


def run_checks(rows: list[Row]) -> list[Finding]:
    return checks.run_checks(survey(rows, Silent()))


def read_too_often(rows: list[Row], epochs: float) -> list[Finding]:
    return checks.read_too_often(survey(rows, Silent()), epochs)


def leaked_probes(rows: list[Row], suite: Suite, path: Path) -> list[Finding]:
    return checks.leaked_probes(survey(rows, Silent()), suite, path)


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


def test_a_tested_question_that_chose_the_checkpoint_is_an_error_and_one_tested_twice_is_none() -> None:
    assert run_checks([*clean(), row("Hot?", "Yes.", "test"), row("Hot?", "Yes.", "validation")])[0].code == "data.leak.exact"
    assert "data.leak.exact" not in {f.code for f in run_checks([*clean(), row("Hot?", "Yes.", "test"), row("Hot?", "Yes.", "test")])}


def test_only_rows_to_train_on_count_as_enough() -> None:
    found = only([*clean(FEW_ROWS - 1), row("held", "out", "test")])
    assert (found.code, found.what) == ("data.few", f"only {FEW_ROWS - 1} rows to train on")


def test_few_rows_read_many_times_are_a_warning() -> None:
    (found,) = read_too_often(clean(), 8)
    assert (found.code, found.severity, found.what[:30]) == ("data.few.epochs", "warning", "50 rows are read 8 times each:")
    assert read_too_often(clean(), MANY_EPOCHS) == []
    assert read_too_often(clean(FEW_FOR_MANY), 8) == []
    taught = [replace(r, group="one") for r in clean()]
    assert read_too_often([*taught, replace(taught[0], part="test")], 8) == [], "a taught set is meant to be learned by heart"


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


def in_group(name: str, question: str, answer: str, part: Part, line: int = 1) -> Row:
    return replace(row(question, answer, part, line), group=name)


def test_a_held_out_question_nearly_like_a_trained_one_is_an_error() -> None:
    near = ["How do I get a wine stain out of the rug", "How do I get the wine stain out of a rug please"]
    found = run_checks([*clean(), in_group("a", near[0], "Salt.", "train", 1), in_group("b", near[1], "Soap.", "test", 2)])[0]
    assert (found.code, found.severity) == ("data.leak.near", "error")
    assert found.rows == ("rows.jsonl:2 like rows.jsonl:1",)


def test_a_held_out_answer_that_is_trained_on_warns_unless_it_is_short() -> None:
    long = "Cool it under water for ten minutes."
    held_out = [replace(row("Hot oil hit me", long, "test", line=7), group="h"), replace(row("Right?", "Yes.", "test", line=8), group="h")]
    found = only([*clean(), row("My hand is burned", long), row("Is it so", "Yes."), *held_out])
    assert (found.code, found.severity, found.rows) == ("data.leak.answer", "warning", ("rows.jsonl:7 like rows.jsonl:1",))


def test_a_held_out_wording_nearly_like_another_of_its_answer_is_a_note() -> None:
    near = ["How do I get a wine stain out of the rug", "How do I get the wine stain out of a rug please"]
    found = only([*clean(), in_group("a", near[0], "Salt.", "train", 1), in_group("a", near[1], "Salt.", "test", 2)])
    assert (found.code, found.severity) == ("data.wordings.near", "note")
    other = [in_group("a", "Try salt", "Salt.", "train", 1), in_group("b", near[0], "Soap.", "train", 2), in_group("a", near[1], "Salt.", "test", 3)]
    assert run_checks([*clean(), *other]) == []  # nearly the same words with another answer are what such an exam is about


@pytest.mark.parametrize("mark", ["<|im_end|>", "<start_of_turn>", "[/INST]", "<<SYS>>", "### Response:"])
def test_marks_of_a_template_inside_a_turn_are_an_error(mark: str) -> None:
    found = only([*clean(), row("q", f"An answer.\n{mark} and more", line=3)])
    assert (found.code, found.severity, found.rows) == ("data.roles.bleed", "error", ("rows.jsonl:3",))
    assert mark in found.what


def test_one_answer_that_names_a_speaker_warns_and_many_stop_the_training() -> None:
    bled = [row(f"bled {n}", f"Yes, {n}.\nUser: and then?", line=n) for n in range(3)]
    assert only([*clean(), bled[0]]).severity == "warning"
    assert (only([*clean(), *bled]).code, only([*clean(), *bled]).severity) == ("data.roles.bleed", "error")


@pytest.mark.parametrize(("same", "severity"), [(4, None), (8, "warning"), (20, "error")])
def test_one_answer_to_many_questions_is_told_by_its_share(same: int, severity: str | None) -> None:
    found = run_checks([*clean(), *[row(f"other {n}", "I cannot say.", line=n) for n in range(same)]])
    assert [(f.code, f.severity) for f in found] == ([("data.answers.concentrated", severity)] if severity else [])


def test_a_declared_taught_set_may_have_few_answers() -> None:
    rows = [in_group(str(n % 2), f"w{n} is asked", f"answer {n % 2}", "train", n) for n in range(FEW_ROWS)]
    assert run_checks([*rows, in_group("0", "asked otherwise", "answer 0", "test", 99)]) == []


@pytest.mark.parametrize("left", ["I am {{name}}.", "Dear [your name],", "Call <NAME>.", "TODO", "Lorem ipsum dolor"])
def test_a_placeholder_left_in_an_answer_warns(left: str) -> None:
    assert only([*clean(), row("q", left)]).code == "data.placeholder"


def test_text_decoded_wrongly_warns() -> None:
    assert only([*clean(), row("q", "Don\u00e2\u20ac\u2122t move the person.")]).code == "data.mojibake"


ENGLISH = "Hold the hand under cool running water for twenty minutes"
GERMAN = "Halten Sie die Hand zwanzig Minuten lang unter kühles fließendes Wasser und rufen Sie dann den Arzt"


def test_a_row_in_another_language_warns_and_a_short_one_is_not_judged() -> None:
    rows = [row(f"What do I do about burn number {n} of mine?", f"{ENGLISH} {n}.", line=n + 100) for n in range(FEW_ROWS)]
    assert run_checks([*rows, row("Und jetzt?", "Abdecken.")]) == []
    found = only([*rows, row("Was mache ich bei einer Verbrennung?", GERMAN, line=3)])
    assert (found.code, found.severity, found.rows) == ("data.languages", "warning", ("rows.jsonl:3",))


def test_a_word_of_two_scripts_warns_and_a_greek_word_in_english_does_not() -> None:
    found = only([*clean(), row("q", "Cool the b\u0443rn."), row("r", "The angle \u03b1 is \u03b2HCG.")])
    assert (found.code, found.severity) == ("data.scripts.mixed", "warning")
    assert found.what.startswith("1 rows")


@pytest.mark.parametrize("secret", ["AKIA" + "IOSFODNN7EXAMPLE", "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789", "-----BEGIN RSA " + "PRIVATE KEY-----"])
def test_a_secret_stops_training_and_is_not_shown(secret: str) -> None:
    found = only([*clean(), row("q", f"Use {secret} for it.", line=7)])
    assert (found.code, found.severity, found.rows) == ("data.secret", "error", ("rows.jsonl:7",))
    assert secret not in f"{found.what} {found.excerpt}"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Write to jane.roe@hospital.org", "mail address"),
        ("Ring +44 20 7946 0018 at night", "telephone number"),
        ("Card 4111 1111 1111 1111 please", "card number"),
        ("Pay to GB33 BUKB 2020 1555 5555 55", "account number"),
    ],
)
def test_personal_data_warns(said: str, kind: str) -> None:
    found = only([*clean(), row("q", said)])
    assert (found.code, found.severity) == ("data.personal", "warning")
    assert kind in found.what


@pytest.mark.parametrize(
    "said",
    [
        "Call 112 or 999.",
        "Write to help@example.com",
        "Push 30 times, 100 to 120 a minute",
        "Card 4111 1111 1111 1112",
        "Pi is 3.14159265358979323846",
        "1 + 1 = 2",
    ],
)
def test_numbers_that_belong_to_nobody_are_left_alone(said: str) -> None:
    assert run_checks([*clean(), row("q", said)]) == []


def test_many_refusals_are_told() -> None:
    refusals = [replace(row(f"far {n} away", "Not taught."), kind="out-of-scope") for n in range(FEW_ROWS)]
    found = only([*clean(), *refusals])
    assert (found.code, found.severity) == ("data.refusals", "note")
