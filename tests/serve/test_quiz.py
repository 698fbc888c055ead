"""The quiz: what a model writes is checked and asked for again, the right option moves about, and a key that the model itself doubts is marked."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorikeet.engine import Prompt, Sampling
from lorikeet.released import Served
from lorikeet.serve.offer import Offer
from lorikeet.serve.quiz import TRIES, QuizQuestion, checked, written
from lorikeet.serve.quiz_page import Sitting, score

GOOD = {
    "question": "Which organ pumps the blood?",
    "right_answer": "The heart",
    "wrong_answers": ["The liver", "The lung", "The skin"],
    "explanation": "It beats.",
}


class Writer:
    """Writes the rows it was given, one an ask, and believes in one letter."""

    slots, context = 1, 1000

    def __init__(self, rows: Sequence[Any], belief: str = "A") -> None:
        self.rows, self.belief = list(rows), belief
        self.asked: list[tuple[Prompt, Sampling, Any]] = []

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return prompt

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        return [0.9 if option == self.belief else 0.1 / 3 for option in options]

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Any = None) -> Generator[dict[str, Any]]:
        self.asked.append((prompt, sampling, schema))
        row = self.rows.pop(0)
        yield {"choices": [{"delta": {"content": row if isinstance(row, str) else json.dumps(row)}, "finish_reason": "stop"}]}


def made(writer: Writer, count: int) -> list[QuizQuestion | str]:
    return list(written(Offer(Served(Path("x.gguf"), "Q8_0", "", True, "approved", (), "Tutor", "You are a tutor."), writer), "organs", 0, count))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"wrong_answers": ["The liver", "the heart.", "The skin"]}, "two options are the same"),
        ({"wrong_answers": ["The liver", " ", "The skin"]}, "an option is empty"),
        ({"question": "The heart pumps what?"}, "gives its answer away"),
        ({"wrong_answers": ["The liver", "The lung"]}, "an option is empty"),
        ({"question": "Which organ was it that pumps the blood?"}, "repeats an earlier one"),
    ],
)
def test_a_broken_question_is_told_apart(changed: dict[str, Any], told: str) -> None:
    earlier = checked(json.dumps({**GOOD, "question": "Which organ is it that pumps the blood?"}), [], 0)
    assert isinstance(earlier, QuizQuestion)
    found = checked(json.dumps({**GOOD, **changed}), [earlier], 0)
    assert isinstance(found, str)
    assert told in found


def test_what_was_cut_short_is_asked_for_again_with_another_seed() -> None:
    writer = Writer([json.dumps(GOOD)[:40], GOOD])
    first, second = made(writer, 1)
    assert first == "question 1: asked again, since it was cut short"
    assert isinstance(second, QuizQuestion)
    assert writer.asked[0][1].seed != writer.asked[1][1].seed
    assert writer.asked[0][2]["required"] == ["question", "right_answer", "wrong_answers", "explanation"]


def test_one_that_stays_broken_is_given_up_and_the_rest_go_on() -> None:
    found = made(Writer(["{"] * TRIES + [GOOD]), 2)
    assert found[TRIES - 1] == "question 1: given up, since it was cut short"
    assert isinstance(found[TRIES], QuizQuestion)


def test_the_right_option_moves_and_doubt_is_marked_and_earlier_questions_are_told() -> None:
    texts = ("Which organ pumps the blood?", "Where does digestion mostly happen?", "What carries oxygen around?", "How many kidneys are usual?")
    writer = Writer([{**GOOD, "question": text} for text in texts])
    found = [question for question in made(writer, 4) if isinstance(question, QuizQuestion)]
    assert {question.right for question in found} == {0, 1, 2, 3}
    assert all(question.options[question.right] == "The heart" for question in found)
    assert [question.sure for question in found] == [question.right == 0 for question in found]
    assert texts[0] in writer.asked[1][0][-1].content


def test_the_score_counts_sure_questions_apart() -> None:
    questions = [QuizQuestion("Q?", ("a", "b", "c", "d"), right, "", sure) for right, sure in ((0, True), (1, True), (2, False))]
    told = score(Sitting(questions, [0, 0, 2], whole=True))
    assert "2 of 3 right." in told
    assert "Of the 2 questions whose key the model itself holds by: 1." in told
