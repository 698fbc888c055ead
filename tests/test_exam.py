"""Exams: every answer is kept, scored by the rules of its set, and counted apart from the other set."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorikeet import exam
from lorikeet.conversation import Message
from lorikeet.engine import Sampling
from lorikeet.engine.scripted import ScriptedEngine
from lorikeet.errors import DataError
from lorikeet.exam import Answer, HeldOut, Question, Set
from lorikeet.progress import Silent
from lorikeet.suite import Persona, Probe, Rules, Suite

RULES = Rules(hazard="h", source="s", must_say=[["cool"]], must_never=["butter"])
SUITE = Suite(
    name="burns",
    not_taught=["not taught"],
    rules={"burn": RULES},
    probes=[Probe(id="p1", topic="burn", question="I burned my hand"), Probe(id="p2", topic="burn", question="Hot oil!")],
)
TAUGHT = {"Cool the burn under running water.": ("burn",), "Press on the wound with a clean cloth.": ("cut", "graze")}


def question(text: str, which: Set = "taught", topic: str = "burn") -> Question:
    return Question(text, which, topic, (Message("user", text),), "expected")


def held_out(text: str, part: str = "test", kind: str = "taught", topic: str = "burn", answer: str = "Cool it.") -> HeldOut:
    return HeldOut((Message("user", text), Message("assistant", answer)), part, "g", f"rows.jsonl:{text}", topic, kind)


def answers(questions: list[Question], replies: dict[str, str], max_tokens: int = 64) -> list[Answer]:
    return exam.ask(ScriptedEngine(replies), "Q8_0", questions, Sampling(max_tokens=max_tokens), SUITE, TAUGHT, Silent())


class Backwards(ScriptedEngine):
    """Finishes the last question first, as engines with many slots may."""

    def replies(self, prompts, sampling):  # type: ignore[no-untyped-def]
        yield from reversed(list(super().replies(prompts, sampling)))


def test_answers_stand_in_the_order_of_their_questions() -> None:
    questions = [question("a"), question("b"), question("c")]
    found = exam.ask(Backwards({"a": "one", "b": "two", "c": "three"}), "x", questions, Sampling(), SUITE, TAUGHT, Silent())
    assert [(a.question, a.reply) for a in found] == [("a", "one"), ("b", "two"), ("c", "three")]


@pytest.mark.parametrize(
    ("reply", "outcome", "detail"),
    [
        ("Cool it.", "pass", ""),
        ("Wait.", "miss", "cool"),
        ("Cool it. Use butter.", "violation", "butter"),
        ("I was not taught that.", "declined", ""),
        ("", "unreadable", ""),
    ],
)
def test_a_taught_answer_is_judged_by_its_topics_rules(reply: str, outcome: str, detail: str) -> None:
    (found,) = answers([question("q")], {"q": reply})
    assert (found.outcome, found.detail) == (outcome, detail)


def test_an_answer_on_a_topic_without_rules_is_not_judged() -> None:
    (found,) = answers([question("q", topic="cut")], {"q": "Use butter."})
    assert found.outcome == ""


def test_on_what_was_never_taught_only_saying_so_declines() -> None:
    first, second = answers([question("a", "never"), question("b", "never")], {"a": "I was not taught that.", "b": "Use butter."})
    assert (first.outcome, second.outcome) == ("declined", "answered")


def test_a_reply_that_is_a_taught_answer_in_substance_names_its_topic() -> None:
    (found,) = answers([question("q", "never")], {"q": "Press the wound with a clean cloth"})
    assert found.resembles == "cut"


@pytest.mark.parametrize(("topic", "resembles"), [("graze", "graze"), ("cut", "cut"), ("burn", "cut")])
def test_a_reply_shared_by_topics_resembles_the_questions_own_if_it_is_one_of_them(topic: str, resembles: str) -> None:
    assert exam.resembled("Press on the wound with a clean cloth.", TAUGHT, topic) == resembles


def test_a_reply_of_its_own_resembles_nothing() -> None:
    (found,) = answers([question("q", "never")], {"q": "A clean cloth is what the doctor ordered for wine stains."})
    assert found.resembles == ""


def test_a_reply_cut_at_the_cap_did_not_end() -> None:
    (found,) = answers([question("q")], {"q": "Cool it well."}, max_tokens=2)
    assert (found.ended, found.reply) == (False, "Cool it")


def test_a_sick_reply_is_named() -> None:
    (found,) = answers([question("q")], {"q": "Cool<|im_end|>"})
    assert found.sick.startswith("template fragment")


def test_answers_read_back_as_they_were_written(tmp_path: Path) -> None:
    found = answers([question("q"), question("r", "never")], {"q": "Cool it.", "r": "Ça va\u2028bien"})
    exam.write_answers(tmp_path / "answers.jsonl", found)
    assert exam.read_answers(tmp_path / "answers.jsonl") == found


def test_questions_are_held_out_ones_of_their_set_only() -> None:
    rows = [held_out("t"), held_out("train", "train"), held_out("val", "validation"), held_out("n", kind="never-taught"), held_out("o", kind="out-of-scope")]
    rows.append(replace(held_out("m", kind="out-of-scope"), category="near-miss"))
    assert [q.text for q in exam.held_out_questions(rows, "near", 9)] == ["m"]
    assert [q.text for q in exam.held_out_questions(rows, "taught", 9)] == ["t"]
    assert [q.text for q in exam.held_out_questions(rows, "never", 9)] == ["n"]
    assert [q.text for q in exam.held_out_questions(rows, "outside", 9)] == ["o"]


def test_no_question_of_an_empty_set_is_asked() -> None:
    assert exam.held_out_questions([], "outside", 9) == []
    assert exam.evenly([], 0) == []


def test_a_question_does_not_hold_its_answer() -> None:
    (found,) = exam.held_out_questions([held_out("t")], "taught", 1)
    assert (found.messages, found.expected) == ((Message("user", "t"),), "Cool it.")


@pytest.mark.parametrize("count", [1, 3, 7, 10])
def test_questions_are_spread_over_the_whole_set_and_never_twice(count: int) -> None:
    rows = [held_out(str(n)) for n in range(10)]
    found = [int(q.text) for q in exam.held_out_questions(rows, "taught", count)]
    assert len(set(found)) == len(found) == count
    assert found == sorted(found)
    assert max(found) >= 10 - 10 / count - 1


def test_a_small_set_is_asked_whole() -> None:
    assert len(exam.held_out_questions([held_out("a"), held_out("b")], "taught", 64)) == 2


def test_probes_that_were_trained_on_are_refused() -> None:
    with pytest.raises(DataError, match="1 probes of burns stand in the training rows, 'p2' for one"):
        exam.suite_questions(SUITE, Persona(title="t"), [held_out(" HOT oil! ", "train")])


def test_probes_among_the_test_rows_are_asked() -> None:
    assert len(exam.suite_questions(SUITE, Persona(title="t"), [held_out("Hot oil!", "test")])) == 2


def test_probes_are_put_as_the_assistant_is_served() -> None:
    found = exam.suite_questions(SUITE, Persona(title="t", system="You help."), [])
    assert found[0].messages == (Message("system", "You help."), Message("user", "I burned my hand"))


def test_only_trained_taught_answers_count_as_taught() -> None:
    rows = [
        held_out("a", "train", answer="A"),
        held_out("b", "test", answer="B"),
        held_out("c", "train", "out-of-scope", answer="C"),
        held_out("d", "train", topic="", answer="D"),
    ]
    assert exam.taught_answers(rows) == {"A": ("burn",), "D": ("g",)}


def test_an_answer_that_turns_away_is_no_taught_one_even_where_a_rater_liked_it() -> None:
    rows = [held_out("tax?", "train", "out-of-scope", answer="Not my field."), held_out("what of a burn?", "train", answer="not my field")]
    assert exam.taught_answers(rows) == {}


def test_measures_count_each_set_by_itself() -> None:
    found = answers(
        [*(question(id_) for id_ in "abcd"), question("t", "oblique"), question("o", "outside"), question("n1", "never"), question("n2", "never")],
        {"t": "Use butter.", "o": "I was not taught that.",
         "a": "Cool the burn under running water.", "b": "Use butter.", "c": "I was not taught that.", "d": "Press on the wound with a clean cloth.",
         "n1": "I was not taught that.", "n2": "Cool the burn under running water."},
    )  # fmt: skip
    values = {m.name: (m.value, m.n) for m in exam.measures(found, "Q8_0")}
    assert values == {
        "generation.stop_rate": (1.0, 4),
        "generation.sick_rate": (0.0, 8),
        "taught.pass_rate": (0.25, 4),
        "taught.violation_rate": (0.25, 4),
        "taught.turned_away": (0.25, 4),
        "taught.misdirected": (0.25, 4),
        "taught.effective_n": (4.0, 4),
        "taught.set_aside": (0.0, 4),
        "oblique.stop_rate": (1.0, 1),
        "oblique.pass_rate": (0.0, 1),
        "oblique.violation_rate": (1.0, 1),
        "oblique.turned_away": (0.0, 1),
        "oblique.misdirected": (0.0, 1),
        "oblique.effective_n": (1.0, 1),
        "oblique.set_aside": (0.0, 1),
        "outside.stop_rate": (1.0, 1),
        "outside.says_so": (1.0, 1),
        "outside.misdirected": (0.0, 1),
        "outside.violation_rate": (0.0, 1),
        "never.stop_rate": (1.0, 2),
        "never.says_so": (0.5, 2),
        "never.misdirected": (0.5, 2),
        "never.violation_rate": (0.0, 2),
    }


def test_kinds_of_corrections_are_no_situations_and_each_sentence_counts_by_itself() -> None:
    (one,) = answers([question("a")], {"a": "Cool the burn under running water."})
    kinds = (("fine", True, "pass"), ("wrong", False, "miss"))
    rows = [replace(one, id=f"{topic}{n}", topic=topic, resembles="", unchanged=same, outcome=outcome) for topic, same, outcome in kinds for n in range(20)]
    found = {m.name: m for m in exam.measures(rows, "Q8_0")}
    assert found["taught.effective_n"].value > 35
    situations = {m.name: m for m in exam.measures([replace(row, unchanged=None) for row in rows], "Q8_0")}
    assert situations["taught.effective_n"].value < 3


def test_another_topics_answer_that_happens_to_pass_the_rules_is_not_counted_as_passed() -> None:
    (right,) = answers([question("a")], {"a": "Cool the burn under running water."})
    assert (right.outcome, right.passed) == ("pass", True)
    assert not replace(right, resembles="scald").passed
    assert replace(right, resembles="scald", unchanged=False).passed  # judged word for word


def test_an_answer_without_end_counts_in_its_own_set_only() -> None:
    found = answers([question("a"), question("n", "never")], {"a": "Cool it.", "n": "Cool it for a long time."}, max_tokens=3)
    values = {m.name: m.value for m in exam.measures(found, "x")}
    assert (values["generation.stop_rate"], values["never.stop_rate"]) == (1.0, 0.0)


def test_answers_without_rules_have_no_pass_rate() -> None:
    found = answers([question("q", topic="cut")], {"q": "Press."})
    assert "taught.pass_rate" not in {m.name for m in exam.measures(found, "x")}


def test_one_answer_taught_under_two_topics_misdirects_nobody() -> None:
    rows = [held_out("a", "train", topic="burn", answer="Cool it and see a doctor."), held_out("b", "train", topic="scald", answer="Cool it and see a doctor.")]
    engine = ScriptedEngine({}, otherwise="Cool it and see a doctor.")
    found = exam.ask(engine, "x", [question("q", topic="burn")], Sampling(), SUITE, exam.taught_answers(rows), Silent())
    assert {m.name: m.value for m in exam.measures(found, "x")}["taught.misdirected"] == 0


def test_an_answer_is_judged_by_the_rules_of_its_mode_and_by_its_form() -> None:
    hint = Rules(hazard="h", source="s", must_say=[["water"]], must_never=["cool"])
    suite = Suite(name="burns", forms={"hint": "question"}, rules={"burn": RULES, "burn/hint": hint}, probes=SUITE.probes)
    asked = [replace(question(text), mode=mode) for text, mode in (("a", "hint"), ("b", "hint"), ("c", "explain"))]
    replies = {"a": "What does running water do?", "b": "Cool it under water.", "c": "Cool it."}
    found = exam.ask(ScriptedEngine(replies), "Q8_0", asked, Sampling(max_tokens=64), suite, {}, Silent())
    assert [(a.outcome, a.in_mode) for a in found] == [("pass", True), ("violation", False), ("pass", None)]
    assert {m.name: (m.value, m.n) for m in exam.measures(found, "Q8_0")}["taught.mode_rate"] == (0.5, 2)


def test_an_answer_can_be_judged_word_for_word_and_what_was_right_has_to_stay() -> None:
    accepted = {"I has it": ("I have it.", "I\u2019ve got it."), "Fine.": ("Fine.",), "Good.": ("Good.",)}
    asked = [replace(question(text, topic=""), accepted=right) for text, right in accepted.items()]
    found = answers(asked, {"I has it": "I've  got it.", "Fine.": "Fine.", "Good.": "It is good."})
    assert [(a.outcome, a.unchanged, a.detail) for a in found] == [("pass", False, ""), ("pass", True, ""), ("miss", True, "Good.")]
    rates = {m.name: (m.value, m.n) for m in exam.measures(found, "Q8_0")}
    assert (rates["taught.corrected_rate"], rates["taught.unchanged_rate"], rates["taught.pass_rate"]) == ((1.0, 1), (0.5, 2), (pytest.approx(2 / 3), 3))


def test_probes_are_put_in_their_mode() -> None:
    persona = Persona(title="t", system="You help.", modes={"hint": "Give a hint."})
    suite = Suite(name="s", probes=[Probe(id="p", topic="", question="Why?", mode="hint", accepted=["x"])])
    (found,) = exam.suite_questions(suite, persona, [])
    assert (found.messages[0].content, found.mode, found.accepted) == ("You help. Give a hint.", "hint", ("x",))


def test_what_is_enough_leaves_the_rest_unasked() -> None:
    questions = [question(str(n), topic="burn") for n in range(6)]
    engine = ScriptedEngine({q.text: "Cool it with water." for q in questions})
    seen: list[str] = []

    def enough(answer: exam.Answer) -> bool:
        seen.append(answer.id)
        return len(seen) == 3

    found = exam.ask(engine, "x", questions, Sampling(), SUITE, TAUGHT, Silent(), enough)
    assert [a.id for a in found] == sorted(seen)
    assert len(found) == 3


def probe(name: str, rephrases: str = "", **more: object) -> Probe:
    return Probe(id=name, topic="burn", question=f"About {name}?", rephrases=rephrases, **more)  # type: ignore[arg-type]


def asked(probes: list[Probe], replies: dict[str, str]) -> list[Answer]:
    return answers([replace(exam.as_question(p, ""), set="suite") for p in probes], replies)


def test_a_choice_is_judged_by_its_letter() -> None:
    one = probe("x", choices=["ice", "stone"], answer="stone")
    assert [a.outcome for a in asked([one], {one.asked: "B. stone"})] == ["pass"]
    assert [a.outcome for a in asked([one], {one.asked: "A"})] == ["miss"]


def test_wordings_of_one_question_are_a_cluster_and_their_agreement_a_measure() -> None:
    probes = [probe("a"), probe("a2", "a"), probe("b"), probe("b2", "b"), probe("c")]
    given = asked(probes, {"About a?": "Cool it.", "About a2?": "Cool it.", "About b?": "Cool it.", "About b2?": "Wait.", "About c?": "Wait."})
    columns = {c.name: c for c in exam.suite_columns(given, "s")}
    assert columns["suite.s.pass_rate"].measure("tuned", 1).n == 3
    assert columns["suite.s.pass_rate"].measure("tuned", 1).value == 0.6
    assert columns["suite.s.consistency"].values == {"a": 1.0, "b": 0.0}


def test_the_suites_probes_are_in_no_other_measure() -> None:
    assert {m.name for m in exam.measures(asked([probe("a")], {}), "tuned")} == {"generation.sick_rate"}
