"""Questions whose answers were judged: which way a reply goes, what is asked again, and what is counted."""

import json
from collections import Counter
from pathlib import Path

import pytest

from lorikeet import artifact
from lorikeet.conversation import Message
from lorikeet.evaluate import judged
from lorikeet.evaluate.judged import Judged
from lorikeet.exam import JUDGED, Question

GOOD, BAD = "Call an ambulance first. Press hard on the wound and do not stop.", "Press hard on the wound and do not stop."


def about(**votes: int) -> Judged:
    question = Question("r", "judged", "", (Message("user", "It bleeds"),))
    return Judged(question, True, Counter({{"good": GOOD, "bad": BAD}[name]: n for name, n in votes.items()}))


@pytest.mark.parametrize(
    ("votes", "reply", "goes"),
    [
        ({"good": 3, "bad": -2}, GOOD, True),
        ({"good": 3, "bad": -2}, BAD, False),
        ({"good": 3, "bad": -2}, "Call an ambulance first. Press on the wound.", True),
        ({"bad": -1}, BAD.upper(), False),
        ({"bad": -1}, "Sit down and rest.", True),
        ({"good": 1}, GOOD, True),
        ({"good": 1}, "Sit down and rest.", False),
    ],
)
def test_a_reply_goes_with_what_it_is_nearer_to(votes: dict[str, int], reply: str, goes: bool) -> None:
    assert about(**votes).goes_with(reply) is goes


def test_what_is_disputed_is_not_asked_and_the_rest_is_asked_once_a_question(tmp_path: Path) -> None:
    part = artifact.begin(tmp_path / "data-00000000")
    rows = [("one", GOOD, True, "test"), ("one", BAD, False, "test"), ("two", GOOD, True, "test"), ("two", GOOD, False, "test"),
            ("three", BAD, False, "train"), ("four", GOOD, True, "train")]  # fmt: skip
    lines = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}], "liked": liked, "split": split, "mode": ""}
             for q, a, liked, split in rows]  # fmt: skip
    (part / JUDGED).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    made = artifact.finish(part, step="data", key="0" * 16, inputs={}, settings={}, versions={})
    asked = judged.read(made, 10)
    assert [(j.question.text, j.held_out) for j in asked] == [("one", True), ("three", False)]


def test_a_correction_that_others_wrote_of_the_same_answer_counts_for_one_who_wrote_none(tmp_path: Path) -> None:
    part = artifact.begin(tmp_path / "data-00000000")
    rows = [("one", BAD, False), ("one", GOOD, True), ("two", BAD, False)]
    lines = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}], "liked": liked, "split": "test", "mode": ""}
             for q, a, liked in rows]  # fmt: skip
    (part / JUDGED).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    made = artifact.finish(part, step="data", key="0" * 16, inputs={}, settings={}, versions={})
    two = next(j for j in judged.read(made, 10) if j.question.text == "two")
    assert two.goes_with(GOOD)
    assert not two.goes_with(BAD)
