"""Ratings on disk: what was acknowledged is read back, whoever writes beside, and however the writer ends."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from toy_ratings import ONE, rating

from lorikeet.errors import DataError, MachineError
from lorikeet.feedback.ratings import TORN, Skipped, read
from lorikeet.journal import Journal

TESTS = Path(__file__).parent.parent
WRITER = """
import os, sys
from pathlib import Path
from toy_ratings import rating
from lorikeet.journal import Journal
journal = Journal(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    one = rating(comment="\u00e4\\n" * 3000)
    journal.record(one)
    print(one.id, flush=True)
"""
FORKED = """
journal.record(rating(comment="before"))
child = os.fork()
journal.record(rating(comment="after"))
if child:
    os.waitpid(child, 0)
"""
OLD = {
    "timestamp": "2025-12-05T22:13:35.352584+00:00", "model_name": "First-Aid LoRA", "liked": True, "liked_index": [1, 1], "liked_value": "Lean forward.",
    "comment": "Good.", "chat_history": [["hello", "Hello!"], ["nosebleed", "Lean forward."]],
}  # fmt: skip


def writer(folder: Path, count: int, more: str = "") -> subprocess.Popen[str]:
    here = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}
    return subprocess.Popen([sys.executable, "-c", WRITER + more, str(folder), str(count)], stdout=subprocess.PIPE, text=True, env=here)


def lines_file(folder: Path, *lines: object, name: str = "ratings-1.jsonl", end: str = "\n") -> Path:
    """A file of lines, each as it is or as JSON."""
    (folder / name).write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end, encoding="utf-8")
    return folder / name


def test_a_rating_comes_back_as_it_was_given(tmp_path: Path) -> None:
    given = rating(liked=False, comment='Too "long",\nand \u2028 wrong', liked_index=(1, 1), chat_history=(("Q", "A"), ("I burned my hand", ONE.liked_value)))
    Journal(tmp_path / "feedback").record(given)
    assert read(tmp_path / "feedback") == ((given,), ())


def test_a_line_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    Journal(tmp_path).record(rating())
    (file,) = tmp_path.iterdir()
    (line,) = file.read_text().splitlines()
    row = json.loads(line)
    assert {"timestamp", "model_name", "liked", "liked_index", "liked_value", "comment", "chat_history", "id", "model_sha256", "adapter_sha256"} < row.keys()
    assert (row["app_version"], row["liked_index"], row["chat_history"]) == ("0.1.0", [0, 1], [["I burned my hand", ONE.liked_value]])


def test_the_file_is_begun_at_the_first_rating_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "feedback")
    assert not list(tmp_path.iterdir())
    journal.record(rating())
    (file,) = (tmp_path / "feedback").glob("ratings-*.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600


def test_two_journals_of_one_process_never_share_a_name(tmp_path: Path) -> None:
    for _ in range(20):
        Journal(tmp_path).record(rating())
    assert len(list(tmp_path.iterdir())) == 20


def test_four_processes_at_once_lose_and_tear_no_line(tmp_path: Path) -> None:
    writers = [writer(tmp_path, 50) for _ in range(4)]
    told = [process.communicate(timeout=120)[0].split() for process in writers]
    found = read(tmp_path)
    assert [process.returncode for process in writers] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 4
    assert not found.skipped
    assert sorted(one.id for one in found.ratings) == sorted(name for names in told for name in names)
    assert len(found.ratings) == 200


def test_threads_share_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    threads = [threading.Thread(target=lambda: [journal.record(rating(comment="x" * 5000)) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(tmp_path)
    assert (len(found.ratings), found.skipped, len(list(tmp_path.iterdir()))) == (160, (), 1)


def test_every_rating_acknowledged_before_a_kill_is_read_back(tmp_path: Path) -> None:
    process = writer(tmp_path, 100000)
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(30)]
    process.kill()
    told += process.communicate(timeout=60)[0].split()
    found = read(tmp_path)
    assert set(told) <= {one.id for one in found.ratings}
    assert len(found.ratings) <= len(told) + 1
    assert all(line.why == TORN for line in found.skipped)


def test_a_journal_used_after_a_fork_begins_a_file_of_its_own(tmp_path: Path) -> None:
    process = writer(tmp_path, 0, FORKED)
    process.communicate(timeout=60)
    assert process.returncode == 0
    comments = sorted(tuple(one.comment for one in read(file).ratings) for file in tmp_path.iterdir())
    assert comments == [("after",), ("before", "after")]


def test_a_journal_that_was_closed_begins_another_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(2):
        journal.record(rating())
        journal.close()
    journal.close()
    assert (len(read(tmp_path).ratings), len(list(tmp_path.iterdir()))) == (2, 2)


def test_ratings_after_the_file_was_removed_are_kept_in_another(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(rating())
    (first,) = tmp_path.iterdir()
    first.unlink()
    journal.record(again := rating())
    assert read(tmp_path).ratings == (again,)


def test_a_line_of_which_half_was_written_is_an_error_and_swallows_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, (first, lost, last), whole = Journal(tmp_path), (rating() for _ in range(3)), os.write
    journal.record(first)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[: len(data) // 2]))
        with pytest.raises(MachineError, match=r"the rating was not kept: .*only a part of the line") as error:
            journal.record(lost)
    assert "free some space" in error.value.cure
    journal.record(last)
    found = read(tmp_path)
    assert found.ratings == (first, last)
    assert [line.line for line in found.skipped] == [2]


def test_a_disk_that_takes_nothing_is_an_error_until_it_does_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    journal = Journal(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(MachineError, match="No space left on device"):
            journal.record(rating())
    journal.record(again := rating())
    assert read(tmp_path) == ((again,), ())


def test_a_sync_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(MachineError, match=r"not kept: .* Input/output error"):
        Journal(tmp_path).record(rating())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(MachineError, match="taken/feedback cannot be written"):
        Journal(tmp_path / "taken" / "feedback").record(rating())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MachineError, match="Permission denied"):
        Journal(tmp_path).record(rating())
    tmp_path.chmod(0o700)


def test_half_a_surrogate_pair_costs_no_more_than_itself(tmp_path: Path) -> None:
    Journal(tmp_path).record(rating(comment="ok \ud83d!"))
    assert read(tmp_path).ratings[0].comment == "ok ?!"


def test_the_last_word_on_a_reply_counts(tmp_path: Path) -> None:
    first, other = rating(), rating(timestamp="2026-11-30T10:00:30+00:00")
    changed = rating(id=first.id, liked=False, comment="No.", timestamp="2026-11-30T10:01:00+00:00")
    journal = Journal(tmp_path)
    for one in (changed, first, other):
        journal.record(one)
    assert read(tmp_path).ratings == (other, changed)


def test_of_two_words_at_one_time_the_later_line_counts(tmp_path: Path) -> None:
    first = rating()
    changed = rating(id=first.id, liked=False)
    journal = Journal(tmp_path)
    journal.record(first)
    journal.record(changed)
    assert read(tmp_path).ratings == (changed,)


def test_ratings_stand_in_the_order_of_time_across_offsets(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    given = [rating(timestamp=f"2026-11-30T{time}") for time in ("12:00:00+02:00", "10:30:00+00:00", "09:00:00-02:00")]
    for one in reversed(given):
        journal.record(one)
    assert read(tmp_path).ratings == tuple(given)


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_last_line_that_is_cut_off_is_counted(tmp_path: Path, kept: int) -> None:
    path = lines_file(tmp_path, asdict(rating()), json.dumps(asdict(rating()))[:kept], end="")
    found = read(path)
    assert (len(found.ratings), found.skipped) == (1, (Skipped("ratings-1.jsonl", 2, TORN),))


def test_a_last_line_that_is_cut_off_within_a_character_is_counted(tmp_path: Path) -> None:
    path = lines_file(tmp_path, asdict(rating()))
    path.write_bytes(path.read_bytes() + '{"comment": "ä'.encode()[:-1])
    assert read(path).skipped == (Skipped("ratings-1.jsonl", 2, TORN),)


def test_a_whole_last_line_without_its_line_feed_is_read(tmp_path: Path) -> None:
    assert len(read(lines_file(tmp_path, asdict(rating()), asdict(rating()), end="")).ratings) == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"timestamp": "2026-', "not JSON"),
        ("[1]", "a JSON object has to stand here"),
        ("[" * 100000, "not JSON"),
        ({**OLD, "liked": "perhaps"}, "liked: "),
        ({**OLD, "liked": None}, "liked: "),
        ({**OLD, "timestamp": "yesterday"}, "isoformat"),
        ({**OLD, "timestamp": "0001-01-01T00:00:00+23:00"}, "out of range"),
        ({**OLD, "chat_history": [["alone"]]}, "chat_history.0.1: "),
        ({**OLD, "liked_index": [2, 1]}, "2 is no exchange of chat_history, which has 2"),
        ({**OLD, "comment": "\ud83d"}, "surrogates not allowed"),
        ({key: value for key, value in OLD.items() if key != "chat_history"}, "chat_history: Field required"),
    ],
)
def test_a_broken_line_is_told_with_its_place_and_costs_no_other(tmp_path: Path, line: object, why: str) -> None:
    found = read(lines_file(tmp_path, asdict(rating()), "", line, asdict(rating())))
    assert len(found.ratings) == 2
    (skipped,) = found.skipped
    assert skipped[:2] == ("ratings-1.jsonl", 3)
    assert why in skipped.why


def test_an_old_file_is_read_with_what_it_has(tmp_path: Path) -> None:
    lines_file(tmp_path, OLD, {**OLD, "comment": None}, name="feedback.jsonl")
    first, second = read(tmp_path).ratings
    assert (first.liked, first.liked_index, first.comment, second.comment) == (True, (1, 1), "Good.", "")
    assert (first.model_sha256, first.rater, first.controls, first.chat_history[-1]) == ("", "", {}, ("nosebleed", "Lean forward."))
    assert first.id != second.id
    assert read(tmp_path) == read(tmp_path / "feedback.jsonl")


def test_an_old_rating_of_an_earlier_reply_ends_on_it(tmp_path: Path) -> None:
    (found,) = read(lines_file(tmp_path, {**OLD, "liked_index": [0, 1], "liked_value": "Hello!"})).ratings
    assert found.chat_history == (("hello", "Hello!"),)


def test_old_times_without_an_offset_are_read_beside_new_ones(tmp_path: Path) -> None:
    lines_file(tmp_path, {**OLD, "timestamp": "2026-11-30T10:00:01"}, asdict(rating()))
    assert [one.timestamp for one in read(tmp_path).ratings] == ["2026-11-30T10:00:00+00:00", "2026-11-30T10:00:01"]


def test_a_folder_is_read_with_all_its_journals_and_nothing_else(tmp_path: Path) -> None:
    for name in ("ratings-1.jsonl", "ratings-2.jsonl", "feedback.jsonl", "rows.jsonl", "ratings-3.txt"):
        lines_file(tmp_path, asdict(rating(comment=name)), name=name)
    assert sorted(one.comment for one in read(tmp_path).ratings) == ["feedback.jsonl", "ratings-1.jsonl", "ratings-2.jsonl"]


def test_a_folder_without_ratings_has_none(tmp_path: Path) -> None:
    assert read(tmp_path) == ((), ())


def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist: no reply has been rated yet"):
        read(tmp_path / "feedback")
