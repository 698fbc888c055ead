"""The card says what the evidence says: a changed digit, a figure of nobody's and a line left out are caught; the owner's own words are the owner's."""

from pathlib import Path

import pytest
from toy_release import released_run

from lorikeet.publish import card
from lorikeet.publish.evidence import Shown, gathered
from lorikeet.publish.licence import Licence, follows


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return gathered(released_run(tmp_path / "run"))


LICENCE: Licence = follows("apache-2.0", "cc-by-4.0")


def written(shown: Shown, about: str = "") -> str:
    return card.card(shown, LICENCE, "ollama run helper", about)


def problems(text: str, shown: Shown) -> list[str]:
    return card.check(text, shown, LICENCE, "ollama run helper")


def test_a_card_as_it_was_written_is_in_order_with_whatever_its_owner_says(shown: Shown) -> None:
    text = written(shown, "Made in 2026 for 300 people.")
    assert problems(text, shown) == []
    assert "| `suite.burns.pass_rate` | Q8_0 | 94.0 % | 83.8 % to 97.9 % | 50 |" in text
    assert "helper-Q2_K" not in text
    assert "| Q2_K | blocked |" in text


def test_every_changed_digit_outside_the_owners_words_is_caught(shown: Shown) -> None:
    text = written(shown, "Made in 2026.")
    begin, end = text.index(card.BEGIN), text.index(card.END)
    for place, character in enumerate(text):
        if character.isdigit() and not begin < place < end:
            changed = text[:place] + str((int(character) + 1) % 10) + text[place + 1 :]
            assert problems(changed, shown), text[max(0, place - 40) : place + 20]


def test_a_figure_of_nobodys_and_a_row_that_is_left_out_are_caught(shown: Shown) -> None:
    text = written(shown)
    assert "no evidence stands behind it" in problems(f"{text}\nIt is right in 99 % of all cases.\n", shown)[0]
    without = "\n".join(line for line in text.splitlines() if "stop_rate` | Q8_0" not in line)
    assert "left out" in problems(without, shown)[0]


def test_a_row_may_not_stand_under_another_files_heading(shown: Shown) -> None:
    row = "| `suite.burns.pass_rate` | F16 | 96.0 % | 86.5 % to 98.9 % | 50 |"
    assert problems(written(shown).replace("| `suite.burns.pass_rate` | Q8_0 | 94.0 % | 83.8 % to 97.9 % | 50 |", row), shown)
