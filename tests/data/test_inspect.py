"""What `lorikeet check` says of files: formats, refusals, and leaks between files that are a split by their names."""

import json
from pathlib import Path

import pytest

from lorikeet.data import inspect
from lorikeet.progress import Silent


def rows_file(path: Path, *questions: str) -> Path:
    path.write_text("".join(json.dumps({"question": q, "answer": f"About {q}."}) + "\n" for q in questions))
    return path


WORDS = [f"w{n} is asked here" for n in range(60)]


def test_files_named_train_and_test_are_a_split_that_is_checked(tmp_path: Path) -> None:
    paths = [rows_file(tmp_path / "train.jsonl", *WORDS), rows_file(tmp_path / "test.jsonl", WORDS[3], "quite another thing")]
    found = inspect.files(list(map(str, paths)), Silent())
    assert found.parts == {"taught/test": 2, "taught/train": 60}
    assert [(f.code, f.severity) for f in found.findings[:2]] == [("data.leak.exact", "error"), ("data.leak.near", "error")]


@pytest.mark.parametrize("name", ["more.jsonl", "latest.jsonl", "my-train.jsonl"])
def test_other_names_are_no_split(tmp_path: Path, name: str) -> None:
    found = inspect.files([str(rows_file(tmp_path / n, *questions)) for n, questions in (("train.jsonl", WORDS), (name, ["quite another thing"]))], Silent())
    assert set(found.parts) >= {"taught/train", "taught/test"}
    assert sum(found.parts.values()) == 61
    assert found.errors == 0


def test_the_document_counts_rows_and_refusals(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "rows.jsonl", *WORDS)
    path.write_text(path.read_text() + '{"question": "no answer"}\n')
    (file,) = inspect.files([str(path)], Silent()).document()["files"]  # type: ignore[misc]
    assert (file["format"], file["rows"], len(file["refused"])) == ("question/answer", 60, 1)
    assert file["refused"][0]["reason"].startswith("rows.jsonl:61: ")
