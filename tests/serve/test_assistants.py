"""Every assistant on the real default base, served by the command and driven in headless Chromium; ratings outlive a killed server; two windows do not mix."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browsing import browsed, outside
from ports import free_port, until_healthy

from lorikeet import bases
from lorikeet.feedback import ratings
from lorikeet.suite import load_persona
from lorikeet.weights import NAMED

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RECIPES = Path(__file__).parents[2] / "recipes"


def run_of(folder: Path, like: str) -> Path:
    """A run's folder with a recipe's persona that has not been released: the default base stands in for what would have been tuned."""
    persona = load_persona(RECIPES / like / "persona.yaml")
    run = folder / like
    (run / "export-Q4_1-00000000").mkdir(parents=True)
    wheel = bases.wheel_file(NAMED["smollm2-135m"])
    assert wheel is not None
    (run / "export-Q4_1-00000000" / f"{like}.gguf").symlink_to(wheel)
    told = persona.model_dump(exclude={"modes"}) | {"modes": {mode: persona.prompt(mode) for mode in persona.modes}}
    (run / "run.json").write_text(json.dumps({"name": like, "base": {"name": "smollm2-135m"}, **told}))
    return run


@contextmanager
def serving(run: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`lorikeet serve` in a process group of its own; yields its address when it answers."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "lorikeet", "serve", str(run), "--unreleased", "--port", str(port), "--slots", "4"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE) as process:
        try:
            until_healthy(address, process)
            yield address, process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def brief(page: Any) -> None:
    """Short answers: a base that was not tuned talks on."""
    page.get_by_text("Controls").click()
    page.get_by_label("number input for Longest answer, in tokens").fill("24")
    page.get_by_label("number input for Longest answer, in tokens").press("Tab")


def ask(page: Any, question: str) -> str:
    """Ask on the chat and wait for the answer's end."""
    answers = page.locator(".bot.message").count()
    page.locator("textarea:visible").first.fill(question)
    page.keyboard.press("Enter")
    page.locator(".bot.message", has_text=re.compile(r"\w")).nth(answers).wait_for()
    page.locator("button.stop-button").wait_for(state="hidden", timeout=120_000)
    page.locator("#speed", has_text=re.compile(r"tokens, [\d.]+ a second")).last.wait_for()
    assert page.locator(".bot.message").count() == answers + 1
    return str(page.locator(".bot.message").last.inner_text())


def test_first_aid_is_asked_stopped_rated_and_switched_to_the_base(tmp_path: Path) -> None:
    run = run_of(tmp_path, "first-aid")
    with serving(run) as (address, _), browsed(address) as (page, requests):
        page.get_by_text("This model has not passed its safety gate").wait_for()
        brief(page)
        answer = ask(page, "How is a nosebleed stopped?")
        assert len(answer.split()) > 5
        page.get_by_label("Like", exact=True).last.click()
        page.get_by_label("Comment").fill("Clear.")
        page.get_by_text("I agree: keep my rating").click()
        page.get_by_text("your rating is kept").wait_for()
        kept = ratings.read(run / "feedback").ratings[0]
        assert (kept.liked, kept.comment, kept.model_name, kept.chat_history[0][0]) == (True, "Clear.", "first-aid", "How is a nosebleed stopped?")
        assert kept.liked_value.split()[:5] == answer.split()[:5]
        page.get_by_label("Model").click()
        page.get_by_text("base, untuned").last.click()
        page.get_by_text("SmolLM2-135M-Instruct.Q4_1.gguf,").wait_for()
        page.get_by_label("number input for Longest answer, in tokens").fill("512")
        page.get_by_label("number input for Longest answer, in tokens").press("Tab")
        page.locator("textarea:visible").first.fill("Tell me everything about bones, at great length.")
        page.keyboard.press("Enter")
        page.locator(".bot.message", has_text=re.compile(r"\w+ \w+ \w+")).nth(1).wait_for()
        page.locator("button.stop-button").click()
        page.wait_for_timeout(1500)
        cut = page.locator(".bot.message").nth(1).inner_text()
        page.wait_for_timeout(1500)
        assert page.locator(".bot.message").nth(1).inner_text() == cut
        assert outside(requests, address) == []


def test_the_tutor_changes_its_mode_in_the_middle_of_a_talk_and_asks_a_whole_quiz(tmp_path: Path) -> None:
    with serving(run_of(tmp_path, "ml-tutor")) as (address, _), browsed(address) as (page, requests):
        brief(page)
        ask(page, "What is overfitting?")
        page.get_by_text("System prompt").click()
        page.get_by_label("hint").check()
        page.wait_for_function("[...document.querySelectorAll('textarea')].some(t => t.value.endsWith('Give a hint.'))")
        ask(page, "What is a learning rate?")
        assert page.locator(".bot.message").count() == 2
        page.get_by_role("tab", name="Quiz").click()
        page.get_by_label("Topic").fill("the human body")
        page.get_by_role("button", name="Start").click()
        page.get_by_text(re.compile(r"^\d+ questions")).wait_for(timeout=240_000)
        asked = int(page.get_by_text(re.compile(r"^\d+ questions")).inner_text().split()[0])
        assert asked >= 8
        for number in range(asked):
            page.get_by_text(re.compile(rf"^{number + 1}\. ")).first.wait_for()
            page.get_by_role("tabpanel").get_by_role("radio").locator("visible=true").first.check()
            page.get_by_role("button", name="Answer", exact=True).click()
            page.locator("#quiz-feedback strong").first.wait_for()
            if number + 1 < asked:
                page.get_by_role("button", name="Next question").click()
        page.get_by_text(re.compile(r"\d+ of \d+ right")).first.wait_for()
        assert outside(requests, address) == []


def test_an_email_goes_through_and_the_emergency_number_stands_on_top(tmp_path: Path) -> None:
    with serving(run_of(tmp_path, "email")) as (address, _), browsed(address) as (page, requests):
        page.get_by_label("Your draft").fill("Hi Tom,\n\nI has sended you the report yesterday. Read it.")
        page.get_by_role("button", name="Correct").click()
        page.locator("#said", has_text=re.compile("sentences read|Nothing to change")).wait_for(timeout=60_000)
        assert page.locator("#corrected textarea").input_value().startswith("Hi Tom,\n\n")
        assert page.get_by_role("img", name="Politeness").count() >= 1
        assert outside(requests, address) == []
    with serving(run_of(tmp_path, "emergency")) as (address, _), browsed(address) as (page, requests):
        page.get_by_text("In an emergency call 112").wait_for()
        brief(page)
        ask(page, "There is a smell of gas.")
        assert outside(requests, address) == []


def test_two_windows_do_not_mix_and_a_blind_pick_is_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path, "first-aid")
    with serving(run) as (address, _), browsed(address) as (page, _):
        other = page.context.browser.new_context().new_page()
        other.goto(address)
        asked = ((page, "Name three colours of the rainbow."), (other, "What is the capital of France?"))
        for window, question in asked:
            brief(window)
            window.locator("textarea:visible").first.fill(question)
            window.keyboard.press("Enter")
        for window, _ in asked:
            window.get_by_text(re.compile(r"\d+ tokens, [\d.]+ a second")).wait_for(timeout=60_000)
        for window, question in asked:
            assert window.locator(".user.message").all_inner_texts() == [question]
            assert window.locator(".bot.message").count() == 1
        assert page.locator(".bot.message").inner_text() != other.locator(".bot.message").inner_text()
        page.get_by_role("tab", name="Blind comparison").click()
        page.get_by_label("Question").fill("Why is the sky blue?")
        page.get_by_role("button", name="Ask both").click()
        page.get_by_role("button", name="B is better").click(timeout=120_000)
        page.get_by_text("So far:").wait_for()
        assert len(list((run / "feedback").glob("picks-*.jsonl"))) == 1


def test_a_server_that_is_killed_while_people_rate_loses_no_rating_that_it_said_thanks_for(tmp_path: Path) -> None:
    run = run_of(tmp_path, "first-aid")
    thanked: list[tuple[str, bool]] = []
    for start in range(2):
        with serving(run) as (address, process), browsed(address) as (page, _):
            brief(page)
            for number in range(3):
                question = f"Question {number} of start {start}?"
                ask(page, question)
                page.get_by_label("Dislike" if number % 2 else "Like", exact=True).last.click()
                page.locator("#rating").wait_for()
                if not number:
                    page.get_by_text("I agree: keep my rating").click()
                page.get_by_text("your rating is kept").wait_for()
                thanked.append((question, number % 2 == 0))
            os.killpg(process.pid, signal.SIGKILL)
    kept = [(rating.chat_history[-1][0], rating.liked) for rating in ratings.read(run / "feedback").ratings]
    assert sorted(kept) == sorted(thanked)
