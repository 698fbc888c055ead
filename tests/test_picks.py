"""Blind comparisons: a pick counts for the model whichever side it stood on, is told with an interval, and outlives the process."""

from pathlib import Path

from lorikeet.picks import PATTERN, Tally, read

A, B, C = ("a", "aa" * 32), ("b", "bb" * 32), ("c", "cc" * 32)


def test_a_pick_counts_for_the_model_whichever_side_it_stood_on() -> None:
    tally = Tally("Helper")
    for _ in range(9):
        tally.add([B, A], "a")
    tally.add([A, B], "b")
    tally.add([A, B], "")
    told = tally.told([B, A])
    assert told.startswith("a was preferred to b in 9 of 10 (")
    assert told.endswith("1 saw no difference; a difference is shown")


def test_few_picks_show_no_difference_and_pairs_do_not_mix() -> None:
    tally = Tally("Helper")
    tally.add([A, B], "a")
    assert tally.told([A, B]).endswith("no difference is shown yet")
    assert tally.told([A, C]) == "nobody has compared them yet"
    assert tally.told([A, ("b", "other bytes")]) == "nobody has compared them yet"


def test_picks_are_counted_on_after_the_process_has_ended_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    Tally("Helper", tmp_path).add([A, B], "a")
    with next(tmp_path.glob(PATTERN)).open("ab") as file:
        file.write(b'{"timestamp": "2026')
    again = Tally("Helper", tmp_path)
    again.add([A, B], "a")
    assert again.told([A, B]).startswith("a was preferred to b in 2 of 2 (")
    assert Tally("Tutor", tmp_path).told([A, B]) == "nobody has compared them yet"
    assert len(read(tmp_path)) == 2
