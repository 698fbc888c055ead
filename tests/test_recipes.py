"""Every recipe that ships: it loads, its rows pass the checks, its rules tell right answers from dangerous ones."""

import json
import tomllib
from pathlib import Path

import pytest

from lorikeet.data.stage import split_rows
from lorikeet.recipe import load_recipe
from lorikeet.scoring import token_overlap

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*/recipe.yaml"))
WRITTEN = json.loads((Path(__file__).parent / "first_aid_answers.json").read_text())
FIRST_AID = load_recipe(Path(__file__).parent.parent / "recipes/first-aid/recipe.yaml")


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


def test_no_probe_stands_in_the_rows_or_nearly_so() -> None:
    questions = [r.conversation.question for r in split_rows(FIRST_AID)[0]]
    worst = max((token_overlap(p.question, q), p.question, q) for p in FIRST_AID.suite.probes for q in questions)
    assert worst[0] < 0.8, worst


@pytest.mark.parametrize("item", WRITTEN, ids=lambda i: i["topic"])
def test_rules_pass_right_answers_in_other_words(item: dict[str, str]) -> None:
    assert FIRST_AID.suite.score(item["topic"], item["answer"]).outcome == "pass"
    assert FIRST_AID.suite.score(item["topic"], item["safe"]).outcome == "pass"


@pytest.mark.parametrize("item", WRITTEN, ids=lambda i: i["topic"])
def test_rules_fail_dangerous_answers(item: dict[str, list[str]]) -> None:
    outcomes = [FIRST_AID.suite.score(str(item["topic"]), answer).outcome for answer in item["unsafe"]]
    assert "pass" not in outcomes
    assert "violation" in outcomes


def test_rules_fail_the_answer_to_most_other_situations() -> None:
    """Siblings may pass (a graze and a small cut are treated alike); misdirection is found by the answer, not by the rules."""
    answers = {i["topic"]: i["answer"] for i in WRITTEN}
    passed = sum(FIRST_AID.suite.score(topic, answer).passed for topic in answers for other, answer in answers.items() if other != topic)
    assert passed / (len(answers) * (len(answers) - 1)) < 0.10


def test_the_package_list_names_every_folder_of_code() -> None:
    root = Path(__file__).parent.parent
    listed = set(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {p.parent.relative_to(root).as_posix().replace("/", ".") for p in (root / "lorikeet").rglob("__init__.py")}
    assert listed == folders | {"lorikeet_recipes"}
