"""`lorikeet feedback`: counts, ratings to read, and rows that the data stage takes."""

import json
from pathlib import Path

import pytest
from toy_ratings import rating

from lorikeet.cli import main
from lorikeet.journal import Journal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "feedback")
    journal.record(rating(liked=True, rater="r1"))
    journal.record(rating(liked=False, rater="r2", comment="Too cold.", correction="Cool it for twenty minutes."))
    journal.close()
    return tmp_path / "feedback"


def test_what_users_said_is_counted_shown_and_exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = folder.parent / "rated.jsonl"
    assert main(["feedback", str(folder), "--show", "disliked", "--export", str(rows), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["all"]["n"], document["all"]["liked"]) == (2, 1)
    assert [one["comment"] for one in document["shown"]] == ["Too cold."]
    assert [json.loads(line)["label"] for line in rows.read_text().splitlines()] == [True, False, True]
    assert main(["feedback", str(folder)]) == 0
    assert "2 ratings by 2 raters" in capsys.readouterr().out


def test_a_run_that_nobody_has_rated_is_told_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert main(["feedback", str(tmp_path)]) == 2
    assert "no reply has been rated yet" in capsys.readouterr().err
