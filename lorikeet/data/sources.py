"""What files of rows gave: conversations, and a refusal with its place for each row that could not be used, never dropped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorikeet.conversation import Conversation
from lorikeet.data.files import records
from lorikeet.data.formats import Format, detect, read_row, rename
from lorikeet.errors import DataError


@dataclass
class FileRows:
    """What a file gave beside its conversations: its format, how many rows could be read, and the refusals."""

    path: Path
    format: Format | None = None
    read: int = 0
    refused: list[DataError] = field(default_factory=list)


def read_file(
    file: FileRows, columns: Mapping[str, str] | None = None, finish: Callable[[Conversation], Conversation] = lambda talk: talk
) -> Iterator[Conversation]:
    """The conversations of a file, each finished; the file is told the rest. `columns` names its keys where no format fits (ours: theirs).

    Read + refused = rows that are not blank. A DataError of `finish` refuses the row.
    """
    for record in records(file.path):
        if isinstance(record, DataError):
            file.refused.append(record)
            continue
        try:
            row = rename(record.value, columns, record.source) if columns else record.value
            if file.format is None:
                file.format = detect(row, record.source)
            talks = [finish(talk) for talk in read_row(row, record.source)]
            file.read += 1
        except DataError as error:
            file.refused.append(error)
            continue
        yield from talks


def require_all(files: Sequence[FileRows]) -> None:
    """DataError where a row is refused or there is none: a data set is used whole or not at all."""
    refused = [error for file in files for error in file.refused]
    if refused:
        more = f" (and {len(refused) - 1} more rows)" if len(refused) > 1 else ""
        raise DataError(refused[0].message + more, f"{refused[0].cure}; `lorikeet check` lists all of them")
    if not any(file.read for file in files):
        raise DataError(f"{', '.join(f.path.name for f in files)}: the data set is empty", "add rows: one JSON object a line")
