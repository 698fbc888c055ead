"""The general panel: fair questions, and a measure that falls where a model forgets."""

from collections import Counter
from pathlib import Path

from lorikeet.engine import Choices, Likelihood, Sampling
from lorikeet.engine.scripted import ScriptedEngine
from lorikeet.evaluate import panel


class Knowing(ScriptedEngine):
    """Weighs the choices named as it likes them: so many nats a character."""

    prefix_token = 0

    def __init__(self, likes: set[str]) -> None:
        super().__init__({})
        self._likes = likes

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return [ord(c) for c in text]

    def prompt_text(self, prompt):  # type: ignore[no-untyped-def]
        return prompt[-1].content

    def likelihoods(self, questions):  # type: ignore[no-untyped-def]
        for n, (_context, options) in enumerate(questions):
            said = ["".join(map(chr, option)) for option in options]
            yield n, [Likelihood(-len(text) * (0.5 if text.strip() in self._likes else 1.0), False) for text in said]

    def complete(self, texts, sampling: Sampling, stops):  # type: ignore[no-untyped-def]
        yield from ()


def test_every_question_has_four_choices_and_no_place_is_favoured() -> None:
    items = panel.questions()
    assert len(items) == len({i.id for i in items}) == len({i.question for i in items}) == 120
    assert all(len(set(i.choices)) == 4 for i in items)
    assert set(Counter(i.answer for i in items).values()) == {30}
    assert set(Counter(i.topic for i in items).values()) == {10}


def test_the_right_choice_is_not_the_longest_more_often_than_chance() -> None:
    longest = sum(len(i.choices[i.answer]) > max(len(c) for n, c in enumerate(i.choices) if n != i.answer) for i in panel.questions())
    assert longest <= 36


def test_texts_are_paragraphs_of_several_kinds() -> None:
    texts = panel.texts()
    assert len(texts) == len({text for _, text in texts}) == 40
    assert all(55 <= len(text.split()) <= 95 for _, text in texts)


def test_one_who_knows_all_is_right_and_one_who_knows_none_is_not() -> None:
    items = panel.questions()[:8]
    knows, errs = ({i.choices[(i.answer + off) % 4] for i in items} for off in (0, 1))
    for likes, right in ((knows, 1.0), (errs, 0.0)):
        acc, loss = panel.ask(Knowing(likes), items, panel.texts()[:3])
        assert acc.measure("tuned", 1).value == right
        assert loss.measure("tuned", 1).value == 1.0
        assert acc.name == "general.acc"
        assert loss.name == "general.loss"


def test_a_panel_ships_with_the_package() -> None:
    assert (Path(panel.__file__).parent / "questions.jsonl").is_file()
    assert isinstance(Choices([0], [[1]]), tuple)
