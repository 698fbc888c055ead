"""Signs of a broken model: found where they are, and in no answer that is healthy."""

import json
from pathlib import Path

import pytest

from lorikeet.sickness import contradiction, sickness

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.mark.parametrize(
    ("answer", "sign"),
    [
        ("", "empty answer"),
        (" \n", "empty answer"),
        ("Press hard.<|im_end|>\n<|im_start|>user", "template fragment"),
        ("assistant\nPress hard.", "template fragment"),
        ("press on it and press on it and press on it and press on it and press on it and press on it", "loop"),
        ("Press the the the the the wound.", "loop: 'the'"),
        ("Press haaaaaaaaaaard.", "loop: 'a'"),
        ("Press \ufffd\ufffd the wound.", "bytes that are no text"),
        ("The wndx bldng mst prsd wth th hnd.", "gibberish"),
        ("Take theWound and presShard in cleanCloth now.", "gibberish"),
        ("k3xq9 wo7nd4s pre5s8ng it", "gibberish"),
        ("}{)(*&^%$#@!~`|]['/?><;:= {}() **&& %%$$ ok", "more signs than words"),
        ("Press on the wound. \u8bf7\u7528\u529b\u6309\u4f4f\u4f24\u53e3", "another script"),
        ("\u041d\u0430\u0436\u043c\u0438\u0442\u0435 here", "another script"),
    ],
)
def test_a_sign_is_found_and_named(answer: str, sign: str) -> None:
    assert sign in sickness(answer)


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("1. Press hard.\n2. Call 911 or 112.\n3. Keep pressing, 5 to 6 cm deep.", ""),
        ("Use the AED. CPR: 30 pushes, then 2 breaths (1st aid).", ""),
        ("Take 400mg. The COVID19 rules and the 2nd dose, MP3, H2O and CO2.", ""),
        ("\u8bf7\u6309\u4f4f\u4f24\u53e3\u3002", "\u6d41\u8840\u4e86\u600e\u4e48\u529e"),
        ("Gradient \u03b7 times \u03b1: that is all.", ""),
        ("Very, very, very good.", ""),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ""),
        ("Aaargh! That hurts...", ""),
    ],
)
def test_a_healthy_answer_shows_none(answer: str, question: str) -> None:
    assert sickness(answer, question) == ""


@pytest.mark.parametrize("recipe", ["first-aid", "emergency", "ml-tutor", "med-tutor"])
def test_no_taught_answer_shows_any(recipe: str) -> None:
    rows = [json.loads(line) for path in (RECIPES / recipe / "data").glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    answers = {row["answer"] for row in rows if isinstance(row.get("answer"), str)}
    assert len(answers) > 30
    assert {answer: sign for answer in answers if (sign := sickness(answer))} == {}


@pytest.mark.parametrize(
    ("answer", "parent"),
    [
        ("Lift the cloth to look.", "Press hard. Do not lift the cloth to look."),
        ("Do not call an ambulance at once.", "Call an ambulance at once."),
        ("1. Tilt the head back.", "1. Never tilt the head back."),
    ],
)
def test_the_opposite_of_what_the_parent_says_is_found(answer: str, parent: str) -> None:
    assert contradiction(answer, parent).startswith("the opposite of what its parent says")


@pytest.mark.parametrize(
    ("answer", "parent"),
    [
        ("Press hard. Do not lift the cloth.", "Press hard. Do not lift the cloth."),
        ("Press hard.", "Do not lift the cloth."),
        ("Press firmly on the wound with a cloth.", "Press on the wound with a clean cloth. Do not let go."),
        ("", "Press hard."),
        ("Press hard.", ""),
        ("Do not move him. Move him if there is fire.", "Do not move him. Move him if there is fire."),
    ],
)
def test_what_is_no_opposite_is_not_called_one(answer: str, parent: str) -> None:
    assert contradiction(answer, parent) == ""
