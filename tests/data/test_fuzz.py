"""Files cut, re-encoded and mutated: never an exception but ours, never a row lost in silence."""

import gzip
import json
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorikeet.data.sources import FileRows, read_file
from lorikeet.errors import LorikeetError

pytestmark = pytest.mark.slow

ROWS = [{"question": "Nosebleed?", "answer": "Lean forward, “pinch”."}, {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "é"}]}]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS * 3).encode()
TABLE = 'question,answer\nNosebleed?,"Lean forward, ""pinch""."\nBurn?,Cool é\n"two\nlines",A\n'.encode()
WHOLE = {
    "rows.jsonl": LINES,
    "rows.json": json.dumps(ROWS * 3, ensure_ascii=False).encode(),
    "rows.csv": TABLE,
    "rows.tsv": TABLE.replace(b",", b"\t"),
    "rows.jsonl.gz": gzip.compress(LINES, mtime=0),
    "rows.jsonl.zst": zstd.compress(LINES),
    "rows.parquet": b"",
}
TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\n",
    b"\r",
    b"\t",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\\ud83d",
    b"null",
    b"1e999",
    b"\xc2\x85",
    b'"messages"',
]


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after one to four mutations."""
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
        way = draw(st.sampled_from(["cut", "keep", "flip", "insert", "double", "encode"]))
        if way == "cut":
            content = content[:at] + content[to:]
        elif way == "keep":
            content = content[:to]
        elif way == "flip":
            content = content[:at] + draw(st.binary(min_size=1, max_size=3)) + content[at + 1 :]
        elif way == "insert":
            content = content[:at] + draw(st.sampled_from(TOKENS)) + content[at:]
        elif way == "double":
            content = content[:to] + content[at:]
        else:
            content = content.decode("utf-8", "replace").encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "latin-1", "big5"])), "replace")
    return content


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_file_gives_rows_and_refusals_alone(name: str, tmp_path: Path, data: st.DataObject) -> None:
    content = data.draw(mutated(_parquet() if name == "rows.parquet" else WHOLE[name]))
    path = tmp_path / name
    path.write_bytes(content)
    try:
        read = FileRows(path)
        rows = list(read_file(read))
    except LorikeetError:
        return
    for row in rows:
        json.dumps([m.as_dict() for m in row.messages], ensure_ascii=False).encode()
    if name == "rows.jsonl" and not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        assert read.read + len(read.refused) == sum(bool(_text(line)) for line in content.split(b"\n"))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removeprefix("\ufeff").strip()


def _parquet() -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"question": f"Q{n}", "answer": "A" * n} for n in range(1, 20)]), written)
    return written.getvalue()
