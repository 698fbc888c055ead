"""Run folders elsewhere: on fsspec's own memory and local file systems, and on a real S3 server that a package brings."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from lorikeet import artifact, storage
from lorikeet.artifact import MANIFEST, Artifact
from lorikeet.errors import BusyError, MachineError, ModelError, RecipeError
from lorikeet.storage import LOCK, Storage


@pytest.fixture(scope="session")
def s3() -> Iterator[None]:
    """An S3 server on this machine, with a bucket, where s3fs looks for it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="runs")
        yield
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place on each of the file systems."""
    monkeypatch.setenv("LORIKEET_CACHE", str(tmp_path / "cache"))
    if request.param == "s3":
        request.getfixturevalue("s3")
    return {"memory": f"memory://{uuid4().hex}/toy", "file": f"file://{tmp_path}/there/toy", "s3": f"s3://runs/{uuid4().hex}/toy"}[request.param]


def machine(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Storage:
    """The place as another machine sees it: with a copy of its own."""
    monkeypatch.setenv("LORIKEET_CACHE", str(tmp_path / name))
    found = storage.of(storage.folder(url))
    assert found
    return found


def make(place: Storage, name: str = "data-12345678", text: str = "one") -> Artifact:
    part = artifact.begin(place.here / name)
    (part / "out.txt").write_text(text)
    (part / "deep").mkdir()
    (part / "deep" / "more.txt").write_text("more")
    (part / "notes" / "log.txt").write_text("a note")
    (part / "notes" / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (part / "notes" / "checkpoints" / "checkpoint-2" / "weights").write_text("heavy")
    return artifact.finish(part, step="data", key="12345678" * 2, inputs={}, settings={}, versions={})


def over_there(place: Storage) -> list[str]:
    return sorted(place._files(""))


def test_a_path_is_a_path_and_a_url_has_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIKEET_CACHE", str(tmp_path))
    assert storage.folder("runs/first-aid") == Path("runs/first-aid")
    assert storage.of(tmp_path / "runs" / "first-aid") is None
    copy = storage.folder("s3://bucket/runs/first-aid/")
    assert copy.name == "first-aid"
    assert copy == storage.folder("s3://bucket/runs/first-aid")
    assert copy != storage.folder("s3://other/runs/first-aid")
    with pytest.raises(ValueError, match="names no run folder"):
        storage.folder("s3://")


def test_a_finished_folder_comes_back_on_another_machine_as_it_was(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine(url, tmp_path, monkeypatch, "one")
    made = make(one)
    one.send(made)
    other = machine(url, tmp_path, monkeypatch, "other")
    other.fetch("data-12345678")
    found = artifact.load(other.here / "data-12345678")
    assert found
    assert found.manifest == made.manifest
    assert (found.path / "deep" / "more.txt").read_text() == "more"
    assert (found.path / "notes" / "log.txt").read_text() == "a note"
    assert not (found.path / "notes" / "checkpoints").exists()


def test_a_folder_that_is_half_over_is_not_there(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine(url, tmp_path, monkeypatch, "one")
    made, put = make(one), Storage._put

    def cut(self: Storage, path: Path, name: str) -> None:
        if name.endswith(("out.txt", MANIFEST)):
            raise MachineError("the line is cut", "")
        put(self, path, name)

    with monkeypatch.context() as broken:
        broken.setattr(Storage, "_put", cut)
        with pytest.raises(MachineError, match="the line is cut"):
            one.send(made)
    assert over_there(one) != []
    other = machine(url, tmp_path, monkeypatch, "other")
    other.fetch("data-12345678")
    other.fetch_all()
    assert artifact.load(other.here / "data-12345678") is None
    one.send(made)
    other.fetch("data-12345678")
    assert artifact.load(other.here / "data-12345678")


def test_a_file_that_was_changed_over_there_is_found(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine(url, tmp_path, monkeypatch, "one")
    one.send(make(one))
    one._fs.pipe_file(f"{one._root}/data-12345678/out.txt", b"two")
    other = machine(url, tmp_path, monkeypatch, "other")
    with pytest.raises(ModelError, match="is not what its manifest says"):
        other.fetch("data-12345678")
    assert list(other.here.glob("data-*")) == []


def test_whole_checkpoints_of_a_training_under_way_are_gone_on_from_elsewhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine(url, tmp_path, monkeypatch, "one")
    part = artifact.begin(one.here / "train-12345678") / "notes" / "checkpoints"
    for step, whole in ((2, True), (4, True), (6, False)):
        (part / f"checkpoint-{step}").mkdir(parents=True)
        (part / f"checkpoint-{step}" / "weights").write_text(str(step))
        if whole:
            (part / f"checkpoint-{step}" / "complete").write_text("")
    one._send_checkpoints()
    (part / "checkpoint-2" / "complete").unlink()
    one._send_checkpoints()
    other = machine(url, tmp_path, monkeypatch, "other")
    other.fetch_notes("train-12345678.part")
    found = other.here / "train-12345678.part" / "notes" / "checkpoints"
    assert [path.name for path in found.iterdir()] == ["checkpoint-4"]
    assert (found / "checkpoint-4" / "weights").read_text() == "4"
    assert (found / "checkpoint-4" / "complete").is_file()


def test_two_do_not_work_in_one_run_and_a_dead_one_is_no_hindrance(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = machine(url, tmp_path, monkeypatch, "one"), machine(url, tmp_path, monkeypatch, "other")
    with one.working():
        with pytest.raises(BusyError, match="works in"), other.working():
            pass
        assert LOCK in over_there(other)
    assert LOCK not in over_there(other)
    dead = {"ticket": "x", "host": "elsewhere", "process": 1, "seen": time.time() - 2 * storage.STALE}
    one._fs.pipe_file(f"{one._root}/{LOCK}", json.dumps(dead).encode())
    with other.working():
        pass


def test_a_process_of_this_machine_that_was_killed_holds_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    one = machine(url, tmp_path, monkeypatch, "one")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    one._fs.makedirs(one._root, exist_ok=True)
    one._fs.pipe_file(f"{one._root}/{LOCK}", json.dumps({"ticket": "x", "host": platform.node(), "process": child, "seen": time.time()}).encode())
    with one.working():
        assert json.loads(one._read(LOCK) or "")["process"] == os.getpid()


def test_what_lies_beside_the_steps_goes_over_too_and_ratings_do_not(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine(url, tmp_path, monkeypatch, "one")
    one.send(make(one))
    for name in ("run.json", "report.html", "feedback/r.jsonl", "rounds/2/round.json", "train-1.part/notes/log.txt"):
        (one.here / name).parent.mkdir(parents=True, exist_ok=True)
        (one.here / name).write_text(name)
    one.send_loose()
    loose = [path for path in over_there(one) if not path.startswith("data-")]
    assert loose == ["report.html", "rounds/2/round.json", "run.json"]
    other = machine(url, tmp_path, monkeypatch, "other")
    assert storage.brought(other.here) == other.here
    assert (other.here / "run.json").read_text() == "run.json"
    assert artifact.load(other.here / "data-12345678")


def test_a_run_that_is_not_there_is_told(url: str) -> None:
    with pytest.raises(RecipeError, match="there is no run at"):
        storage.brought(storage.folder(url))


@pytest.mark.parametrize(("wrong", "told"), [("nosuch://bucket/run", "Protocol not known"), ("s3://no-such-bucket/run", "bucket does not exist")])
def test_a_place_that_cannot_be_is_an_error_of_the_world(wrong: str, told: str, s3: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIKEET_CACHE", str(tmp_path))
    with pytest.raises((MachineError, RecipeError), match=told):
        place = storage.of(storage.folder(wrong))
        assert place
        with place.working():
            pass


def test_a_walk_leaves_what_it_made_over_there_and_takes_it_up_elsewhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_crew import FAN, walk

    from lorikeet.crew import Here

    one = machine(url, tmp_path, monkeypatch, "one")
    assert {result.status for result in walk(FAN[:3], one.here, Here()).steps} == {"done"}
    other = machine(url, tmp_path, monkeypatch, "other")
    statuses = [(result.name, result.status) for result in walk(FAN, other.here, Here()).steps]
    assert statuses == [("data", "reused"), ("a-alone", "reused"), ("b-alone", "reused"), ("c-alone", "done"), ("end", "done")]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_on_another_machine_from_what_is_over_there(s3: None, tiny_recipe: Path, tmp_path: Path) -> None:
    url = f"s3://runs/{uuid4().hex}/tiny"
    place = Storage(url, tmp_path)
    changes = ("train.epochs=40", "train.batch=1", "train.checkpoint_steps=50")
    command = [sys.executable, "-m", "lorikeet", "train", str(tiny_recipe), "--out", url, *(x for change in changes for x in ("--set", change))]

    def environment(name: str) -> dict[str, str]:
        return {**os.environ, "LORIKEET_CACHE": str(tmp_path / name)}

    process = subprocess.Popen(command, env=environment("one"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not any(path.endswith("/complete") for path in place._files("")) and process.poll() is None:
        time.sleep(0.5)
    process.kill()
    process.wait()
    assert any(".part/" in path for path in place._files(""))
    (step,) = [path.split("/")[0] for path in place._files("") if path.startswith("train-")][:1]
    done = subprocess.run([*command, "--json"], env=environment("other"), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "going on from checkpoint-" in done.stderr
    assert [(s["name"], s["status"]) for s in json.loads(done.stdout)["steps"]] == [("data", "reused"), ("train", "done")]
    there = place._files("")
    assert f"{step.removesuffix('.part')}/{MANIFEST}" in there
    assert not any(".part/" in path or path == LOCK for path in there)
