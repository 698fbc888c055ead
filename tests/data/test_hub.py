"""Rows of the Hub: the real client against a stand-in on this machine, in processes of their own, since the client reads its endpoint once."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub, serving
from toy_recipe import write_recipe

pytestmark = pytest.mark.slow
ROWS = [{"question": f"What is {n}?", "answer": f"It is the number {n}, {'and so on ' * 1500}{n * 7919}."} for n in range(4000)]


def parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), written, row_group_size=20, compression="none", use_dictionary=False)
    return written.getvalue()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub("owner/rows", {"README.md": b"# Rows\n", "data/train-00000-of-00001.parquet": parquet()})) as running:
        yield running


def lorikeet(hub: FakeHub, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "LORIKEET_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    return subprocess.run([sys.executable, "-m", "lorikeet", *arguments], capture_output=True, text=True, timeout=300, env={**os.environ, **here})


def recipe(tmp_path: Path, source: str, rows: str = "150") -> str:
    path = write_recipe(tmp_path / "recipe")
    path.write_text(path.read_text().replace("train: rows.jsonl", f"train: {source}\n  rows: {rows}\n  max_tokens: 20000"))
    return str(path)


def test_the_first_rows_are_read_without_the_rest_and_kept(hub: FakeHub, tmp_path: Path) -> None:
    path = recipe(tmp_path, f"owner/rows@{COMMIT}")
    first = lorikeet(hub, tmp_path, "check", path, "--json")
    assert first.returncode == 0, first.stderr
    (file,) = json.loads(first.stdout)["files"]
    assert (file["rows"], file["format"]) == (150, "question/answer")
    (kept,) = (tmp_path / "cache" / "hub-data").iterdir()
    assert [json.loads(line) for line in kept.read_text().splitlines()] == ROWS[:150]
    assert hub.sent < 0.8 * len(hub.files["data/train-00000-of-00001.parquet"])
    hub.asked.clear()
    assert lorikeet(hub, tmp_path, "check", path).returncode == 0
    assert not hub.asked


def test_a_data_set_is_checked_by_its_name(hub: FakeHub, tmp_path: Path) -> None:
    done = lorikeet(hub, tmp_path, "check", f"owner/rows@{COMMIT}", "--rows", "60", "--json")
    assert done.returncode == 0, done.stderr
    assert [(f["rows"], f["format"]) for f in json.loads(done.stdout)["files"]] == [(60, "question/answer")]


def test_a_branch_is_refused_with_the_commit_that_it_names(hub: FakeHub, tmp_path: Path) -> None:
    refused = lorikeet(hub, tmp_path, "check", recipe(tmp_path, "owner/rows@main"))
    assert refused.returncode == 2
    assert f"write owner/rows@{COMMIT}" in refused.stderr


@pytest.mark.parametrize("source", [f"owner/gone@{COMMIT}", f"owner/rows@{'d' * 40}", "owner/gone@main"])
def test_what_the_hub_does_not_have_is_told_in_two_lines(hub: FakeHub, tmp_path: Path, source: str) -> None:
    refused = lorikeet(hub, tmp_path, "check", recipe(tmp_path, source))
    assert refused.returncode == 2, refused.stderr
    assert "the Hub did not give it" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("cache/hub-data/*.jsonl"))
