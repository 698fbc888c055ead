"""The terminal chat, driven through a pipe with an engine that tells what it was asked."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorikeet.engine import Prompt, Sampling
from lorikeet.released import Served
from lorikeet.terminal_chat import talk


class Echo:
    """Answers with all turns it was given."""

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return prompt

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        yield " | ".join(f"{m.role[0]}:{m.content}" for m in prompt)


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: str, **persona: object) -> tuple[list[str], str]:
    served = Served(Path("x.gguf"), "Q8_0", "", True, "approved", (), "Helper", "You help.", **persona)  # type: ignore[arg-type]
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    talk(served, Echo())  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    return out.splitlines(), err


def test_a_chat_remembers_until_it_is_reset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(monkeypatch, capsys, "one\ntwo\n/reset\nthree\n")
    assert out[:3] == ["s:You help. | u:one", "s:You help. | u:one | a:s:You help. | u:one | u:two", "s:You help. | u:three"]


def test_questions_stand_by_themselves_where_the_set_was_taught_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(monkeypatch, capsys, "one\ntwo\n", single_turn=True)
    assert out[:2] == ["s:You help. | u:one", "s:You help. | u:two"]


def test_a_mode_changes_the_system_turn_and_an_unknown_one_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    modes = (("explain", "Explain."), ("hint", "Hint."))
    out, err = said(monkeypatch, capsys, "one\n/mode hint\ntwo\n/mode quiz\nthree\n", modes=modes, single_turn=True)
    assert out[:3] == ["s:Explain. | u:one", "s:Hint. | u:two", "s:Hint. | u:three"]
    assert err == "there is no mode 'quiz'; one of: explain, hint\n"
