"""The gate of serving: only bytes that a release approves are handed out, and every refusal says why."""

import json
from pathlib import Path

import pytest

from lorikeet.artifact import sha256_of
from lorikeet.errors import LorikeetError, ModelError, RecipeError, RefusedError
from lorikeet.released import OVERRIDES, approved_runs, find, offered, record_override

PERSONA = {"title": "First-aid assistant", "system": "You help.", "notice": "Not a doctor.", "examples": ["My nose bleeds."], "greeting": "Hello."}


def make_gguf(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + content)
    return path


def make_run(folder: Path, verdicts: dict[str, str], recommended: str | None, name: str = "release-1") -> Path:
    """A run folder with one file a quantisation, of growing size."""
    files = []
    for number, (quantisation, verdict) in enumerate(verdicts.items(), 1):
        path = make_gguf(folder / f"export-{quantisation}-aaaa" / f"helper-{quantisation}.gguf", quantisation.encode() * number)
        files.append({"quantisation": quantisation, "path": path.relative_to(folder).as_posix(), "sha256": sha256_of(path),
                      "bytes": path.stat().st_size, "verdict": verdict, "reasons": [f"why {quantisation}"]})  # fmt: skip
    (folder / name).mkdir(parents=True)
    (folder / name / "release.json").write_text(json.dumps({"files": files, "recommended": recommended}))
    (folder / "run.json").write_text(json.dumps({**PERSONA, "release": f"/moved/since/{name}/release.json"}))
    return folder


def test_a_run_serves_its_recommended_file_with_its_persona(tmp_path: Path) -> None:
    served = find(make_run(tmp_path, {"F16": "approved", "Q4_K_M": "approved"}, "Q4_K_M"), unreleased=False)
    assert (served.quantisation, served.approved, served.verdict) == ("Q4_K_M", True, "approved")
    assert (served.title, served.system, served.notice, served.greeting) == ("First-aid assistant", "You help.", "Not a doctor.", "Hello.")
    assert served.examples == ("My nose bleeds.",)
    assert served.run_dir == tmp_path
    assert served.sha256 == sha256_of(served.path)


def test_a_run_in_which_nothing_is_approved_is_refused_with_all_reasons(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"F16": "not-enough-evidence", "Q4_K_M": "blocked"}, None)
    with pytest.raises(RefusedError) as refused:
        find(run, unreleased=False)
    assert "why F16" in refused.value.message
    assert "why Q4_K_M" in refused.value.message
    assert "--unreleased" in refused.value.cure
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"Q8_0": "blocked", "Q4_K_M": "not-enough-evidence"}, "Q4_K_M"),
        ({"F16": "blocked", "Q8_0": "blocked", "Q4_K_M": "blocked"}, "Q8_0"),
        ({"Q4_K_M": "blocked", "F16": "blocked"}, "F16"),
    ],
)
def test_unreleased_takes_the_best_verdict_and_then_the_most_faithful_file(tmp_path: Path, verdicts: dict[str, str], expected: str) -> None:
    served = find(make_run(tmp_path, verdicts, None), unreleased=True)
    assert (served.quantisation, served.approved) == (expected, False)
    assert served.reasons == (f"why {expected}",)


def test_unreleased_keeps_an_approved_file_approved(tmp_path: Path) -> None:
    assert find(make_run(tmp_path, {"Q8_0": "approved"}, "Q8_0"), unreleased=True).approved


def test_a_quantisation_asked_for_is_judged_by_its_own_verdict(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"Q8_0": "approved", "Q4_K_M": "blocked"}, "Q8_0")
    with pytest.raises(RefusedError, match="why Q4_K_M"):
        find(run, unreleased=False, quantisation="q4_k_m")
    assert not find(run, unreleased=True, quantisation="Q4_K_M").approved
    with pytest.raises(RecipeError) as wrong:
        find(run, unreleased=False, quantisation="Q2_K")
    assert "Q8_0, Q4_K_M" in wrong.value.cure


def test_a_file_changed_after_the_audit_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"Q8_0": "approved"}, "Q8_0")
    changed = make_gguf(run / "export-Q8_0-aaaa" / "helper-Q8_0.gguf", b"other weights")
    for target in (run, changed):
        with pytest.raises(RefusedError, match="changed after the audit"):
            find(target, unreleased=False)
        assert not find(target, unreleased=True).approved


def test_a_file_of_a_run_alone_is_judged_by_the_release_the_run_names(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"Q8_0": "approved"}, "Q8_0")
    stale = json.loads((run / "release-1" / "release.json").read_text())
    stale["files"][0]["verdict"] = "blocked"
    (run / "release-0").mkdir()
    (run / "release-0" / "release.json").write_text(json.dumps(stale))
    served = find(run / "export-Q8_0-aaaa" / "helper-Q8_0.gguf", unreleased=False)
    assert (served.approved, served.title, served.run_dir) == (True, "First-aid assistant", run)


def test_without_a_run_every_release_that_knows_the_file_has_to_approve_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"Q8_0": "approved"}, "Q8_0")
    (run / "run.json").unlink()
    file = run / "export-Q8_0-aaaa" / "helper-Q8_0.gguf"
    assert find(file, unreleased=False).approved
    make_run(tmp_path, {"Q8_0": "blocked"}, None, name="release-2")
    (run / "run.json").unlink()
    with pytest.raises(RefusedError, match="why Q8_0"):
        find(file, unreleased=False)


def test_a_release_beside_a_file_approves_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"Q8_0": "approved"}, "Q8_0")
    file = make_gguf(tmp_path / "download" / "renamed.gguf", b"Q8_0")
    with pytest.raises(RefusedError, match=r"no release\.json"):
        find(file, unreleased=False)
    (file.parent / "release.json").write_text((run / "release-1" / "release.json").read_text())
    served = find(file, unreleased=False)
    assert (served.approved, served.quantisation, served.title, served.run_dir) == (True, "Q8_0", "renamed", None)


def test_a_run_without_a_release_serves_only_unreleased(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"F16": "approved", "Q8_0": "approved"}, "Q8_0")
    (run / "run.json").write_text(json.dumps({**PERSONA, "release": None}))
    with pytest.raises(RefusedError, match=r"no release\.json"):
        find(run, unreleased=False)
    served = find(run, unreleased=True)
    assert (served.path.name, served.approved, served.title) == ("helper-Q8_0.gguf", False, "First-aid assistant")


def test_what_is_no_run_and_no_model_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.gguf").write_text("hello")
    for target, kind in ((tmp_path / "empty", RecipeError), (tmp_path / "nowhere", RecipeError), (tmp_path / "text.gguf", ModelError)):
        with pytest.raises(kind) as found:
            find(target, unreleased=True)
        assert isinstance(found.value, LorikeetError)
        assert found.value.cure


def test_modes_come_with_the_run_and_the_first_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"F16": "approved"}, "F16")
    modes = {"explain": "You help. Explain.", "hint": "You help. Give a hint."}
    (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), "modes": modes, "single_turn": True}))
    served = find(run, unreleased=False)
    assert served.single_turn
    assert (served.prompt(), served.prompt("hint")) == ("You help. Explain.", "You help. Give a hint.")
    with pytest.raises(RecipeError, match="there is no mode 'quiz'") as refused:
        served.prompt("quiz")
    assert refused.value.cure == "one of: explain, hint"


def test_an_assistant_without_modes_speaks_as_it_always_does(tmp_path: Path) -> None:
    served = find(make_run(tmp_path, {"F16": "approved"}, "F16"), unreleased=False)
    assert (served.prompt(), served.single_turn) == ("You help.", False)


def test_taking_an_unreleased_file_is_written_down_and_an_approved_one_is_not(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"F16": "approved", "Q4_K_M": "blocked"}, "F16")
    record_override(find(run, unreleased=True), "serve")
    assert not (run / OVERRIDES).exists()
    blocked = find(run, unreleased=True, quantisation="Q4_K_M")
    record_override(blocked, "serve")
    record_override(blocked, "chat")
    lines = [json.loads(line) for line in (run / OVERRIDES).read_text().splitlines()]
    assert [line["command"] for line in lines] == ["serve", "chat"]
    assert (lines[0]["sha256"], lines[0]["verdict"], lines[0]["reasons"]) == (blocked.sha256, "blocked", ["why Q4_K_M"])
    assert lines[0]["timestamp"] > 1.7e9


def test_a_folder_that_cannot_be_written_to_keeps_unreleased_files_back(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"F16": "blocked"}, None)
    (run / OVERRIDES).mkdir()
    with pytest.raises(RefusedError, match="has to be recorded"):
        record_override(find(run, unreleased=True), "chat")


def test_the_suite_of_the_release_is_found_for_the_guard(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"F16": "approved"}, "F16")
    assert find(run, unreleased=False).suite is None
    (run / "release-1" / "suite.json").write_text("{}")
    assert find(run, unreleased=False).suite == run / "release-1" / "suite.json"


def test_all_approved_files_of_a_run_are_offered_the_recommended_one_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"F16": "approved", "Q8_0": "approved", "Q4_0": "blocked"}, "Q8_0")
    assert [one.quantisation for one in offered(run, unreleased=False)] == ["Q8_0", "F16"]
    assert [one.quantisation for one in offered(run, unreleased=True)] == ["Q8_0", "F16", "Q4_0"]


def test_with_unreleased_the_base_and_the_adapter_on_it_stand_behind_the_files(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"Q8_0": "approved"}, "Q8_0")
    (run / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), "base": {"name": "smollm2-135m"}}))
    adapter = make_gguf(run / "adapter-1234" / "helper-adapter.gguf")
    assert [one.quantisation for one in offered(run, unreleased=False)] == ["Q8_0"]
    tuned, base, with_adapter = offered(run, unreleased=True)
    assert (base.quantisation, base.approved, base.system, base.adapter) == ("base", False, tuned.system, None)
    assert (with_adapter.name, with_adapter.approved, with_adapter.path, with_adapter.adapter) == ("helper-adapter", False, base.path, adapter)


def test_the_runs_with_an_approved_file_are_found_and_none_is_an_error(tmp_path: Path) -> None:
    good = make_run(tmp_path / "good", {"Q8_0": "approved"}, "Q8_0")
    make_run(tmp_path / "bad", {"Q8_0": "blocked"}, None)
    assert approved_runs(tmp_path) == [good]
    with pytest.raises(RecipeError, match="no run"):
        approved_runs(tmp_path / "empty")
