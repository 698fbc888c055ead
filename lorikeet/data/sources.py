"""Files of rows, read line by line. A line that cannot be used is kept as a refusal with its place, never dropped."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorikeet.conversation import Conversation, Source
from lorikeet.data.formats import Format, detect, read_row
from lorikeet.errors import DataError


@dataclass
class FileRows:
    """What a file gave: its format, the rows that could be read, and the refusals."""

    path: Path
    format: Format | None = None
    rows: list[Conversation] = field(default_factory=list)
    refused: list[DataError] = field(default_factory=list)


def read_file(path: Path) -> FileRows:
    """Read a JSONL file. rows + refused = lines that are not blank."""
    if path.suffix != ".jsonl":
        raise DataError(f"{path}: only .jsonl files can be read", "write one JSON object a line and name the file .jsonl")
    result = FileRows(path)
    for number, raw in enumerate(path.read_bytes().split(b"\n"), 1):
        source = Source(path.name, number)
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            if not text.strip():
                continue
            row = json.loads(text)
            if not isinstance(row, dict):
                raise DataError(f"{source}: the line is not a JSON object", 'write {"question": "...", "answer": "..."}')
            json.dumps(row, ensure_ascii=False).encode()
            if result.format is None:
                result.format = detect(row, source)
            result.rows.append(read_row(row, source))
        except UnicodeDecodeError as error:
            result.refused.append(DataError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start})", "save the file as UTF-8"))
        except UnicodeEncodeError:
            result.refused.append(DataError(f"{source}: half of a surrogate pair, which is no character", "mend the \\ud... escape, or remove it"))
        except json.JSONDecodeError as error:
            result.refused.append(DataError(f"{source}: not valid JSON: {error.msg} at column {error.colno}", "one complete JSON object a line"))
        except DataError as error:
            result.refused.append(error)
    return result


def read_all(paths: Sequence[Path]) -> list[Conversation]:
    """Every row of every file; DataError where a row is refused or there is none: a data set is used whole or not at all."""
    files = [read_file(path) for path in paths]
    refused = [error for file in files for error in file.refused]
    if refused:
        more = f" (and {len(refused) - 1} more rows)" if len(refused) > 1 else ""
        raise DataError(refused[0].message + more, f"{refused[0].cure}; `lorikeet check` lists all of them")
    rows = [row for file in files for row in file.rows]
    if not rows:
        raise DataError(f"{', '.join(p.name for p in paths)}: the data set is empty", "add rows: one JSON object a line")
    return rows
