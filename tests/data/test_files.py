"""Every kind of file gives its rows, and a refusal with its place for each one that cannot be read."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
from backports import zstd

from lorikeet.data.files import records
from lorikeet.errors import DataError

ROWS = [{"question": "Q1", "answer": "A1"}, {"question": "Q2, with a comma", "answer": 'A2 "quoted"'}]


def read(path: Path) -> tuple[list[dict[str, object]], list[str]]:
    found = list(records(path))
    return [dict(r.value) for r in found if not isinstance(r, DataError)], [r.message for r in found if isinstance(r, DataError)]


def written(folder: Path, name: str, content: bytes | str) -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


TABLE = 'question,answer\nQ1,A1\n"Q2, with a comma","A2 ""quoted"""\n'
LINES = "\n".join(json.dumps(row) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINES),
        ("rows.json", json.dumps(ROWS)),
        ("rows.json", json.dumps(ROWS, indent=2)),
        ("rows.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode()),
        ("rows.json", LINES),
        ("rows.jsonl", json.dumps(ROWS)),
        ("rows.json", json.dumps({"version": 1, "data": ROWS}, indent=1)),
        ("rows.csv", TABLE),
        ("rows.csv", TABLE.replace("\n", "\r\n")),
        ("rows.csv", "\n\n" + TABLE),
        ("rows.csv", b"\xef\xbb\xbf" + TABLE.encode()),
        ("rows.csv", TABLE.encode("utf-16")),
        ("rows.csv", 'question;answer\nQ1;A1\nQ2, with a comma;"A2 ""quoted"""\n'),
        ("rows.tsv", 'question\tanswer\nQ1\tA1\nQ2, with a comma\t"A2 ""quoted"""\n'),
        ("rows.jsonl.gz", gzip.compress(LINES.encode())),
        ("rows.json.bz2", bz2.compress(json.dumps(ROWS).encode())),
        ("rows.csv.xz", lzma.compress(TABLE.encode())),
        ("rows.csv.zst", zstd.compress(TABLE.encode())),
        ("rows.json.zst", zstd.compress(b"\xef\xbb\xbf" + json.dumps(ROWS).encode())),
        ("rows.jsonl.zst", zstd.compress(LINES.encode())),
    ],
)
def test_every_kind_gives_the_same_rows(tmp_path: Path, name: str, content: bytes | str) -> None:
    assert read(written(tmp_path, name, content)) == (ROWS, [])


def test_parquet_and_both_arrow_formats_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    for name, opened in (("file.arrow", pyarrow.ipc.new_file), ("stream.arrow", pyarrow.ipc.new_stream)):
        with opened(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    assert [read(tmp_path / name) for name in ("rows.parquet", "file.arrow", "stream.arrow")] == 3 * [(ROWS, [])]


def test_one_text_that_is_not_utf8_costs_its_own_row_alone(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    texts = [f"Q{n}".encode() for n in range(5)]
    texts[3] = b"Q\x80"
    pyarrow.parquet.write_table(pyarrow.table({"question": pyarrow.array(texts).view("string")}), tmp_path / "rows.parquet")
    rows, refused = read(tmp_path / "rows.parquet")
    assert [row["question"] for row in rows] == ["Q0", "Q1", "Q2", "Q4"]
    assert refused == ["rows.parquet, row 4: not UTF-8 text"]


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json.bz2", "rows.csv.xz", "rows.jsonl.zst", "rows.parquet", "rows.arrow"])
def test_a_damaged_file_is_refused_and_nothing_raised(tmp_path: Path, name: str) -> None:
    rows, refused = read(written(tmp_path, name, b"not what the name says"))
    assert (rows, len(refused)) == ([], 1)
    assert "cannot be read" in refused[0]


def test_a_file_that_breaks_off_gives_the_rows_before(tmp_path: Path) -> None:
    rows, refused = read(written(tmp_path, "rows.json", json.dumps(ROWS)[:-5]))
    assert (rows, len(refused)) == (ROWS[:1], 1)
    assert refused[0].startswith("rows.json, row 2: not valid JSON, and nothing behind it can be read")
    cut = gzip.compress("\n".join(json.dumps({"question": f"{n * 7919}", "answer": "A"}) for n in range(20000)).encode())[:-4000]
    rows, refused = read(written(tmp_path, "rows.jsonl.gz", cut))
    assert len(rows) > 1000
    assert f"line {len(rows) + 1} cannot be read" in refused[-1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"question,answer\nQ,A\nQ,A,B\n", "rows.csv:3: 3 fields where the first line names 2"),
        (b"question,answer\nQ,A\nQ\n", "rows.csv:3: 1 fields where the first line names 2"),
        (b'question,answer\nQ,A\n"two\nlines",A\nQ\n', "rows.csv:5: 1 fields"),
        (b"question,answer\nQ,A\nQ,\xe9\n", "rows.csv:3: not UTF-8 text"),
        (b'question,answer\nQ,A\n"Q" x,A\n', "rows.csv:3: not a row of a table"),
        (b'question,answer\nQ,A\n"Q,A\n', "rows.csv:3: not a row of a table"),
        (b"question,question\nQ,A\n", "rows.csv:2: the first line of the table names no columns that can be used: 'question' stands twice"),
        (b"question,\xe9\nQ,A\n", "rows.csv:2: the first line of the table names no columns that can be used: it is not UTF-8 text"),
    ],
)
def test_a_row_that_does_not_fit_its_table_is_refused_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    refused = read(written(tmp_path, "rows.csv", content))[1]
    assert len(refused) == 1
    assert refused[0].startswith(words)


def test_only_line_ends_end_the_rows_of_a_table(tmp_path: Path) -> None:
    rows, _ = read(written(tmp_path, "rows.csv", "question,answer\na\x85b\u2028c,A\n"))
    assert rows == [{"question": "a\x85b\u2028c", "answer": "A"}]


def test_json_in_utf_16_is_refused_with_the_cure(tmp_path: Path) -> None:
    (refused,) = [r for r in records(written(tmp_path, "rows.jsonl", LINES.encode("utf-16"))) if isinstance(r, DataError)]
    assert "iconv -f UTF-16" in refused.cure
