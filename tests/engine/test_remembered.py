"""Answers that are kept as they come: what was known is not asked again, and a torn line is."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lorikeet.conversation import Message
from lorikeet.engine import Prompt, Reply, Sampling
from lorikeet.engine.remembered import Remembered
from lorikeet.errors import ModelError

ASKED = [[Message("user", f"question {n}")] for n in range(5)]


class Counted:
    """Answers from the last turn, and breaks down after so many."""

    def __init__(self, lasts: int = 99) -> None:
        self.asked: list[str] = []
        self._lasts = lasts

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        for n in reversed(range(len(prompts))):
            if len(self.asked) == self._lasts:
                raise ModelError("gone", "")
            self.asked.append(prompts[n][-1].content)
            yield n, Reply(f"to {self.asked[-1]} é", 3, ended=True)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        yield ""

    def close(self) -> None: ...


def test_after_an_interruption_only_the_rest_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "new" / "replies.jsonl"
    with pytest.raises(ModelError):
        dict(Remembered(Counted(lasts=3), "a#m", file).replies(ASKED, Sampling()))
    engine = Counted()
    again = Remembered(engine, "a#m", file)
    found = dict(again.replies(ASKED, Sampling()))
    assert {n: r.text for n, r in found.items()} == {n: f"to question {n} é" for n in range(5)}
    assert engine.asked == ["question 1", "question 0"]
    assert again.known == 3


def test_another_model_another_prompt_or_another_way_of_asking_is_asked_anew(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    dict(Remembered(Counted(), "a#m", file).replies(ASKED, Sampling()))
    for identity, prompts, sampling in (
        ("a#n", ASKED, Sampling()),
        ("a#m", ASKED, Sampling(seed=1)),
        ("a#m", ASKED, Sampling(max_tokens=5)),
        ("a#m", [[Message("system", "s"), *prompt] for prompt in ASKED], Sampling()),
    ):
        engine = Counted()
        dict(Remembered(engine, identity, file).replies(prompts, sampling))
        assert len(engine.asked) == 5


def test_a_line_that_was_cut_off_is_asked_again_and_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    dict(Remembered(Counted(), "a#m", file).replies(ASKED, Sampling()))
    file.write_bytes(file.read_bytes()[:-20])
    engine = Counted()
    dict(Remembered(engine, "a#m", file).replies(ASKED, Sampling()))
    assert len(engine.asked) == 1
    last = Remembered(Counted(), "a#m", file)
    dict(last.replies(ASKED, Sampling()))
    assert last.known == 5
