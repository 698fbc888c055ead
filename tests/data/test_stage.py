"""Rows that teach a mode stand behind the system turn of that mode, and a mode that the persona lacks is refused by line."""

import json
from pathlib import Path

import pytest
from toy_recipe import split_rows, write_recipe

from lorikeet.errors import DataError
from lorikeet.recipe import load_recipe


def recipe_with(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    tmp_path.mkdir(exist_ok=True)
    recipe = write_recipe(tmp_path / "recipe")
    (recipe.parent / "persona.yaml").write_text("title: Tutor\nsystem: You teach.\nmodes: {explain: Explain., hint: Give a hint.}\n")
    (recipe.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recipe


def row(n: int, mode: str = "") -> dict[str, object]:
    return {"question": f"question {n}", "answer": f"answer {n} {mode}", **({"mode": mode} if mode else {})}


def test_a_row_stands_behind_the_system_turn_of_its_mode(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_with(tmp_path, [row(1, "explain"), row(2, "hint"), row(3)]))
    systems = [r.conversation.messages[0].content for r in split_rows(recipe)[0] if r.kind == "taught"]
    assert systems == ["You teach. Explain.", "You teach. Give a hint.", "You teach."]


def test_one_question_may_have_an_answer_in_each_mode(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_with(tmp_path, [row(1, "explain"), row(1, "hint")]))
    assert "data.conflict" not in {finding.code for finding in split_rows(recipe)[1]}


def test_a_mode_that_the_persona_lacks_is_refused_by_line(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_with(tmp_path, [row(1, "explain"), row(2, "quiz")]))
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the mode 'quiz' is not one of the persona's \(explain, hint\)"):
        split_rows(recipe)


def test_answers_labelled_as_disliked_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n} asked", "completion": f"a{n}", "label": n > 1} for n in range(60)]
    recipe = load_recipe(recipe_with(tmp_path, rows))
    split, findings = split_rows(recipe)
    assert sum(r.kind == "taught" for r in split) == 58
    assert next(f for f in findings if f.code == "data.disliked").rows == ("rows.jsonl:1", "rows.jsonl:2")


def test_rows_that_are_all_disliked_are_refused(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_with(tmp_path, [{"prompt": "q", "completion": "a", "label": False}]))
    with pytest.raises(DataError, match="every row's answer is labelled as disliked"):
        split_rows(recipe)


def test_columns_are_named_by_the_recipe(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, [{"frage": f"q{n}", "antwort": f"a{n}"} for n in range(60)])
    recipe = load_recipe(path, ["data.columns={question: frage, answer: antwort}"])
    assert {r.conversation.question for r in split_rows(recipe)[0]} >= {"q0", "q59"}


def test_a_split_of_ones_own_tests_with_the_rows_that_it_names(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, [row(n) for n in range(80)])
    (path.parent / "mine.jsonl").write_text(json.dumps({"question": "something else", "answer": "x"}) + "\n")
    split, findings = split_rows(load_recipe(path, [f"data.test={path.parent / 'mine.jsonl'}"]))
    assert [str(r.conversation.source) for r in split if r.part == "test" and r.kind == "taught"] == ["mine.jsonl:1"]
    assert {r.part for r in split} == {"train", "validation", "test"}
    assert "error" not in {f.severity for f in findings}


def test_a_split_of_ones_own_is_checked_and_not_trusted(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, [row(n) for n in range(80)])
    (path.parent / "mine.jsonl").write_text(json.dumps(row(7)) + "\n")
    assert {"data.leak.exact", "data.leak.near"} <= {f.code for f in split_rows(load_recipe(path, [f"data.test={path.parent / 'mine.jsonl'}"]))[1]}


def test_a_suite_about_other_topics_is_told(tmp_path: Path) -> None:
    path = recipe_with(tmp_path, [row(n) for n in range(60)])
    assert "suite.topics" in {f.code for f in split_rows(load_recipe(path))[1]}
    path = recipe_with(tmp_path / "with", [{**row(n), "topic": "burn"} for n in range(60)])
    assert "suite.topics" not in {f.code for f in split_rows(load_recipe(path))[1]}
