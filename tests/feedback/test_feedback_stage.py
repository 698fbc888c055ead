"""Ratings counted, shown and exported: with intervals, harmless on a terminal, and as rows that the data stage reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy_ratings import ONE, REPLY, rating

from lorikeet import statistics
from lorikeet.conversation import Conversation, Rating
from lorikeet.data.sources import FileRows, read_file, require_all
from lorikeet.errors import DataError, RecipeError
from lorikeet.feedback import stage
from lorikeet.feedback.ratings import TORN, Ratings, Skipped


def rated(liked: int, disliked: int, **changes: str) -> list[Rating]:
    return [rating(liked=n < liked, **changes) for n in range(liked + disliked)]


def summary(*ratings: Rating) -> dict[str, Any]:
    """As it comes out of JSON."""
    found: dict[str, Any] = json.loads(json.dumps(stage.summary(ratings)))
    return found


def told(*ratings: Rating, skipped: tuple[Skipped, ...] = ()) -> str:
    return stage.told(Ratings(ratings, skipped))


def exported(tmp_path: Path, *ratings: Rating) -> list[Conversation]:
    """The rows as the data stage reads them, every one."""
    stage.export(ratings, tmp_path / "rows.jsonl")
    file = FileRows(tmp_path / "rows.jsonl")
    rows = list(read_file(file))
    require_all([file])
    return rows


def test_shares_have_wilsons_interval_and_n() -> None:
    low, high = (round(x, 6) for x in statistics.share(8, 10)[1:3])
    assert summary(*rated(8, 2))["all"] == {
        "name": "all", "n": 10, "liked": 8, "raters": 10, "share": 0.8, "low": low, "high": high, "method": "wilson",
    }  # fmt: skip


def test_counts_are_told_apart_by_model_file_persona_and_week() -> None:
    other = rated(0, 2, model_name="other", model_sha256="c" * 64, persona="Tutor", timestamp="2026-12-31T23:30:00-02:00")
    found = summary(*rated(3, 1), *other)
    found.pop("all")
    assert {title: [(row["name"], row["n"], row["liked"]) for row in rows] for title, rows in found.items()} == {
        "by_model": [("first-aid-Q4_K_M", 4, 3), ("other", 2, 0)],
        "by_file": [("a" * 64, 4, 3), ("c" * 64, 2, 0)],
        "by_persona": [("First aid", 4, 3), ("Tutor", 2, 0)],
        "by_week": [("2026-W49", 4, 3), ("2026-W53", 2, 0)],
    }


def test_several_ratings_of_one_rater_widen_the_interval() -> None:
    narrow, wide = (summary(*ratings)["all"] for ratings in (rated(8, 8), [*rated(8, 0, rater="x"), *rated(0, 8, rater="y")]))
    assert (wide["raters"], wide["n"], wide["share"]) == (2, 16, 0.5)
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]


def test_one_rater_alone_bounds_nothing() -> None:
    found = summary(*rated(0, 50, rater="x"))["all"]
    assert (found["n"], found["raters"], found["share"], found["low"], found["high"]) == (50, 1, 0.0, 0.0, 1.0)


def test_what_a_rating_does_not_say_is_unknown() -> None:
    found = summary(rating(model_name="", model_sha256="", persona=""))
    assert [found[title][0]["name"] for title in ("by_model", "by_file", "by_persona")] == ["unknown"] * 3


def test_without_ratings_there_are_no_tables() -> None:
    assert summary()["by_model"] == []
    assert told() == "no ratings"


def test_the_table_tells_share_interval_and_n() -> None:
    lines = told(*rated(8, 2)).splitlines()
    assert lines[0] == "10 ratings by 10 raters, liked 80% (49% to 94%)"
    assert [line.split() for line in lines[2:4]] == [
        ["by", "model", "n", "raters", "liked", "(95", "%", "interval)"],
        ["first-aid-Q4_K_M", "10", "10", "80%", "(49%", "to", "94%)"],
    ]
    assert f"{'a' * 12} " in lines[6]


def test_lines_that_hold_no_rating_are_listed_and_torn_ones_counted() -> None:
    skipped = (Skipped("ratings-1.jsonl", 7, "not JSON"), Skipped("ratings-1.jsonl", 9, TORN), *(Skipped("b.jsonl", n, "bad") for n in range(11)))
    lines = told(rating(), skipped=skipped).splitlines()[1:14]
    assert lines[:3] == ["1 ratings were cut off while they were written", "12 lines hold no rating", "  ratings-1.jsonl:7: not JSON"]
    assert lines[-1] == "  ... and 2 more"
    assert not any(":9:" in line for line in lines)


def test_only_ratings_of_named_bytes_are_kept() -> None:
    ours, other, old = rating(), rating(model_sha256="c" * 64), rating(model_sha256="")
    assert stage.of_files([ours, other, old], {"a" * 64, "d" * 64}) == (ours,)


def test_a_rating_is_shown_with_question_reply_thumb_and_comment() -> None:
    one = rating(
        liked=False, mode="short", comment="Too short.\nAnd cold.", correction="Cool it for 20 minutes.", chat_history=(("Hi", "Hello!"), ("A burn", REPLY))
    )
    assert stage.browse([one]).splitlines() == [
        f"2026-11-30T10:00:00+00:00  disliked  first-aid-Q4_K_M  {'a' * 12}  short  {one.id}",
        "  earlier exchanges: 1",
        "  question: A burn",
        f"  reply: {REPLY}",
        "  comment: Too short.",
        "    And cold.",
        "  correction: Cool it for 20 minutes.",
    ]


@pytest.mark.parametrize(("only", "shown"), [("", "abc"), ("liked", "ac"), ("disliked", "b"), ("commented", "bc")])
def test_some_sorts_of_ratings_can_be_shown_alone(only: stage.Only, shown: str) -> None:
    ratings = [rating(id="-a-"), rating(id="-b-", liked=False, comment="No."), rating(id="-c-", comment="Yes.")]
    text = stage.browse(ratings, only)
    assert "".join(name for name in "abc" if f"-{name}-" in text) == shown


def test_what_users_wrote_cannot_drive_the_terminal() -> None:
    one = rating(comment="\x1b[2J\x9b1A\r\x07gone", persona="\x1b]0;x\x07", chat_history=(("\x1b[31mred", REPLY),))
    for text in (stage.browse([one]), told(one)):
        assert not {"\x1b", "\x9b", "\r", "\x07"} & set(text)
    assert "gone" in stage.browse([one])


def test_a_rated_reply_is_a_labelled_row_with_system_turn_and_earlier_turns(tmp_path: Path) -> None:
    (row,) = exported(tmp_path, rating(liked=False, mode="short", chat_history=(("Hi", "Hello!"), ("A burn", REPLY)), liked_index=(1, 1)))
    assert [(m.role, m.content) for m in row.messages] == [
        ("system", "You help."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "A burn"), ("assistant", REPLY),
    ]  # fmt: skip
    assert (row.liked, row.mode) == (False, "short")


def test_a_correction_is_a_row_of_its_own_that_is_liked(tmp_path: Path) -> None:
    rows = exported(tmp_path, rating(liked=False, correction="Cool it for 20 minutes."))
    assert [(row.question, row.answer, row.liked) for row in rows] == [
        ("I burned my hand", REPLY, False), ("I burned my hand", "Cool it for 20 minutes.", True),
    ]  # fmt: skip


def test_a_row_names_its_rating_and_nothing_of_who_gave_it(tmp_path: Path) -> None:
    one = rating(comment="My name is Ann.", rater="c0ffee")
    exported(tmp_path, one)
    (line,) = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert json.loads(line) == {"messages": [{"role": "system", "content": "You help."}, {"role": "user", "content": "I burned my hand"},
                                             {"role": "assistant", "content": REPLY}], "label": True, "rating": one.id}  # fmt: skip


def test_liked_and_disliked_replies_are_both_there_for_kto(tmp_path: Path) -> None:
    assert [row.liked for row in exported(tmp_path, rating(), rating(liked=False), rating(system=""))] == [True, False, True]


def test_ratings_whose_turns_are_empty_are_left_out_and_named(tmp_path: Path) -> None:
    empty, whole = rating(chat_history=((" ", REPLY),), correction="Cool it."), rating()
    found = stage.export([empty, whole], tmp_path / "rows.jsonl")
    assert found == stage.Exported(1, (empty.id,))


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("mine")
    with pytest.raises(RecipeError, match=r"rows\.jsonl exists already"):
        stage.export([ONE], tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text() == "mine"


def test_a_name_that_would_be_read_as_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"rows\.csv is not named"):
        stage.export([ONE], tmp_path / "rows.csv")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be written: No such file"):
        stage.export([ONE], tmp_path / "none" / "rows.jsonl")


def test_nothing_to_export_is_an_error_and_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rating to make a row of"):
        stage.export([rating(liked_value="")], tmp_path / "rows.jsonl")
    assert not list(tmp_path.iterdir())
