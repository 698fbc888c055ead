"""The doctor sees what is here and what is missing; the tidier lists what nothing refers to, and removes that alone."""

import json
from pathlib import Path

import pytest
from toy_release import released_run

from lorikeet import artifact, doctor, tidy
from lorikeet.cli import main
from lorikeet.engine import binding
from lorikeet.errors import MachineError, RecipeError


def test_this_machine_is_fit_and_what_is_missing_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {check.what: check for check in doctor.examine(tmp_path)}
    assert {checks[what].severity for what in ("Python", "packages", "packages [train]", "llama.cpp", "default base", "memory")} == {"fine"}

    def broken() -> None:
        raise MachineError("llama.cpp cannot be loaded: libgomp.so.1", "apt-get install libgomp1")

    monkeypatch.setattr(binding, "library", broken)
    monkeypatch.setattr("lorikeet.machine.memory_bytes", lambda: 10**9)
    told = doctor.told(doctor.examine(tmp_path))
    assert "missing  llama.cpp" in told
    assert "cure: apt-get install libgomp1" in told
    assert "cure: 4 GB are needed" in told
    assert main(["doctor"]) == 3


def test_what_nothing_refers_to_is_listed_and_removed_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = released_run(tmp_path / "run")
    kept = {path.name for path in run.iterdir()}
    part = artifact.begin(run / "audit-Q8_0-11111111")
    (part / "evidence.json").write_text("{}" * 500)
    artifact.finish(part, step="audit-Q8_0", key="1" * 16, inputs={}, settings={}, versions={})
    artifact.begin(run / "train-22222222")
    (run / "feedback").mkdir()
    (run / "my-notes-12345678").mkdir()
    assert [(left.folder.name, left.why) for left in tidy.leftovers(run)] == [
        ("audit-Q8_0-11111111", "is asked for no more, or was made anew"), ("train-22222222.part", "was broken off")]  # fmt: skip
    assert main(["tidy", str(run), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["folders"]) == 2
    assert main(["tidy", str(run), "--remove"]) == 0
    assert {path.name for path in run.iterdir()} - {".lock"} == {*kept, "feedback", "my-notes-12345678"}
    assert tidy.leftovers(run) == []
    with pytest.raises(RecipeError, match="not a run folder"):
        tidy.leftovers(tmp_path)
