"""Artifacts: a folder is whole or it does not exist, and its name follows from what went into it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from lorikeet import artifact
from lorikeet.artifact import MANIFEST, NOTES, Artifact
from lorikeet.errors import BusyError, MachineError, ModelError


def make(folder: Path, files: dict[str, str], key: str = "k") -> Artifact:
    part = artifact.begin(folder)
    for name, text in files.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_text(text, encoding="utf-8")
    return artifact.finish(part, step="toy", key=key, inputs={"a": "1"}, settings={"x": 2}, versions={"v": "3"})


def test_a_finished_folder_reads_back_as_it_was_made(tmp_path: Path) -> None:
    made = make(tmp_path / "toy", {"a.txt": "one", "sub/b.txt": "two"})
    assert artifact.load(tmp_path / "toy") == made
    assert sorted(made.manifest.files) == ["a.txt", "sub/b.txt"]


def test_a_part_is_gone_once_the_folder_is_finished(tmp_path: Path) -> None:
    make(tmp_path / "toy", {"a.txt": "one"})
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_a_folder_without_manifest_is_not_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    assert artifact.load(tmp_path) is None


def test_a_folder_that_is_not_there_is_not_an_artifact(tmp_path: Path) -> None:
    assert artifact.load(tmp_path / "nothing") is None


def test_beginning_again_keeps_the_notes_only(tmp_path: Path) -> None:
    part = artifact.begin(tmp_path / "toy")
    (part / NOTES / "checkpoint").mkdir()
    (part / NOTES / "checkpoint" / "state").write_text("kept")
    (part / "half.txt").write_text("half")
    (part / "sub").mkdir()
    (part / "sub" / "half.txt").write_text("half")
    again = artifact.begin(tmp_path / "toy")
    assert again == part
    assert sorted(p.relative_to(part).as_posix() for p in part.rglob("*") if p.is_file()) == ["notes/checkpoint/state"]


def test_notes_are_kept_but_never_hashed(tmp_path: Path) -> None:
    first = make(tmp_path / "first", {"a.txt": "one", "notes/log": "monday"})
    second = make(tmp_path / "second", {"a.txt": "one", "notes/log": "tuesday"})
    assert first.fingerprint == second.fingerprint
    assert (first.path / NOTES / "log").read_text() == "monday"


def test_a_file_called_like_the_notes_is_hashed(tmp_path: Path) -> None:
    assert "notes.txt" in make(tmp_path / "toy", {"notes.txt": "one"}).manifest.files


def test_the_fingerprint_follows_content_and_name_but_not_the_key(tmp_path: Path) -> None:
    made = make(tmp_path / "a", {"x": "one"}, key="k1").fingerprint
    assert make(tmp_path / "b", {"x": "one"}, key="k2").fingerprint == made
    assert make(tmp_path / "c", {"x": "two"}).fingerprint != made
    assert make(tmp_path / "d", {"y": "one"}).fingerprint != made


def test_a_listed_file_is_found(tmp_path: Path) -> None:
    assert make(tmp_path / "toy", {"a.txt": "one"}).file("a.txt").read_text() == "one"


def test_a_listed_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    made = make(tmp_path / "toy", {"a.txt": "one"})
    (made.path / "a.txt").unlink()
    with pytest.raises(ModelError, match="missing"):
        made.file("a.txt")


def test_a_file_that_the_manifest_does_not_list_is_not_handed_out(tmp_path: Path) -> None:
    made = make(tmp_path / "toy", {"a.txt": "one"})
    (made.path / "stranger.txt").write_text("hello")
    with pytest.raises(ModelError, match="missing"):
        made.file("stranger.txt")


class Change(NamedTuple):
    step: str = "toy"
    version: int = 1
    settings: tuple[tuple[str, int], ...] = (("x", 1), ("y", 2))
    inputs: tuple[tuple[str, str], ...] = (("data", "aa"),)

    def key(self) -> str:
        return artifact.step_key(self.step, self.version, dict(self.settings), dict(self.inputs))


@pytest.mark.parametrize(
    "change",
    [Change(step="other"), Change(version=2), Change(settings=(("x", 1), ("y", 3))), Change(inputs=(("data", "bb"),)), Change(inputs=(("rows", "aa"),))],
)
def test_the_key_changes_with_all_that_decides_the_result(change: Change) -> None:
    assert change.key() != Change().key()


def test_the_key_does_not_depend_on_the_order_of_the_settings() -> None:
    assert Change(settings=(("y", 2), ("x", 1))).key() == Change().key()


def test_the_key_is_the_same_in_every_process() -> None:
    code = "from lorikeet.artifact import step_key; print(step_key('toy', 1, {'x': 1, 'y': 2}, {'data': 'aa'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert done.stdout.strip() == Change().key()


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert artifact.sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    artifact.write_json(tmp_path / "a.json", {"old": 1})
    artifact.write_json(tmp_path / "a.json", {"new": "ü"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"new": "ü"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    artifact.write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        artifact.write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


def test_a_held_folder_is_busy(tmp_path: Path) -> None:
    with artifact.locked(tmp_path), pytest.raises(BusyError, match="another lorikeet run"), artifact.locked(tmp_path):
        pass


def test_a_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), artifact.locked(tmp_path):
        raise ZeroDivisionError
    with artifact.locked(tmp_path):
        pass


def test_too_little_disk_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"training needs 1000000000\.0 GB"):
        artifact.need_disk(tmp_path / "new", 10**18, "training")


def test_enough_disk_says_nothing(tmp_path: Path) -> None:
    assert artifact.need_disk(tmp_path / "new", 1, "training") is None


@pytest.mark.parametrize("damaged", [b'{"step": "to', b"", b'{"step": "toy"}', b"[1]", b"\xff"])
def test_a_damaged_manifest_is_an_error_with_a_cure(tmp_path: Path, damaged: bytes) -> None:
    made = make(tmp_path / "toy", {"a.txt": "one"})
    (made.path / MANIFEST).write_bytes(damaged)
    with pytest.raises(ModelError, match=r"manifest\.json is damaged") as caught:
        artifact.load(made.path)
    assert caught.value.cure == f"remove the folder {made.path} and run the recipe again"


def test_a_folder_that_lost_its_manifest_is_made_again(tmp_path: Path) -> None:
    made = make(tmp_path / "toy", {"a.txt": "one"})
    (made.path / MANIFEST).unlink()
    (made.path / "b.txt").write_text("left over")
    assert make(tmp_path / "toy", {"a.txt": "two"}).file("a.txt").read_text() == "two"
    assert not (made.path / "b.txt").exists()


def test_a_finished_folder_is_never_written_over(tmp_path: Path) -> None:
    make(tmp_path / "toy", {"a.txt": "one"})
    with pytest.raises(OSError, match="not empty"):
        make(tmp_path / "toy", {"a.txt": "two"})
    assert (tmp_path / "toy" / "a.txt").read_text() == "one"
