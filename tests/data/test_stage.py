"""Rows that teach a mode stand behind the system turn of that mode, and a mode that the persona lacks is refused by line."""

import json
from pathlib import Path

import pytest
from toy_recipe import write_recipe

from lorikeet.data.stage import split_rows
from lorikeet.errors import DataError
from lorikeet.recipe import load_recipe


def recipe_with(tmp_path: Path, rows: list[dict[str, str]]) -> Path:
    recipe = write_recipe(tmp_path / "recipe")
    (recipe.parent / "persona.yaml").write_text("title: Tutor\nsystem: You teach.\nmodes: {explain: Explain., hint: Give a hint.}\n")
    (recipe.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recipe


def row(n: int, mode: str = "") -> dict[str, str]:
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
