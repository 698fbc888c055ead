"""The page: a chat driven end to end in headless Chromium, with every request of the page looked at."""

import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import browsed, gradio_leftovers, outside
from ports import on_a_port

from lorikeet.conversation import Rating
from lorikeet.engine import Prompt, Sampling
from lorikeet.errors import LorikeetError
from lorikeet.progress import Silent
from lorikeet.released import Served

__all__ = ["gradio_leftovers"]
ANSWER = ["Pinch", "the", "soft", "part", "of", "the", "nose", "and", "lean", "forward."]


class FakeServer:
    """Says ANSWER, or counts until it is stopped when asked to count."""

    slots, context = 2, 2048

    def __init__(self) -> None:
        self.stopped = 0
        self.asked: list[Prompt] = []

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return prompt

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Any = None) -> Generator[dict[str, Any]]:
        self.asked.append(prompt)
        counting = "count" in prompt[-1].content
        finished = False
        try:
            for word in (str(n) for n in range(1000)) if counting else ANSWER:
                time.sleep(0.05)
                yield {"choices": [{"delta": {"content": word + " "}, "finish_reason": None}]}
            yield {"choices": [], "usage": {"completion_tokens": len(ANSWER)}, "timings": {"predicted_per_second": 20.0}}
            finished = True
        finally:
            self.stopped += not finished


@contextmanager
def shown(tmp_path: Path, approved: bool, key: str | None = None, record: Any = None, **persona: Any) -> Iterator[tuple[str, FakeServer]]:
    """The page on a port of the loopback; yields its address and the engine behind it."""
    from lorikeet.serve import api
    from lorikeet.serve.app import mount
    from lorikeet.serve.offer import Offer

    file = tmp_path / "helper.gguf"
    file.write_bytes(b"GGUF" * 1000)
    served = Served(file, "Q8_0", "ab" * 32, approved, "approved" if approved else "blocked", () if approved else ("2 of 40 answers broke a <rule>",),
                    "First-aid assistant", "You help.", "Not a doctor.", "What has happened?", ("My nose bleeds.",), **persona)  # fmt: skip
    engine = FakeServer()
    app = mount(api.create([Offer(served, engine)], key=key), [Offer(served, engine)], key, record)
    with on_a_port(app) as address:
        yield address, engine


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_a_chat_end_to_end_asks_no_other_machine(tmp_path: Path) -> None:
    with shown(tmp_path, approved=True) as (address, engine), browsed(address) as (page, requests):
        page.get_by_text("Not a doctor.").wait_for()
        page.get_by_text("helper.gguf, 0 MB, approved").wait_for()
        assert page.get_by_role("alert").count() == 0
        page.get_by_text("My nose bleeds.").click()
        page.get_by_text(" ".join(ANSWER)).wait_for()
        page.get_by_text("10 tokens, 20.0 a second").wait_for()
        page.locator("textarea").first.fill("And then?")
        page.keyboard.press("Enter")
        page.get_by_text(" ".join(ANSWER)).nth(1).wait_for()
        assert [(m.role, m.content.strip()) for m in engine.asked[1]] == [
            ("system", "You help."), ("user", "My nose bleeds."), ("assistant", " ".join(ANSWER)), ("user", "And then?")]  # fmt: skip
        assert outside(requests, address) == []


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_a_mode_is_chosen_on_the_page_and_each_question_stands_by_itself(tmp_path: Path) -> None:
    modes = (("explain", "You help. Explain."), ("hint", "You help. Give a hint."))
    with shown(tmp_path, approved=True, modes=modes, single_turn=True) as (address, engine), browsed(address) as (page, _):
        page.get_by_text("My nose bleeds.").click()
        page.get_by_text(" ".join(ANSWER)).wait_for()
        page.get_by_label("hint").check()
        page.locator("textarea").first.fill("And then?")
        page.keyboard.press("Enter")
        page.get_by_text(" ".join(ANSWER)).nth(1).wait_for()
        assert [[(m.role, m.content.strip()) for m in prompt] for prompt in engine.asked] == [
            [("system", "You help. Explain."), ("user", "My nose bleeds.")], [("system", "You help. Give a hint."), ("user", "And then?")]]  # fmt: skip


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_the_stop_button_and_a_closed_tab_stop_the_model(tmp_path: Path) -> None:
    with shown(tmp_path, approved=True) as (address, engine), browsed(address) as (page, _):
        for stops, leave in enumerate((page.locator("button.stop-button").click, page.close), 1):
            page.locator("textarea").first.fill("count")
            page.keyboard.press("Enter")
            page.get_by_text("0 1 2 3").nth(stops - 1).wait_for()
            leave()
            deadline = time.monotonic() + 10
            while engine.stopped < stops and time.monotonic() < deadline:
                time.sleep(0.05)
            assert engine.stopped == stops


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_an_unapproved_model_stands_under_a_red_banner_at_phone_width(tmp_path: Path) -> None:
    with shown(tmp_path, approved=False) as (address, _), browsed(address, viewport={"width": 390, "height": 780}, color_scheme="dark") as (page, _requests):
        banner = page.locator(".unreleased")
        banner.wait_for()
        assert "2 of 40 answers broke a <rule>" in banner.inner_text()
        assert banner.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(176, 0, 32)"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_a_rating_is_kept_after_consent_and_its_comment_belongs_to_that_reply(tmp_path: Path) -> None:
    kept: list[Rating] = []
    with shown(tmp_path, approved=True, record=kept.append) as (address, _), browsed(address) as (page, _):
        for number, question in enumerate(("My nose bleeds badly.", "And then?"), 1):
            page.locator("textarea").first.fill(question)
            page.keyboard.press("Enter")
            page.get_by_text(" ".join(ANSWER)).nth(number - 1).wait_for()
            page.get_by_text("10 tokens, 20.0 a second").wait_for()
            page.wait_for_timeout(300)
        page.get_by_label("Dislike").first.click()
        page.get_by_text("Nothing else that you type here is kept.").wait_for()
        assert kept == []
        page.get_by_label("Comment").fill("Too short.")
        page.get_by_label("What should it have said?").fill("Sit up and lean forward.")
        page.get_by_text("I agree: keep my rating").click()
        page.get_by_text("your rating is kept").wait_for()
        first = kept[-1]
        assert (first.liked, first.liked_index, first.comment, first.correction) == (False, (0, 1), "Too short.", "Sit up and lean forward.")
        assert [pair[0] for pair in first.chat_history] == ["My nose bleeds badly."]
        assert (first.model_sha256, first.system, first.controls["temperature"]) == ("ab" * 32, "You help.", 0.0)
        page.get_by_label("Like", exact=True).last.click()
        page.get_by_text("A comment can be added to it.").wait_for()
        second = kept[-1]
        assert (second.liked, second.liked_index, second.comment) == (True, (1, 1), "")
        assert [pair[0] for pair in second.chat_history] == ["My nose bleeds badly.", "And then?"]
        page.get_by_label("Comment").fill("Good.")
        page.get_by_text("Add to my rating").click()
        page.wait_for_timeout(500)
        assert (kept[-1].id, kept[-1].comment, kept[-1].rater) == (second.id, "Good.", first.rater)


def test_a_rating_where_each_question_stands_by_itself_is_read_back(tmp_path: Path) -> None:
    from lorikeet.feedback.ratings import read
    from lorikeet.journal import Journal
    from lorikeet.serve.page import Said, rating

    served = Served(tmp_path / "x.gguf", "Q8_0", "ab" * 32, True, "approved", (), "Helper", "You help.", single_turn=True)
    history = [{"role": role, "content": text} for text in ("one", "two") for role in ("user", "assistant")]
    journal = Journal(tmp_path / "feedback")
    journal.record(rating(history, 3, True, Said("x", "", "You help.", {}), served, "somebody"))
    journal.close()
    kept = read(tmp_path / "feedback")
    assert kept.skipped == ()
    assert (kept.ratings[0].liked_index, kept.ratings[0].chat_history) == ((0, 1), (("two", "two"),))


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_another_model_is_chosen_on_the_page_and_an_unapproved_one_stands_under_a_banner(tmp_path: Path) -> None:
    from lorikeet.serve import api
    from lorikeet.serve.app import mount
    from lorikeet.serve.offer import Offer

    engines = FakeServer(), FakeServer()
    files = tmp_path / "helper.gguf", tmp_path / "base.gguf"
    for file in files:
        file.write_bytes(b"GGUF" * 1000)
    tuned = Served(files[0], "Q8_0", "ab" * 32, True, "approved", (), "Helper", "You help.")
    offers = [
        Offer(tuned, engines[0]),
        Offer(replace(tuned, path=files[1], quantisation="base", approved=False, verdict="not audited", reasons=("the base",)), engines[1]),
    ]
    with on_a_port(mount(api.create(offers), offers, None)) as address, browsed(address) as (page, _):
        page.get_by_label("Model").click()
        page.get_by_text("base, untuned (0 MB, not audited)").click()
        page.get_by_text("Do not rely on its answers.").wait_for()
        page.locator("textarea").first.fill("Hello")
        page.keyboard.press("Enter")
        page.get_by_text(" ".join(ANSWER)).wait_for()
    assert (len(engines[0].asked), len(engines[1].asked)) == (0, 1)


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_two_windows_do_not_mix_and_what_a_model_says_cannot_run(tmp_path: Path) -> None:
    evil = "<img src=x onerror=window.harm=1><script>window.harm=1</script>"
    with shown(tmp_path, approved=True) as (address, _), browsed(address) as (page, _):
        other = page.context.browser.new_context().new_page()
        other.goto(address)
        for window, question in ((page, f"first window {evil}"), (other, "second window")):
            window.locator("textarea").first.fill(question)
            window.keyboard.press("Enter")
        for window in (page, other):
            window.get_by_text(" ".join(ANSWER)).wait_for()
        assert page.get_by_text("second window").count() == 0
        assert other.get_by_text("first window").count() == 0
        assert page.evaluate("window.harm") is None


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_uploads_and_monitoring_are_closed_and_a_key_guards_the_page(tmp_path: Path) -> None:
    import httpx

    with shown(tmp_path, approved=True) as (address, _):
        assert httpx.post(f"{address}/gradio_api/upload", files={"files": b"x"}).status_code == 404
        assert httpx.get(f"{address}/monitoring").status_code == 404
        assert httpx.get(f"{address}/monitoring/summary").status_code == 404
    with shown(tmp_path, approved=True, key="sesame") as (address, _):
        assert httpx.get(f"{address}/config").status_code == 401
        assert httpx.post(f"{address}/gradio_api/queue/join", json={}).status_code == 401
        with httpx.Client(base_url=address) as client:
            assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
            assert client.post("/login", data={"username": "me", "password": "sesame"}).status_code == 200
            assert client.get("/config").status_code == 200


@pytest.mark.filterwarnings("ignore")
def test_a_port_that_cannot_be_had_is_an_error_before_the_model_is_loaded(tmp_path: Path) -> None:
    import socket

    from lorikeet.serve.app import Room, serve

    served = Served(tmp_path / "none.gguf", "Q8_0", "", True, "approved", (), "Helper")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (0, 70000, taken.getsockname()[1]):
            with pytest.raises(LorikeetError, match="port"):
                serve([served], "127.0.0.1", port, None, Room(1), Silent(), [None])
    with pytest.raises(LorikeetError, match="no key"):
        serve([served], "0.0.0.0", 8000, None, Room(1), Silent(), [None])


def test_serving_and_chatting_import_neither_torch_nor_transformers() -> None:
    code = "import sys, lorikeet.serve.app, lorikeet.terminal_chat; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120, check=False).returncode == 0
