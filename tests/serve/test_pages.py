"""The quiz, the e-mail page, the emergency layout, the blind comparison and several assistants at once, driven in headless Chromium."""

import json
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from browsing import browsed, gradio_leftovers, outside
from ports import on_a_port

from lorikeet.engine import Prompt, Sampling
from lorikeet.released import Served

__all__ = ["gradio_leftovers"]
pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]
TEXTS = (
    "What pumps blood?",
    "Where is food digested?",
    "How many kidneys are usual?",
    "Which gas do we breathe out?",
    "What holds us upright?",
    "Where is the retina?",
    "What makes insulin?",
    "Who has blue blood?",
    "How long is a day?",
    "What do ears do?",
)


class Model:
    """Writes quiz questions where a schema is given, corrects one sentence, and else says its own word."""

    slots, context = 2, 1000

    def __init__(self, word: str = "word") -> None:
        self.word, self.written = word, 0

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return prompt

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        return [1.0, 0.0, 0.0, 0.0]

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Any = None) -> Generator[dict[str, Any]]:
        asked = prompt[-1].content
        if schema:
            row = {"question": TEXTS[self.written], "right_answer": "good", "wrong_answers": ["bad", "worse", "worst"], "explanation": "So it is."}
            self.written += 1
            time.sleep(0.1)
            text = json.dumps(row)
        else:
            text = "I sent it yesterday." if asked == "I has sended it yesterday." else self.word if self.word != "same" else asked
        yield {"choices": [{"delta": {"content": text}, "finish_reason": None}]}
        yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def served(folder: Path, name: str = "helper", **persona: Any) -> Served:
    file = folder / f"{name}.gguf"
    file.write_bytes(b"GGUF" * 1000)
    return Served(
        **{"path": file, "quantisation": "Q8_0", "sha256": "ab" * 32, "approved": True, "verdict": "approved", "reasons": (), "title": "Helper", **persona}
    )


def opened(*offers: tuple[Served, Model]) -> Iterator[Any]:
    from lorikeet.serve import api
    from lorikeet.serve.app import mount
    from lorikeet.serve.offer import Offer

    made = [Offer(*offer) for offer in offers]
    with on_a_port(mount(api.create(made), made, None)) as address, browsed(address) as (page, requests):
        yield page
        assert outside(requests, address) == []


def test_a_whole_quiz_from_topic_to_score(tmp_path: Path) -> None:
    for page in opened((served(tmp_path, quiz=True), Model())):
        page.get_by_role("tab", name="Quiz").click()
        page.get_by_label("Topic").fill("the body")
        page.get_by_role("button", name="Start").click()
        page.get_by_text("10 questions", exact=True).wait_for()
        for number, text in enumerate(TEXTS):
            page.get_by_text(f"{number + 1}. {text}").wait_for()
            page.get_by_role("radio").first.wait_for()
            page.get_by_label("bad" if number < 3 else "good").check()
            page.get_by_role("button", name="Answer", exact=True).click()
            page.locator("#quiz-feedback strong", has_text="Wrong: it is" if number < 3 else "Right.").first.wait_for()
            if number < 9:
                page.get_by_role("button", name="Next question").click()
        page.get_by_text("7 of 10 right.").wait_for()


def test_an_email_is_corrected_with_its_tone_and_one_without_faults_is_left(tmp_path: Path) -> None:
    for page in opened((served(tmp_path, layout="email"), Model("same"))):
        page.get_by_label("Your draft").fill("Hi Tom,\n\nI has sended it yesterday. Please read it soon.")
        page.get_by_role("button", name="Correct").click()
        page.locator(".changes ins", has_text="sent").first.wait_for()
        assert page.locator(".changes del").first.inner_text() == "has sended"
        assert page.locator("#corrected textarea").input_value() == "Hi Tom,\n\nI sent it yesterday. Please read it soon."
        assert page.get_by_role("img", name="Politeness").count() == 2
        page.get_by_label("Your draft").fill("Please read it soon, Tom.")
        page.get_by_role("button", name="Correct").click()
        page.get_by_text("Nothing to change.").wait_for()


def test_an_emergency_number_stands_on_top_in_large_type(tmp_path: Path) -> None:
    for page in opened((served(tmp_path, emergency_number="112"), Model("1. Leave the house.\n2. Call for help."))):
        page.get_by_text("In an emergency call 112 first").wait_for()
        page.locator("textarea").first.fill("Fire")
        page.keyboard.press("Enter")
        page.locator("li", has_text="Leave the house.").wait_for()
        assert float(page.locator("li", has_text="Leave the house.").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")) > 20


def test_a_blind_comparison_hides_names_until_the_pick_and_counts_it(tmp_path: Path) -> None:
    for page in opened((served(tmp_path), Model("first answer")), (served(tmp_path, "other"), Model("second answer"))):
        page.get_by_role("tab", name="Blind comparison").click()
        page.get_by_label("Question").fill("Which?")
        page.get_by_role("button", name="Ask both").click()
        page.get_by_role("button", name="A is better").click()
        page.get_by_text("So far:").wait_for()
        first = page.get_by_label("A", exact=True).input_value() == "first answer"
        assert page.get_by_text(f"A was {'helper' if first else 'other'}").count() == 1
        assert page.get_by_text("no difference is shown yet").count() == 1


def test_several_assistants_have_a_tab_each(tmp_path: Path) -> None:
    for page in opened((served(tmp_path, title="Doctor"), Model("from the doctor")), (served(tmp_path, "tutor", title="Tutor"), Model("from the tutor"))):
        page.get_by_role("tab", name="Tutor").click()
        page.locator("textarea:visible").first.fill("Hello")
        page.keyboard.press("Enter")
        page.get_by_text("from the tutor").wait_for()
        assert page.get_by_text("from the doctor").count() == 0
