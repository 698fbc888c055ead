"""Data sets of the Hugging Face Hub: read as a stream at a pinned commit, as many rows as are wanted, and kept as JSONL."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from lorikeet.artifact import need_disk
from lorikeet.bases import cache_folder
from lorikeet.errors import DataError, RecipeError, first_line
from lorikeet.progress import Progress
from lorikeet.recipe import HUB_ID, LoadedRecipe, RowKey

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ROOM = 1 << 28
"""Bytes of disk that are asked for before rows are fetched, whose size nobody knows beforehand."""


def row_files(recipe: LoadedRecipe, key: RowKey, progress: Progress) -> list[Path]:
    """The files of a key of the data section; one of the Hub is fetched where it is not kept yet."""
    settings = recipe.recipe.data
    value = settings.sources()[key]
    return [fetch(value, settings.rows, progress)] if value and HUB_ID.fullmatch(value) else recipe.rows(key)


def fetch(source: str, rows: int | None, progress: Progress) -> Path:
    """The first `rows` rows (all: None) of the `train` split of owner/name@commit, one JSON object a line.

    Raises RecipeError where the revision is no commit, DataError where the Hub does not give the rows. What was fetched once is kept.
    """
    name, _, revision = source.partition("@")
    if not _COMMIT.fullmatch(revision):
        raise RecipeError(f"data: {source} names no commit, so that its rows may be others tomorrow", f"write {name}@{_commit(name, revision)}")
    path = cache_folder() / "hub-data" / f"{name.replace('/', '--')}-{revision[:12]}-{rows or 'all'}.jsonl"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    need_disk(path.parent, _ROOM, f"the rows of {name}")
    progress.say(f"  fetching {f'{rows} rows' if rows else 'all rows'} of {name} at {revision[:12]}")
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for number, row in enumerate(_stream(name, revision, rows), 1):
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            if number % 1000 == 0 or number == rows:
                progress.step("rows fetched", number, rows or number)
    part.replace(path)
    return path


def _stream(name: str, revision: str, rows: int | None) -> Iterator[Mapping[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    try:
        yield from islice(datasets.load_dataset(name, revision=revision, split="train", streaming=True), rows)
    except Exception as error:  # the library lets its readers' and its transport's own errors through, of many kinds
        raise _not_given(name, error) from error


def _commit(name: str, revision: str) -> str:
    """The commit that a branch, a tag or nothing names now."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().dataset_info(name, revision=revision or None).sha)
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise _not_given(name, error) from error


def _not_given(name: str, error: Exception) -> DataError:
    return DataError(f"data set {name}: the Hub did not give it: {first_line(error)}",
                     "check the name, the commit and the network; for a gated data set accept its terms on the Hub and set HF_TOKEN")  # fmt: skip
