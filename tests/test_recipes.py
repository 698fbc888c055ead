"""Every recipe that ships: it loads, its rows pass the checks, its rules tell right answers from dangerous ones."""

import json
import tomllib
from pathlib import Path

import pytest
from toy_recipe import split_rows

from lorikeet.recipe import load_recipe
from lorikeet.scoring import form_of, token_overlap

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*/recipe.yaml"))
LOADED = {path.parent.name: load_recipe(path) for path in RECIPES}
FIRST_AID = LOADED["first-aid"]
WRITTEN = [
    (recipe, item)
    for recipe, name in (("first-aid", "first_aid_answers.json"), ("emergency", "emergency_answers.json"))
    for item in json.loads((Path(__file__).parent / name).read_text())
]
"""Right and dangerous answers in other words, by which the rules themselves are examined."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.parent.name)
def test_a_shipped_recipe_has_no_finding_above_a_note(path: Path) -> None:
    rows, findings = split_rows(load_recipe(path))
    assert len(rows) > 100
    assert [f for f in findings if f.severity != "note"] == []


def test_the_first_aid_set_is_as_large_as_it_says() -> None:
    rows, _ = split_rows(FIRST_AID)
    taught = [r for r in rows if r.kind == "taught"]
    by_topic = {t: [r for r in taught if r.conversation.topic == t] for t in {r.conversation.topic for r in taught}}
    assert len(by_topic) >= 60
    assert all(sum(r.part == "train" for r in rs) >= 8 and sum(r.part != "train" for r in rs) == 2 for rs in by_topic.values())
    assert len({r.conversation.topic for r in rows if r.kind == "never-taught"}) >= 12
    other = [r for r in rows if r.kind == "out-of-scope"]
    assert len(other) >= 120
    assert sum(r.part == "test" for r in other) >= 40
    assert len(FIRST_AID.suite.probes) >= 40


@pytest.mark.parametrize("name", ["first-aid", "ml-tutor"])
def test_an_extended_set_has_two_hundred_answers_and_no_finding(name: str) -> None:
    data = LOADED[name].path.parent / "data"
    sets = [f"data.train={data}/taught*.jsonl", f"data.out_of_scope={data}/out_of_scope_extended.jsonl"]
    rows, findings = split_rows(load_recipe(LOADED[name].path, sets))
    wordings: dict[str, set[str]] = {}
    for talk in (r.conversation for r in rows if r.kind == "taught"):
        wordings.setdefault(talk.answer, set()).add(talk.question)
    assert len(wordings) >= 200
    assert min(map(len, wordings.values())) >= 10
    assert [f for f in findings if f.severity != "note"] == []


@pytest.mark.parametrize("name", ["first-aid", "emergency", "ml-tutor", "med-tutor"])
def test_no_probe_stands_in_the_rows_or_nearly_so(name: str) -> None:
    questions = {r.conversation.question for r in split_rows(LOADED[name])[0]}
    worst = max((token_overlap(p.question, q), p.question, q) for p in LOADED[name].suite.probes for q in questions)
    assert worst[0] < 0.8, worst


def test_no_sentence_of_the_email_suite_is_trained_on() -> None:
    path = LOADED["email"].path
    rows, findings = split_rows(load_recipe(path, [f"data.train={path.parent}/data/taught*.jsonl"]))
    trained = {text for row in rows for text in (row.conversation.question, row.conversation.answer)}
    assert len(trained) > 4000
    assert [f for f in findings if f.severity != "note"] == []
    assert not {text for probe in LOADED["email"].suite.probes for text in (probe.question, *probe.accepted)} & trained


@pytest.mark.parametrize("name", ["ml-tutor", "med-tutor"])
def test_every_taught_answer_of_a_tutor_passes_the_rules_and_has_the_form_of_its_mode(name: str) -> None:
    suite = LOADED[name].suite
    answers = {(r.conversation.topic, r.conversation.mode, r.conversation.answer) for r in split_rows(LOADED[name])[0] if r.kind == "taught"}
    assert len(answers) >= 60
    assert all(form_of(answer) == suite.forms[mode] for _, mode, answer in answers)
    scores = {(topic, mode): suite.score(topic, answer, mode) for topic, mode, answer in answers}
    assert {key for key, score in scores.items() if not (score and score.passed)} == set()


@pytest.mark.parametrize("name", ["ml-tutor", "med-tutor"])
def test_an_explanation_in_place_of_a_hint_breaks_the_rules(name: str) -> None:
    suite = LOADED[name].suite
    explained = {r.conversation.topic: r.conversation.answer for r in split_rows(LOADED[name])[0] if r.kind == "taught" and r.conversation.mode == "explain"}
    given_away = [topic for topic, answer in explained.items() if (score := suite.score(topic, answer, "hint")) and score.outcome == "violation"]
    assert set(given_away) == set(explained)


def outcome(recipe: str, topic: str, answer: str) -> str:
    score = LOADED[recipe].suite.score(topic, answer)
    assert score is not None
    return score.outcome


@pytest.mark.parametrize(("recipe", "item"), WRITTEN, ids=lambda i: i["topic"] if isinstance(i, dict) else i)
def test_rules_pass_right_answers_in_other_words(recipe: str, item: dict[str, str]) -> None:
    assert outcome(recipe, item["topic"], item["answer"]) == "pass"
    assert outcome(recipe, item["topic"], item["safe"]) == "pass"


@pytest.mark.parametrize(("recipe", "item"), WRITTEN, ids=lambda i: i["topic"] if isinstance(i, dict) else i)
def test_rules_fail_dangerous_answers(recipe: str, item: dict[str, list[str]]) -> None:
    outcomes = [outcome(recipe, str(item["topic"]), answer) for answer in item["unsafe"]]
    assert "pass" not in outcomes
    assert "violation" in outcomes


@pytest.mark.parametrize("recipe", ["first-aid", "emergency"])
def test_rules_fail_the_answer_to_most_other_situations(recipe: str) -> None:
    """Siblings may pass (a graze and a small cut are treated alike); misdirection is found by the answer, not by the rules."""
    answers = {i["topic"]: i["answer"] for name, i in WRITTEN if name == recipe}
    passed = sum(outcome(recipe, topic, answer) == "pass" for topic in answers for other, answer in answers.items() if other != topic)
    assert passed / (len(answers) * (len(answers) - 1)) < 0.10


def test_the_package_list_names_every_folder_of_code() -> None:
    root = Path(__file__).parent.parent
    listed = set(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {p.parent.relative_to(root).as_posix().replace("/", ".") for p in (root / "lorikeet").rglob("__init__.py")}
    assert listed == folders | {"lorikeet_recipes"}
