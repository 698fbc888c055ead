"""Evidence and release: what is written reads back the same, and the smallest approved file is recommended."""

from pathlib import Path

import pytest

from lorikeet.errors import ModelError
from lorikeet.evidence import RELEASE, Evidence, FileVerdict, Finding, Release, Verdict, decide, measured, read_evidence, read_release
from lorikeet.statistics import Interval, share


def file(quantisation: str, size: int, verdict: Verdict = "approved") -> FileVerdict:
    return FileVerdict(quantisation, f"export/{quantisation}.gguf", "0" * 64, size, verdict, ["because"])


def test_evidence_reads_back_as_it_was_written(tmp_path: Path) -> None:
    evidence = Evidence(
        [measured("suite.burns.pass_rate", "Q8_0", share(9, 10))],
        [Finding("warning", "two rows clash", "excerpt", code="data.conflict", rows=("a.jsonl:1", "a.jsonl:2"), cure="keep one")],
    )
    evidence.write(tmp_path)
    assert read_evidence(tmp_path) == evidence


def test_a_measure_is_found_by_name_and_subject() -> None:
    evidence = Evidence([measured("rate", "base", share(1, 4)), measured("rate", "tuned", share(3, 4))])
    found = evidence.measure("rate", "tuned")
    assert found is not None
    assert found.value == 0.75


def test_a_measure_of_another_subject_is_not_found() -> None:
    assert Evidence([measured("rate", "base", share(1, 4))]).measure("rate", "tuned") is None


def test_a_measure_keeps_value_interval_n_and_method() -> None:
    found = measured("loss", "base", Interval(1.23456789, 1.0, 2.0, 16, "bootstrap"), "nats a token")
    assert (found.value, found.low, found.high, found.n, found.unit, found.method) == (1.234568, 1.0, 2.0, 16, "nats a token", "bootstrap")


def test_the_smallest_approved_file_is_recommended() -> None:
    assert decide([file("F16", 300), file("Q4_0", 90), file("Q2_K", 50, "blocked"), file("Q3_K_S", 70, "not-enough-evidence")]).recommended == "Q4_0"


def test_of_two_equally_large_files_the_first_is_recommended() -> None:
    assert decide([file("Q4_0", 90), file("Q4_K_M", 90)]).recommended == "Q4_0"


def test_nothing_is_recommended_where_nothing_is_approved() -> None:
    assert decide([file("Q8_0", 90, "blocked"), file("Q4_0", 50, "not-enough-evidence")]).recommended is None


def test_a_release_reads_back_as_it_was_written(tmp_path: Path) -> None:
    release = decide([file("Q8_0", 90), file("Q4_0", 50, "blocked")])
    release.write(tmp_path)
    assert read_release(tmp_path / RELEASE) == release


def test_a_release_of_no_files_reads_back(tmp_path: Path) -> None:
    Release([], None).write(tmp_path)
    assert read_release(tmp_path / RELEASE) == Release([], None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": [{"path": "x"}], "recommended": null}', "{"])
def test_what_is_no_release_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / RELEASE).write_text(text)
    with pytest.raises(ModelError, match="is not a release"):
        read_release(tmp_path / RELEASE)


def test_a_missing_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a release"):
        read_release(tmp_path / RELEASE)
