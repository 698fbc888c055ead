"""Multiple-choice questions that a model writes about a topic: bound to a JSON schema, checked, asked for again where they are broken, and weighed by the model
itself. The page is quiz_page.py's.
"""

import contextlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lorikeet.engine import Sampling
from lorikeet.engine.server import text_of
from lorikeet.scoring import LETTERS, lettered, token_overlap
from lorikeet.serve.offer import Offer, prompt_of

QUESTIONS, OPTIONS, TRIES = 10, 4, 8
"""Questions of a quiz, options of each, and how often one is asked for before it is given up."""
SURE = 0.5
"""Share of the model's belief that its own key has to have for the question to count as sure."""
_SAME = 0.75
"""Shared words from which on two questions are one."""
_TOKENS = 320
_TEMPERATURE, _WARMER = 0.6, 0.05
"""Of the first try, and how much is added for each further one: what was broken at one is often broken at it again."""
_SIDES = (
    "what it is",
    "what it is for",
    "its parts",
    "how it works",
    "an example of it",
    "what causes it",
    "what it leads to",
    "a common mistake about it",
    "how it is recognised",
    "what it is often confused with",
)
"""Sides of a topic, a question each, since small models ask the same thing again and again."""
_EXAMPLE: dict[str, Any] = {
    "question": "Which planet is nearest to the sun?",
    "right_answer": "Mercury",
    "wrong_answers": ["Venus", "Mars", "Jupiter"],
    "explanation": "Mercury is on the innermost orbit of the eight planets.",
}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 80}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {**_TEXT, "minLength": 10, "maxLength": 240},
        "right_answer": _TEXT,
        "wrong_answers": {"type": "array", "items": _TEXT, "minItems": OPTIONS - 1, "maxItems": OPTIONS - 1},
        "explanation": {**_TEXT, "maxLength": 300},
    },
    "required": ["question", "right_answer", "wrong_answers", "explanation"],
    "additionalProperties": False,
}


class QuizQuestion(NamedTuple):
    """A question with its options and the right one's place. sure: whether the model, asked itself, believes in that one."""

    text: str
    options: tuple[str, ...]
    right: int
    why: str
    sure: bool


def written(offer: Offer, topic: str, seed: int, count: int = QUESTIONS) -> Iterator[QuizQuestion | str]:
    """Up to `count` questions as they come; a text says why one was asked for again, or given up. The right option's place follows from seed and number."""
    found: list[QuizQuestion] = []
    for number in range(count):
        for attempt in range(TRIES):
            sampling = Sampling(_TEMPERATURE + _WARMER * attempt, 0.95, _TOKENS, seed + number * TRIES + attempt)
            raw = _asked(offer, topic, _SIDES[(number + attempt // 3) % len(_SIDES)], [question.text for question in found], sampling)
            made = checked(raw, found, (seed * 7 + number * 3) % OPTIONS)
            if isinstance(made, QuizQuestion):
                made = made._replace(sure=_believed(offer, made) >= SURE)
                found.append(made)
                yield made
                break
            yield f"question {number + 1}: asked again, since {made}" if attempt + 1 < TRIES else f"question {number + 1}: given up, since {made}"


def checked(raw: str, earlier: Sequence[QuizQuestion], right: int) -> QuizQuestion | str:
    """The question that a model wrote, with the right option put at a place; or what is wrong with it, in words that follow "since"."""
    try:
        row = json.loads(raw)
        text, good, bad, why = (
            row["question"].strip(),
            row["right_answer"].strip(),
            [wrong.strip() for wrong in row["wrong_answers"]],
            row["explanation"].strip(),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it was cut short"
    options = [*bad[:right], good, *bad[right:]]
    if len(options) != OPTIONS or not all(map(_folded, options)):
        return "an option is empty"
    folded = set(map(_folded, options))
    if len(folded) < OPTIONS:
        return "two options are the same"
    if folded & {_folded(option) for option in (_EXAMPLE["right_answer"], *_EXAMPLE["wrong_answers"])}:
        return "it copies the example"
    if _folded(good) in _folded(text):
        return "the question gives its answer away"
    if any(token_overlap(text, known) >= _SAME for known in (_EXAMPLE["question"], *(question.text for question in earlier))):
        return "it repeats an earlier one"
    return QuizQuestion(text, tuple(options), right, why, sure=False)


def _folded(text: str) -> str:
    """A text without case, points and spaces, by which two options are one."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum() or c in "+-*/=<>")


def _asked(offer: Offer, topic: str, side: str, earlier: Sequence[str], sampling: Sampling) -> str:
    """What the model writes for one question on a side of a topic."""
    order = [
        "Write a multiple-choice question with one right answer, three wrong answers that look likely, and a short explanation, as JSON. For example:",
        json.dumps(_EXAMPLE),
        *(["Do not ask any of these again:", *(f"- {text}" for text in earlier)] if earlier else []),
        f"Now write one about {topic}: {side}. Keep the answers short.",
    ]
    with contextlib.closing(offer.model.chunks(prompt_of([("user", "\n".join(order))], offer.served.system), sampling, SCHEMA)) as chunks:
        return "".join(map(text_of, chunks))


def _believed(offer: Offer, question: QuizQuestion) -> float:
    """The share of the model's belief among the letters that it gives to its own key."""
    prompt = prompt_of([("user", lettered(question.text, question.options))], offer.served.system)
    return offer.model.shares(prompt, LETTERS[:OPTIONS])[question.right]
