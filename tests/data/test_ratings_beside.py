"""Judged answers beside the rows: who learns from them, who is held out, and how many rows are learned as liked beside them."""

import json
from pathlib import Path

import pytest
from toy_recipe import write_recipe

from lorikeet.data import stage
from lorikeet.errors import DataError, RecipeError
from lorikeet.progress import Silent
from lorikeet.recipe import load_recipe

KTO = ("train.objective=kto", "data.ratings=judged.jsonl", "data.ratings_test=others.jsonl")


def judged(n: int, *, liked: bool) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": f"judged question {n}"}, {"role": "assistant", "content": f"judged answer {n}"}], "label": liked}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    recipe = write_recipe(tmp_path / "recipe")
    for name, numbers in (("judged", range(40)), ("others", range(100, 110))):
        rows = [json.dumps(judged(n, liked=n % 2 == 0)) + "\n" for n in numbers]
        (recipe.parent / f"{name}.jsonl").write_text("".join(rows))
    return recipe


def split(path: Path, *overrides: str) -> stage.Split:
    recipe = load_recipe(path, overrides)
    return stage.split_rows(recipe, stage.read_rows(recipe, Silent()), Silent())


def test_other_raters_answers_test_and_some_of_each_kind_validate(path: Path) -> None:
    rated = [r for r in split(path, *KTO).rated if r.conversation.liked is not None]
    parts = {part: [r for r in rated if r.part == part] for part in ("train", "validation", "test")}
    assert {r.conversation.question for r in parts["test"]} == {f"judged question {n}" for n in range(100, 110)}
    assert [sum(bool(r.conversation.liked) for r in parts["validation"]), len(parts["validation"])] == [1, 2]
    assert len(parts["train"]) == 38


def test_so_many_rows_count_as_liked_beside_each_judged_one_and_none_else(path: Path) -> None:
    for mix, count in (("0", 0), ("0.1", 4)):
        found = split(path, *KTO, f"data.ratings_mix={mix}")
        mixed = [r for r in found.rated if r.conversation.liked is None]
        assert (len(mixed), {r.part for r in mixed}) == (count, {"train"} if count else set())
    assert not [r for r in found.seen.rows if r.conversation.question.startswith("judged")]


def test_with_sft_what_was_liked_is_taught_and_what_was_disliked_is_not(path: Path) -> None:
    rows = [r for r in split(path, *KTO[1:]).seen.rows if r.conversation.question.startswith("judged")]
    assert rows
    assert all(r.conversation.liked and r.part == "train" for r in rows)


def test_without_ratings_no_key_of_theirs_counts(path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.ratings is left out"):
        load_recipe(path, ["data.ratings_test=others.jsonl"])


def test_a_kind_that_is_missing_is_told(path: Path) -> None:
    (path.parent / "others.jsonl").write_text(json.dumps(judged(1, liked=True)) + "\n")
    with pytest.raises(DataError, match="no disliked answer falls to the test part"):
        split(path, *KTO)


def test_an_answer_is_taught_in_place_of_another_wherever_it_stands(path: Path) -> None:
    (path.parent / "renewed.jsonl").write_text(json.dumps({"answer": "cool burn 3  WITH water.", "by": "Call first."}) + "\n")
    answers = [r.conversation.answer for r in split(path, "data.replaced=renewed.jsonl").seen.rows if r.kind == "taught"]
    assert "Call first." in answers
    assert not [answer for answer in answers if "burn 3" in answer]
    assert len(answers) == 6


def test_a_replacement_that_is_none_is_refused_by_its_line(path: Path) -> None:
    (path.parent / "renewed.jsonl").write_text('{"answer": "a", "by": "b"}\n{"answer": "a"}\n')
    with pytest.raises(DataError, match=r"renewed\.jsonl:2"):
        split(path, "data.replaced=renewed.jsonl")
