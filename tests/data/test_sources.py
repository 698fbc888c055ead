"""Files of rows: every line that is not blank is a row or a refusal with its place."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from lorikeet.conversation import Conversation
from lorikeet.data import sources
from lorikeet.data.formats import Format
from lorikeet.data.sources import FileRows, require_all
from lorikeet.errors import DataError

ROW = b'{"question": "Q", "answer": "A"}'


@dataclass
class Whole:
    rows: list[Conversation]
    refused: list[DataError]
    format: Format | None


def read_file(path: Path) -> Whole:
    file = FileRows(path)
    rows = list(sources.read_file(file))
    assert file.read == len(rows)
    return Whole(rows, file.refused, file.format)


def read_all(paths: list[Path]) -> list[Conversation]:
    files = [FileRows(path) for path in paths]
    rows = [row for file in files for row in sources.read_file(file)]
    require_all(files)
    return rows


def rows_file(folder: Path, *lines: bytes, name: str = "rows.jsonl") -> Path:
    (folder / name).write_bytes(b"\n".join(lines))
    return folder / name


def test_rows_keep_file_and_line(tmp_path: Path) -> None:
    read = read_file(rows_file(tmp_path, ROW, b"", ROW))
    assert [str(row.source) for row in read.rows] == ["rows.jsonl:1", "rows.jsonl:3"]


def test_the_format_is_told(tmp_path: Path) -> None:
    read = read_file(rows_file(tmp_path, ROW))
    assert read.format is not None
    assert read.format.name == "question/answer"


def test_rows_and_refusals_are_all_lines_that_are_not_blank(tmp_path: Path) -> None:
    read = read_file(rows_file(tmp_path, ROW, b"{broken", b"  ", b'["list"]', b'{"question": "Q"}', b'"\xff"', ROW, b""))
    assert (len(read.rows), len(read.refused)) == (2, 4)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"question": "Q", "answer": "A"', "not valid JSON: .* at column"),
        (b"['x']", "not valid JSON"),
        (b"[1]", "a JSON object has to stand here"),
        (b"null", "a JSON object has to stand here"),
        (b'{"question": "\xe9", "answer": "A"}', "not UTF-8"),
        (b'{"word": "x"}', "no known format"),
        (b"[" * 100000, "cannot be read|not valid JSON"),
    ],
)
def test_a_refusal_names_its_line(tmp_path: Path, line: bytes, words: str) -> None:
    (refused,) = read_file(rows_file(tmp_path, ROW, line)).refused
    with pytest.raises(DataError, match=rf"^rows\.jsonl:2: {words}"):
        raise refused


def test_a_file_from_windows_reads_the_same(tmp_path: Path) -> None:
    read = read_file(rows_file(tmp_path, b"\xef\xbb\xbf" + ROW + b"\r", ROW + b"\r", b"\r"))
    assert (len(read.rows), read.refused) == (2, [])


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    read = read_file(rows_file(tmp_path, '{"question": "a\u2028b\x85c", "answer": "A"}'.encode()))
    assert read.rows[0].question == "a\u2028b\x85c"


@pytest.mark.parametrize(("name", "words"), [("rows.pdf", "this kind of file cannot be read"), ("rows.txt", "plain text has no questions")])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_file(rows_file(tmp_path, ROW, name=name))


def test_all_rows_of_all_files_stand_in_order(tmp_path: Path) -> None:
    found = read_all([rows_file(tmp_path, ROW, ROW, name="b.jsonl"), rows_file(tmp_path, ROW, name="a.jsonl")])
    assert [str(row.source) for row in found] == ["b.jsonl:1", "b.jsonl:2", "a.jsonl:1"]


def test_one_refused_row_refuses_the_set_and_the_others_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:2: .* \(and 1 more rows\)$"):
        read_all([rows_file(tmp_path, ROW, b"{", b"{")])


def test_a_set_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: the data set is empty"):
        read_all([rows_file(tmp_path, b"", b" ")])


@pytest.mark.parametrize(
    "line",
    [
        b'{"question": "Q", "answer": "ok \\ud83d"}',
        b'{"messages": [{"role": "user", "content": "\\udc00"}, {"role": "assistant", "content": "A"}]}',
    ],
)
def test_half_an_emoji_is_refused_with_its_line(tmp_path: Path, line: bytes) -> None:
    (refused,) = read_file(rows_file(tmp_path, ROW, line)).refused
    assert str(refused.message).startswith("rows.jsonl:2: half of a surrogate pair")


def test_an_escaped_emoji_is_read(tmp_path: Path) -> None:
    assert read_file(rows_file(tmp_path, b'{"question": "Q", "answer": "ok \\ud83d\\ude91"}')).rows[0].answer == "ok \U0001f691"
