"""What leaves: approved files alone, nothing private, exactly what the dry run lists; and a folder that is served as it lies there."""

import json
from pathlib import Path

import pytest
from fake_hub_repos import Hub, hub_on_a_port
from toy_release import released_run

from lorikeet import released
from lorikeet.errors import RecipeError, RefusedError
from lorikeet.progress import Silent
from lorikeet.publish import stage
from lorikeet.publish.stage import Wanted

NAME = "me/helper"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return released_run(tmp_path / "run")


def test_what_goes_up_is_what_the_dry_run_lists(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_may-write-this-in-tests")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    planned = stage.plan(run, Wanted(NAME, data="me/rows", space="me/space", feedback="me/said"))
    with hub_on_a_port(Hub()) as hub:
        urls = stage.push(planned, Silent(), private=True, endpoint=hub.endpoint)
    assert list(urls) == [NAME, "me/rows", "me/space"]
    for repository, key in zip(planned.repositories, ("models/me/helper", "datasets/me/rows", "spaces/me/space"), strict=True):
        there = hub.repos[key]
        listed = {item.path: item.size for item in repository.items}
        assert {path: len(content) for path, content in there.files.items()} == listed
        assert there.made.get("private") or there.made.get("visibility") == "private"
    assert f'REVISION, FEEDBACK = "me/helper", "{1:040x}", "me/said"' in hub.repos["spaces/me/space"].files["app.py"].decode()


def test_approved_files_alone_leave_and_no_path_of_this_machine(run: Path) -> None:
    items = {item.path: item for item in stage.plan(run, Wanted(NAME)).repositories[0].items}
    assert {path for path in items if path.endswith(".gguf")} == {"helper-F16.gguf", "helper-Q8_0.gguf"}
    assert json.loads(items["adapter/adapter_config.json"].read())["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert not [path for path, item in items.items() if str(run).encode() in item.read()]
    alone = stage.plan(run, Wanted(NAME, quantisation="q8_0")).repositories[0].items
    assert [item.path for item in alone if item.path.endswith(".gguf")] == ["helper-Q8_0.gguf"]


def test_a_folder_is_served_as_it_lies_there_and_a_changed_file_is_not(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "helper"
    stage.write(stage.plan(run, Wanted()), folder)
    served = released.find(folder, unreleased=False)
    assert (served.approved, served.title, served.system, served.quantisation) == (True, "Helper", "You help.", "Q8_0")
    assert (folder / "Modelfile").read_text() == "FROM ./helper-Q8_0.gguf\n"
    (folder / "helper-Q8_0.gguf").write_bytes(b"GGUF changed")
    with pytest.raises(RefusedError, match="changed after the audit"):
        released.find(folder, unreleased=False)
    with pytest.raises(RecipeError, match="exists already"):
        stage.write(stage.plan(run, Wanted()), folder)


@pytest.mark.parametrize(
    ("wanted", "changed", "told"),
    [
        (Wanted(NAME, quantisation="Q2_K"), {}, "Q2_K is not published: blocked"),
        (Wanted(NAME), {"data_licence": ""}, "data.licence is not said"),
        (Wanted(NAME), {"data_licence": "cc-by-nd-4.0"}, "forbids"),
        (Wanted(NAME), {"notice": "Ask anna.berg@posteo.net"}, "personal data"),
        (Wanted(NAME), {"greeting": "Look into /home/anna/notes"}, "a path of this machine"),
        (Wanted(NAME), {"system": "Use AKIAIOSFODNN7EXAMPLE now."}, "a secret"),
    ],
)
def test_what_may_not_leave_is_refused(wanted: Wanted, changed: dict[str, str], told: str, tmp_path: Path) -> None:
    run = released_run(tmp_path / "other", **changed)
    with pytest.raises(RefusedError, match=told):
        stage.plan(run, wanted)


def test_a_space_needs_a_repository_to_serve_and_a_merged_model_has_to_be_there(run: Path) -> None:
    with pytest.raises(RecipeError, match="--space serves a repository"):
        stage.plan(run, Wanted(space="me/space"))
    with pytest.raises(RecipeError, match="no merged model"):
        stage.plan(run, Wanted(NAME, merged=True))


def test_a_card_from_elsewhere_is_held_against_the_run(run: Path, tmp_path: Path) -> None:
    card = next(item for item in stage.plan(run, Wanted(NAME)).repositories[0].items if item.path == "README.md").read().decode()
    (tmp_path / "README.md").write_text(card)
    assert stage.check(run, Wanted(NAME), tmp_path / "README.md") == []
    (tmp_path / "README.md").write_text(card.replace("94.0 %", "99.0 %"))
    assert "the evidence says 94.0 %" in stage.check(run, Wanted(NAME), tmp_path / "README.md")[0]


def test_a_run_without_an_approved_file_publishes_nothing(run: Path) -> None:
    release = run / "release-00000000" / "release.json"
    document = json.loads(release.read_text())
    release.write_text(json.dumps({**document, "recommended": None}))
    with pytest.raises(RefusedError, match="no file of"):
        stage.plan(run, Wanted(NAME))
