"""Suites and personas: read from YAML, or refused with the place."""

from pathlib import Path

import pytest

from lorikeet.errors import RecipeError
from lorikeet.suite import load_persona, load_suite

RULES = "name: s\nnot_taught: [not taught]\nrules:\n  burn: {hazard: h, source: g, must_say: [[cool, chill]], must_never: [butter]}\n"


def suite(folder: Path, text: str) -> Path:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_suite_judges_by_the_rules_of_the_topic(tmp_path: Path) -> None:
    read = load_suite(suite(tmp_path, RULES + "  cut: {hazard: h, source: g, must_say: [[press]]}\nprobes:\n- {id: a, topic: burn, question: q}\n"))
    assert read.score("burn", "Chill it.").outcome == "pass"
    assert read.score("cut", "Chill it.").outcome == "miss"
    assert read.score("burn", "Use butter.").outcome == "violation"
    assert read.score("burn", "I was not taught that.").outcome == "declined"


def test_a_probe_without_rules_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="probe 'a' has the topic 'brun'"):
        load_suite(suite(tmp_path, RULES + "probes:\n- {id: a, topic: brun, question: q}\n"))


def test_two_probes_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two probes have the id 'a'"):
        load_suite(suite(tmp_path, RULES + "probes:\n- {id: a, topic: burn, question: q}\n- {id: a, topic: burn, question: r}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RULES, "'probes' is missing"),
        (RULES + "probes: []\n", "probes"),
        ("name: s\nrules:\n  burn: {hazard: h, source: g, must_say: []}\nprobes:\n- {id: a, topic: burn, question: q}\n", r"rules\.burn\.must_say"),
        ("name: s\nrules:\n  burn: {hazard: h, source: g, must_say: [[]]}\nprobes:\n- {id: a, topic: burn, question: q}\n", r"rules\.burn\.must_say\.0"),
        ("name: s\nrules:\n  burn: {hazard: h, must_say: [[cool]]}\nprobes:\n- {id: a, topic: burn, question: q}\n", r"rules\.burn\.source' is missing"),
        (RULES.replace("butter", "b") + "probes:\n- {id: a, topic: burn, question: q}\n", r"must_never\.0"),
    ],
)
def test_a_suite_that_cannot_examine_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_suite(suite(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [("butter", "0.3 mg", r"rules\.burn"), ("chill", "over-the-counter", r"rules\.burn"), ("[not taught]", "[.. taught]", "not_taught")],
)
def test_a_pattern_that_can_never_match_is_refused(tmp_path: Path, old: str, new: str, where: str) -> None:
    with pytest.raises(RecipeError, match=rf"{where}: the pattern .* can never match"):
        load_suite(suite(tmp_path, RULES.replace(old, new) + "probes:\n- {id: a, topic: burn, question: q}\n"))


def test_a_typo_inside_a_rule_gets_line_and_nearest_key(tmp_path: Path) -> None:
    text = "name: s\nrules:\n  burn:\n    hazard: h\n    source: g\n    must_sya: [[cool]]\nprobes:\n- {id: a, topic: burn, question: q}\n"
    with pytest.raises(RecipeError, match=r"suite\.yaml:6: unknown key 'rules\.burn\.must_sya'") as caught:
        load_suite(suite(tmp_path, text))
    assert caught.value.cure == "did you mean 'must_say'?"


def test_a_typo_inside_a_probe_gets_line_and_nearest_key(tmp_path: Path) -> None:
    text = RULES + "probes:\n- {id: a, topic: burn, question: q}\n- id: b\n  topic: burn\n  qestion: q\n"
    with pytest.raises(RecipeError, match=r"suite\.yaml:9: unknown key") as caught:
        load_suite(suite(tmp_path, text))
    assert caught.value.cure == "did you mean 'question'?"


def test_a_persona_needs_a_title_only(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("title: Toy\n")
    persona = load_persona(tmp_path / "p.yaml")
    assert (persona.title, persona.system, persona.examples) == ("Toy", "", [])


def test_a_persona_without_title_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("system: You help.\n")
    with pytest.raises(RecipeError, match="'title' is missing"):
        load_persona(tmp_path / "p.yaml")


CHOICE = '- {id: a, topic: x, question: "What floats?", choices: [a cork, a stone], answer: a cork}\n'


def test_a_probe_with_choices_needs_no_rules_and_shows_them(tmp_path: Path) -> None:
    read = load_suite(suite(tmp_path, f"name: s\nprobes:\n{CHOICE}"))
    assert read.probes[0].asked == "What floats?\nA. a cork\nB. a stone\nAnswer with the letter alone."


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (CHOICE.replace("answer: a cork", "answer: a crok"), "its answer is 'a crok'"),
        (CHOICE.replace("a stone", "a cork"), "2 choices"),
        (CHOICE.replace("[a cork, a stone]", "[a cork]"), "1 choices"),
        (CHOICE.replace("answer: a cork", "answer: a cork, accepted: [cork]"), "both choices and accepted"),
        ("- {id: a, topic: x, question: q, accepted: [y], rephrases: b}\n", "rephrases 'b', and there is no such other probe"),
        ("- {id: a, topic: x, question: q, accepted: [y], rephrases: a}\n", "rephrases 'a'"),
        ("- {id: a, topic: x, question: q, acepted: [y]}\n", "acepted"),
    ],
)
def test_a_probe_that_cannot_be_judged_is_refused(tmp_path: Path, probe: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_suite(suite(tmp_path, f"name: s\nprobes:\n{probe}"))
