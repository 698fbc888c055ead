"""Ratings pushed to a stand-in for the Hub by the real client: what goes up, what is told when it fails, and that nobody waits for it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub_writes import TOKEN, WritableHub, serving_writes
from huggingface_hub import constants
from ports import free_port
from toy_ratings import rating

from lorikeet.errors import LorikeetError, RecipeError
from lorikeet.feedback import sync
from lorikeet.feedback.ratings import read
from lorikeet.feedback.sync import Sync
from lorikeet.journal import Journal

NAME = "owner/feedback"
OFTEN = 0.1 / 60
"""Minutes between pushes."""


class Said:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, what: str, done: int, total: int, detail: str = "") -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With a token, and the Hub's client as it is at first."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield
    huggingface_hub.close_session()


@pytest.fixture
def hub() -> Iterator[WritableHub]:
    with serving_writes(WritableHub(NAME)) as running:
        yield running


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a Hub that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


@pytest.fixture
def said() -> Said:
    return Said()


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def pushed(hub: WritableHub, times: int) -> None:
    until(lambda: len(hub.commits) >= times)


def ids_on(hub: WritableHub, tmp_path: Path) -> set[str]:
    """The ratings that the Hub holds."""
    folder = tmp_path / "hub"
    folder.mkdir(exist_ok=True)
    for name, content in dict(hub.files).items():
        (folder / Path(name).name).write_bytes(content)
    return {one.id for one in read(folder).ratings}


def test_what_is_recorded_goes_up_as_whole_files_to_a_private_data_set(hub: WritableHub, said: Said, tmp_path: Path) -> None:
    journal, given = Journal(tmp_path / "feedback"), [rating() for _ in range(3)]
    with Sync([tmp_path / "feedback"], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        for number, one in enumerate(given, 1):
            journal.record(one)
            pushed(hub, number)
    (file,) = (tmp_path / "feedback").iterdir()
    assert hub.files == {f"data/{file.name}": file.read_bytes()}
    assert ids_on(hub, tmp_path) == {one.id for one in given}
    assert hub.made == [{"name": "feedback", "organization": "owner", "visibility": "private", "type": "dataset"}]
    assert not said.lines


def test_the_ratings_of_several_runs_go_to_one_data_set(hub: WritableHub, said: Said, tmp_path: Path) -> None:
    given = {name: rating() for name in ("mail", "tutor")}
    with Sync([tmp_path / name for name in given], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        for name, one in given.items():
            Journal(tmp_path / name).record(one)
        until(lambda: len(hub.files) == 2)
    assert ids_on(hub, tmp_path) == {one.id for one in given.values()}
    assert not said.lines


def test_what_came_last_goes_up_at_the_end(hub: WritableHub, said: Said, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with Sync([tmp_path], NAME, progress=said, endpoint=hub.endpoint):
        until(lambda: hub.there)
        journal.record(last := rating())
    (content,) = hub.files.values()
    assert json.loads(content)["id"] == last.id


def test_nothing_but_journals_goes_up(hub: WritableHub, said: Said, tmp_path: Path) -> None:
    for name in ("feedback.jsonl", "rows.jsonl", "ratings-1.jsonl", "guard.jsonl"):
        (tmp_path / name).write_text("{}\n")
    with Sync([tmp_path], NAME, progress=said, endpoint=hub.endpoint):
        pass
    assert list(hub.files) == ["data/ratings-1.jsonl"]


def test_what_has_not_changed_is_not_pushed_again_by_the_next_one(hub: WritableHub, said: Said, tmp_path: Path) -> None:
    Journal(tmp_path).record(rating())
    for _ in range(2):
        with Sync([tmp_path], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
            pushed(hub, 1)
    assert len(hub.commits) == 1


def test_a_hub_that_is_down_at_the_start_gets_all_when_it_is_there(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FIRST_PAUSE", 0.05)
    journal, port, hub = Journal(tmp_path / "feedback"), free_port(), WritableHub(NAME)
    with Sync([tmp_path / "feedback"], NAME, OFTEN, progress=said, endpoint=f"http://127.0.0.1:{port}"):
        journal.record(first := rating())
        until(lambda: said.lines)
        time.sleep(0.5)
        assert len(said.lines) == 1
        with serving_writes(hub, port):
            until(lambda: hub.commits and len(said.lines) > 1)
            journal.record(second := rating())
            pushed(hub, 2)
    assert ids_on(hub, tmp_path) == {first.id, second.id}
    told, again = said.lines
    assert told.startswith(f"ratings are not pushed to {NAME}: no answer of the Hub could be used (ConnectError); they are kept in {tmp_path / 'feedback'};")
    assert again == f"ratings are pushed to {NAME} now"


def test_pauses_grow_up_to_the_turn_while_the_hub_is_down(said: Said, tmp_path: Path) -> None:
    down = Sync([tmp_path], NAME, 0.5, progress=said, endpoint=f"http://127.0.0.1:{free_port()}")
    assert [down._try() for _ in range(5)] == [5, 10, 20, 30, 30]
    assert len(said.lines) == 1


@pytest.mark.parametrize("step", ["create", "info", "commit"])
def test_an_error_of_the_hub_is_told_once_and_the_next_turns_push_all(hub: WritableHub, said: Said, tmp_path: Path, step: str) -> None:
    hub.fails[step] = [500, 502, 500]
    journal = Journal(tmp_path / "feedback")
    journal.record(first := rating())
    with Sync([tmp_path / "feedback"], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        until(lambda: hub.commits and len(said.lines) > 1)
        journal.record(second := rating())
        pushed(hub, 2)
    assert ids_on(hub, tmp_path) == {first.id, second.id}
    assert [line.partition(";")[0] for line in said.lines] == [f"ratings are not pushed to {NAME}: the Hub answered 500", f"ratings are pushed to {NAME} now"]


def test_an_error_in_the_middle_loses_nothing(hub: WritableHub, said: Said, tmp_path: Path) -> None:
    journal, given = Journal(tmp_path / "feedback"), [rating() for _ in range(3)]
    with Sync([tmp_path / "feedback"], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        journal.record(given[0])
        pushed(hub, 1)
        hub.fails["commit"] = [500, 500]
        journal.record(given[1])
        until(lambda: len(said.lines) == 2)
        journal.record(given[2])
        pushed(hub, 3)
    assert ids_on(hub, tmp_path) == {one.id for one in given}
    assert hub.commits[0] == hub.commits[-1]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("step", ["create", "commit"])
def test_a_refusal_is_told_with_its_cure_and_not_asked_again_soon(hub: WritableHub, said: Said, tmp_path: Path, step: str, status: int) -> None:
    hub.fails[step] = [status] * 50
    Journal(tmp_path).record(rating())
    with Sync([tmp_path], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        until(lambda: said.lines)
        time.sleep(0.5)
        assert hub.asked.count(step) == 1
    (told,) = said.lines
    assert f"the Hub refuses the token ({status})" in told
    assert f"give one that may write to {NAME}: set HF_TOKEN, or run `hf auth login`" in told


def test_a_refusal_that_is_mended_is_told_too(hub: WritableHub, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "REFUSED_PAUSE", 0.2)
    Journal(tmp_path).record(rating())
    monkeypatch.setenv("HF_TOKEN", "hf_of-yesterday")
    with Sync([tmp_path], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        until(lambda: said.lines)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        until(lambda: len(said.lines) > 1)
    assert len(hub.commits) == 1
    assert said.lines[-1] == f"ratings are pushed to {NAME} now"


def test_a_public_data_set_gets_nothing(hub: WritableHub, said: Said, tmp_path: Path) -> None:
    hub.there, hub.private = True, False
    Journal(tmp_path).record(rating())
    with Sync([tmp_path], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        until(lambda: said.lines)
    assert not hub.files
    assert "the data set is public" in said.lines[0]


@pytest.mark.parametrize("token", ["hf_not-known", "hf_not\vknown", "hf_n\u00f6t-known"])
def test_the_token_is_in_no_message(
    hub: WritableHub, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    Journal(tmp_path).record(rating())
    with Sync([tmp_path], NAME, OFTEN, progress=said, endpoint=hub.endpoint):
        until(lambda: said.lines)
    printed = capfd.readouterr()
    assert "known" not in "".join([*said.lines, printed.out, printed.err])


@pytest.mark.parametrize("name", ["feedback", "owner/feed/back", "owner/", "/feedback", "owner/feed back", "owner/a--b", "owner/feedback@main", ""])
def test_a_name_that_cannot_be_is_refused_at_once(said: Said, tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be the name of a data set") as error:
        Sync([tmp_path], name, progress=said)
    assert "owner/name" in error.value.cure


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused_at_once(said: Said, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(RecipeError, match="cannot be pushed every"):
        Sync([tmp_path], NAME, minutes, progress=said)


def test_without_a_token_it_is_refused_at_once_with_the_cure(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LorikeetError, match="there is no token of the Hub") as error:
        Sync([tmp_path], NAME, progress=said)
    assert error.value.cure == "set HF_TOKEN, or run `hf auth login`"


def test_a_hub_that_is_silent_is_given_up(silent: str, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "ANSWER_TIME", 0.2)
    with Sync([tmp_path], NAME, OFTEN, progress=said, endpoint=silent):
        until(lambda: said.lines)
    assert "no answer of the Hub could be used (ReadTimeout)" in said.lines[0]


ENDING = """
import sys
from pathlib import Path
from lorikeet.feedback import sync
from lorikeet.progress import Terminal
sync.LAST_PUSH, sync.ANSWER_TIME = 3.0, 600.0
with sync.Sync([Path(sys.argv[1])], "owner/feedback", progress=Terminal(), endpoint=sys.argv[2]):
    print("serving", flush=True)
"""


def ended(folder: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "HF_HUB_OFFLINE": "0"}
    return subprocess.run([sys.executable, "-c", ENDING, str(folder), endpoint], capture_output=True, text=True, timeout=30, env=here)


def test_the_process_ends_in_time_although_the_hub_is_silent(silent: str, tmp_path: Path) -> None:
    done = ended(tmp_path, silent)
    assert (done.returncode, done.stdout) == (0, "serving\n")
    assert done.stderr == f"the last ratings were not pushed to {NAME} within 3 seconds; they are kept in {tmp_path}\n"


def test_the_process_ends_in_time_although_a_push_hangs(hub: WritableHub, tmp_path: Path) -> None:
    Journal(tmp_path).record(rating())
    hub.slow["preupload"] = 60
    done = ended(tmp_path, hub.endpoint)
    assert (done.returncode, done.stdout) == (0, "serving\n")
    assert done.stderr == f"the last ratings were not pushed to {NAME} within 3 seconds; they are kept in {tmp_path}\n"
    assert "preupload" in hub.asked
