"""What files of rows gave: conversations, and a refusal with its place for each row that could not be used, never dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorikeet.conversation import Conversation
from lorikeet.data.files import records
from lorikeet.data.formats import Format, detect, read_row, rename
from lorikeet.errors import DataError


@dataclass
class FileRows:
    """What a file gave: its format, how many rows could be read, their conversations, and the refusals."""

    path: Path
    format: Format | None = None
    read: int = 0
    rows: list[Conversation] = field(default_factory=list)
    refused: list[DataError] = field(default_factory=list)


def read_file(path: Path, columns: Mapping[str, str] | None = None) -> FileRows:
    """Read a file; `columns` names its keys where no format fits (ours: theirs). read + refused = rows that are not blank."""
    result = FileRows(path)
    for record in records(path):
        if isinstance(record, DataError):
            result.refused.append(record)
            continue
        try:
            row = rename(record.value, columns, record.source) if columns else record.value
            if result.format is None:
                result.format = detect(row, record.source)
            result.rows += read_row(row, record.source)
            result.read += 1
        except DataError as error:
            result.refused.append(error)
    return result


def read_all(paths: Sequence[Path], columns: Mapping[str, str] | None = None) -> list[Conversation]:
    """Every conversation of every file; DataError where a row is refused or there is none: a data set is used whole or not at all."""
    files = [read_file(path, columns) for path in paths]
    refused = [error for file in files for error in file.refused]
    if refused:
        more = f" (and {len(refused) - 1} more rows)" if len(refused) > 1 else ""
        raise DataError(refused[0].message + more, f"{refused[0].cure}; `lorikeet check` lists all of them")
    rows = [row for file in files for row in file.rows]
    if not rows:
        raise DataError(f"{', '.join(p.name for p in paths)}: the data set is empty", "add rows: one JSON object a line")
    return rows
