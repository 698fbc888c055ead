"""Files into rows: JSONL, JSON, CSV, TSV, Parquet and Arrow, plain or compressed, read as streams.

A row is a mapping with its place. What cannot be read is yielded as a refusal in its stead, so that rows and refusals add up to
what stands in the file. JSON goes by its content, since arrays and lines come under either name.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from backports import zstd

from lorikeet.conversation import Source
from lorikeet.errors import DataError

if TYPE_CHECKING:
    import pyarrow


class Record(NamedTuple):
    """A row as it stands in the file."""

    source: Source
    value: Mapping[str, object]


Records = Iterator[Record | DataError]

_COMPRESSED: dict[str, Callable[[Path], object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": zstd.open}
_BROKEN_STREAM = (OSError, EOFError, lzma.LZMAError, zlib.error, zstd.ZstdError, ValueError)
_JSON, _TABLE = (".jsonl", ".ndjson", ".json"), {".csv": ",", ".tsv": "\t"}
_COLUMNAR = (".parquet", ".arrow")
SUFFIXES = (*_JSON, *_TABLE, *_COLUMNAR)
_DELIMITERS = ",\t;|"
_HEAD = 1 << 16
_LONGEST_FIELD = 1 << 24
_NAMES_CURE = "begin the table with a line of names, each once, and save it as UTF-8"
_NO_OBJECT = 'write {"question": "...", "answer": "..."}'


def records(path: Path) -> Records:
    """Every row of a file, in its order. DataError at once where the kind of file is not known."""
    inner = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    suffix = inner.suffix.lower()
    if suffix in _JSON:
        return _json(path)
    if suffix in _TABLE:
        return _table(path, _TABLE[suffix])
    if suffix in _COLUMNAR and inner == path:
        return _parquet(path) if suffix == ".parquet" else _arrow(path)
    if suffix == ".txt":
        raise DataError(f"{path}: plain text has no questions and answers to learn from", "write rows: question and answer, or messages (docs/data.md)")
    known = ", ".join((*SUFFIXES, *(f"{s} around JSON or a table" for s in _COMPRESSED)))
    raise DataError(f"{path}: this kind of file cannot be read", f"use one of: {known}")


def _open(path: Path) -> IO[bytes]:
    opened = _COMPRESSED.get(path.suffix.lower())
    return cast("IO[bytes]", opened(path)) if opened else path.open("rb")


def _json(path: Path) -> Records:
    with _open(path) as file:
        try:
            head = file.read(_HEAD)
        except _BROKEN_STREAM as error:
            yield _broken(path, "the first row", error)
            return
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield DataError(f"{path.name}: UTF-16 text; JSON is written in UTF-8", f"convert it: iconv -f UTF-16 -t UTF-8 {path.name}")
        return
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"["):
        yield from _array(path)
    elif text.startswith(b"{") and ".json" in path.suffixes and not _is_object(text.split(b"\n", 1)[0]):
        yield from _whole(path)
    else:
        yield from _lines(path)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _lines(path: Path) -> Records:
    """One JSON object a line. Only a line feed ends a line: U+0085 and U+2028 are text."""
    number = 0
    with _open(path) as file:
        try:
            for number, raw in enumerate(file, 1):
                source = Source(path.name, number)
                if (found := _line(raw, source)) is not None:
                    yield found
        except _BROKEN_STREAM as error:
            yield _broken(path, f"line {number + 1}", error)


def _line(raw: bytes, source: Source) -> Record | DataError | None:
    try:
        text = raw.decode("utf-8-sig" if source.line == 1 else "utf-8")
        if not text.strip():
            return None
        value = json.loads(text)
    except UnicodeDecodeError as error:
        return DataError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start})", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        return DataError(f"{source}: not valid JSON: {error.msg} at column {error.colno}", "one complete JSON object a line")
    except (RecursionError, ValueError) as error:
        return DataError(f"{source}: cannot be read: {error}", "one JSON object a line, nested a few levels at most")
    return _checked(value, source)


def _checked(value: object, source: Source) -> Record | DataError:
    if not isinstance(value, dict):
        return DataError(f"{source}: a JSON object has to stand here", _NO_OBJECT)
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return DataError(f"{source}: half of a surrogate pair, which is no character", "mend the \\ud... escape, or remove it")
    return Record(source, value)


def _array(path: Path) -> Records:
    """A JSON array of objects, one at a time."""
    import ijson

    number = 0
    with _open(path) as file:
        try:
            for number, value in enumerate(ijson.items(_without_bom(file), "item", use_float=True), 1):
                yield _checked(value, Source(path.name, number, counted="row"))
        except ijson.JSONError as error:
            words = " ".join(str(error).split())
            source = Source(path.name, number + 1, counted="row")
            yield DataError(
                f"{source}: not valid JSON, and nothing behind it can be read: {words[:160]}", "mend the array there; or write one object a line, as .jsonl"
            )
        except _BROKEN_STREAM as error:
            yield _broken(path, f"row {number + 1}", error)


def _without_bom(file: IO[bytes]) -> IO[bytes]:
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)
    return file


def _whole(path: Path) -> Records:
    """One JSON object over several lines: the rows are the only list of objects in it, or it is itself a row."""
    with _open(path) as file:
        try:
            value = json.loads(file.read().decode("utf-8-sig"))
        except (RecursionError, *_BROKEN_STREAM) as error:
            yield DataError(f"{path.name}: not valid JSON: {error}", "write a JSON array of objects, or one object a line")
            return
    lists = [rows for rows in value.values() if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)]
    turns = any(isinstance(value.get(key), list) for key in ("messages", "conversations", "conversation", "chosen"))
    for number, row in enumerate(lists[0] if len(lists) == 1 and not turns else [value], 1):
        yield _checked(row, Source(path.name, number, counted="row"))


def _table(path: Path, delimiter: str) -> Records:
    """Comma- or tab-separated values below a line of names; a semicolon or bar is taken where the names are parted by it."""
    csv.field_size_limit(_LONGEST_FIELD)
    end = 0
    with _open(path) as raw:
        try:
            text, delimiter = _table_text(raw, delimiter)
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            names: list[str] = []
            unusable = ""
            while True:
                place = Source(path.name, end + 1)
                try:
                    fields = next(reader)
                    end = reader.line_num
                except StopIteration:
                    return
                except csv.Error as error:
                    end = reader.line_num
                    yield DataError(f"{place}: not a row of a table: {error}", 'put text with quotes or line breaks in double quotes, and write "" for a quote')
                    continue
                if not any(field.strip() for field in fields):
                    continue
                if not names:
                    names, unusable = _names(fields)
                elif unusable:
                    yield DataError(f"{place}: the first line of the table names no columns that can be used: {unusable}", _NAMES_CURE)
                else:
                    yield _table_row(names, fields, place)
        except _BROKEN_STREAM as error:
            yield _broken(path, f"line {end + 1}", error)


def _table_text(raw: IO[bytes], delimiter: str) -> tuple[io.TextIOWrapper, str]:
    """The stream decoded by its byte-order mark, as UTF-8 without one, and the delimiter that parts most names in its first full line."""
    head = raw.read(_HEAD)
    raw.seek(0)
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    first = next((line for line in head.decode(encoding, "replace").splitlines() if line.strip()), "")
    if delimiter not in first:
        delimiter = max(_DELIMITERS, key=first.count)
    return io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline=""), delimiter


def _names(fields: list[str]) -> tuple[list[str], str]:
    """The columns' names, and what makes them unusable."""
    names = [name.strip() for name in fields]
    twice = sorted({n for n in names if n and names.count(n) > 1})
    return names, f"{twice[0]!r} stands twice" if twice else "" if _is_text(names) else f"it is not UTF-8 text{_guessed(' '.join(names))}"


def _is_text(fields: list[str]) -> bool:
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return False
    return True


def _table_row(names: list[str], fields: list[str], source: Source) -> Record | DataError:
    if len(fields) != len(names):
        return DataError(f"{source}: {len(fields)} fields where the first line names {len(names)}", "put text with delimiters or line breaks in double quotes")
    if not _is_text(fields):
        return DataError(f"{source}: not UTF-8 text", f"save the file as UTF-8{_guessed(' '.join(fields))}")
    return Record(source, {name: field for name, field in zip(names, fields, strict=True) if name})


def _guessed(text: str) -> str:
    """What the text seems to be written in, as a hint."""
    from charset_normalizer import from_bytes

    best = from_bytes(text.encode("utf-8", "surrogateescape")).best()
    return f"; it looks like {best.encoding}" if best else ""


def _parquet(path: Path) -> Records:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from _batches(path, file.iter_batches(batch_size=1000))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        yield _broken(path, "what it holds", error)


def _arrow(path: Path) -> Records:
    """Arrow's file format, or its stream format, which the datasets library writes."""
    import pyarrow.ipc

    try:
        with pyarrow.memory_map(str(path)) as file:
            try:
                reader = pyarrow.ipc.open_file(file)
                batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
            except pyarrow.ArrowInvalid:
                file.seek(0)
                batches = iter(pyarrow.ipc.open_stream(file))
            yield from _batches(path, batches)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        yield _broken(path, "what it holds", error)


def _batches(path: Path, batches: "Iterator[pyarrow.RecordBatch]") -> Records:
    number = 0
    for batch in batches:
        for value in _values(batch):
            number += 1
            source = Source(path.name, number, counted="row")
            yield _checked(value, source) if value is not None else DataError(f"{source}: not UTF-8 text", "save the file's texts as UTF-8")


def _values(batch: "pyarrow.RecordBatch") -> list[object]:
    """The batch's rows; None for one with text that is not UTF-8, which Arrow does not check as it reads."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [None]
        half = len(batch) // 2
        return _values(batch.slice(0, half)) + _values(batch.slice(half))


def _broken(path: Path, where: str, error: BaseException) -> DataError:
    return DataError(f"{path.name}: {where} cannot be read, nor what stands behind it: {error}", "the file is damaged or cut off; fetch or write it again")
