"""Files to a stand-in for the Hub by the real client: who may, what is taken up again, what is refused, and that what lies there is what was sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub_repos import Hub, Repo, hub_on_a_port

from lorikeet.errors import LorikeetError, MachineError, RecipeError, RefusedError
from lorikeet.publish import hub as ours
from lorikeet.publish.bundle import Item

NAME = "me/helper"
TOKEN = "hf_may-write-this-in-tests"


class Said:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, what: str, done: int, total: int, detail: str = "") -> None:
        self.lines.append(detail)

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("lorikeet.publish.hub.PAUSES", (0.01, 0.01, 0.01))
    with hub_on_a_port(Hub()) as made:
        yield made


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    (tmp_path / "helper.gguf").write_bytes(b"GGUF" + bytes(range(256)) * 40)
    return [Item("README.md", b"# Helper\n"), Item("helper.gguf", tmp_path / "helper.gguf"), Item("release.json", b"{}")]


def push(hub: Hub, items: list[Item], name: str = NAME, said: Said | None = None) -> ours.Pushed:
    return ours.push(items, name, "model", said or Said(), endpoint=hub.endpoint)


def test_what_lies_there_is_what_was_sent_and_what_is_gone_is_taken_out(hub: Hub, items: list[Item]) -> None:
    pushed = push(hub, items)
    repo = hub.repos[f"models/{NAME}"]
    assert repo.files == {item.path: item.read() for item in items}
    assert (repo.commits, hub.uploads, pushed.commit) == (1, 1, f"{1:040x}")
    push(hub, [*items[:1], items[2]])
    assert sorted(repo.files) == ["README.md", "release.json"]


def test_an_interrupted_push_brings_nothing_up_twice_and_shows_nothing_before_the_commit(hub: Hub, items: list[Item]) -> None:
    hub.fails["commit"] = [500] * 4
    with pytest.raises(MachineError, match="answered 500"):
        push(hub, items)
    assert (hub.uploads, hub.repos[f"models/{NAME}"].files) == (1, {})
    push(hub, items)
    assert hub.uploads == 1


def test_a_busy_hub_and_a_cut_line_are_waited_for(hub: Hub, items: list[Item]) -> None:
    hub.fails = {"whoami": [429], "create": [0], "preupload": [503], "commit": [429, 502]}
    said = Said()
    push(hub, items, said=said)
    assert sum("again in" in line for line in said.lines) >= 3
    assert hub.repos[f"models/{NAME}"].commits == 1


@pytest.mark.parametrize(
    ("trouble", "told"),
    [({"whoami": [401] * 9}, "does not know the token"), ({"commit": [403] * 9}, "may not write"), ({"commit": [409] * 9}, "changed by somebody else"),
     ({"commit": [412] * 9}, "changed by somebody else"), ({"upload": [500] * 99}, "answered 500")],
)  # fmt: skip
def test_troubles_are_told_without_the_token(hub: Hub, items: list[Item], trouble: dict[str, list[int]], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.fails = trouble
    said = Said()
    with pytest.raises(LorikeetError, match=told) as raised:
        push(hub, items, said=said)
    assert TOKEN not in f"{raised.value.message}{raised.value.cure}{raised.value.__cause__}{said.lines}"


def test_a_token_that_only_reads_and_an_owner_who_is_somebody_else_are_refused_before_anything_is_made(
    hub: Hub, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RefusedError, match="stranger is neither you nor an organisation of yours"):
        push(hub, items, "stranger/helper")
    push(hub, items, "lab/helper")
    monkeypatch.setenv("HF_TOKEN", "hf_may-read-this-in-tests")
    with pytest.raises(RefusedError, match="can only read"):
        push(hub, items)
    assert list(hub.repos) == ["models/lab/helper"]


def test_no_token_and_a_name_that_cannot_be_are_told(hub: Hub, items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="cannot be the name"):
        push(hub, items, "helper")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(LorikeetError, match="no token of the Hub"):
        push(hub, items)


def test_a_name_that_is_taken_by_something_else_is_left_alone(hub: Hub, items: list[Item]) -> None:
    hub.repos[f"models/{NAME}"] = Repo({"thesis.pdf": b"%PDF"})
    with pytest.raises(RefusedError, match=r"holds something else \(thesis\.pdf\)"):
        push(hub, items)
    assert hub.repos[f"models/{NAME}"].files == {"thesis.pdf": b"%PDF"}


@pytest.mark.parametrize("path", ["helper.gguf", "README.md"])
def test_what_arrives_changed_is_told(hub: Hub, items: list[Item], path: str) -> None:
    hub.spoils = path
    with pytest.raises(MachineError, match=f"{path} is not what was sent"):
        push(hub, items)


def test_by_xet_the_client_asks_for_a_token_to_write_with_and_a_refusal_is_told(hub: Hub, items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    hub.fails["xet"] = [403] * 99
    with pytest.raises(MachineError, match="could not be reached, or the line was cut"):
        push(hub, items)
    assert "xet" in hub.asked
    assert hub.repos[f"models/{NAME}"].files == {}
