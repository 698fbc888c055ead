"""What `lorikeet feedback RUN` shows: ratings as counts with intervals, one after another to read, and as rows that train.objective: kto learns from."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal, NamedTuple

from lorikeet import statistics
from lorikeet.artifact import Json
from lorikeet.conversation import Conversation, Rating, Source, conversation
from lorikeet.errors import DataError, RecipeError
from lorikeet.feedback.ratings import TORN, Ratings, Skipped, instant
from lorikeet.statistics import Interval

Only = Literal["", "liked", "disliked", "commented"]
SHOWN = 10
"""Skipped lines that are listed."""


class Count(NamedTuple):
    """Ratings that have something in common: how many liked, how many browser sessions they came from, and the share that liked."""

    name: str
    liked: int
    raters: int
    share: Interval

    def document(self) -> dict[str, Json]:
        """As JSON; shares are rounded to 6 places."""
        value, low, high = (round(x, 6) for x in self.share[:3])
        return {"name": self.name, "n": self.share.n, "liked": self.liked, "raters": self.raters, "share": value, "low": low, "high": high,
                "method": self.share.method}  # fmt: skip


def summary(ratings: Sequence[Rating]) -> dict[str, Json]:
    """How many liked, with 95 % intervals: `all`, and lists `by_model`, `by_file` (sha256), `by_persona` and `by_week` (ISO, in UTC)."""
    return {"all": _count("all", ratings).document(), **{title: [count.document() for count in counts] for title, counts in _tables(ratings).items()}}


def told(read: Ratings) -> str:
    """The counts as a table, and the lines that could not be read. A last line that its writer did not live to end is counted, not listed."""
    whole = _count("all", read.ratings)
    lines = [f"{whole.share.n} ratings by {whole.raters} raters, liked {_points(whole.share)}" if read.ratings else "no ratings", *_skipped(read.skipped)]
    tables = _tables(read.ratings)
    wide = max(len(_short(count)) for counts in tables.values() for count in counts) if read.ratings else 0
    for title, counts in tables.items():
        lines += ["", f"{title.replace('_', ' '):{wide}}  {'n':>5}  {'raters':>6}  liked (95 % interval)"] if counts else []
        lines += [f"{_short(count):{wide}}  {count.share.n:5}  {count.raters:6}  {_points(count.share)}" for count in counts]
    return "\n".join(lines)


def of_files(ratings: Sequence[Rating], only_sha256: AbstractSet[str]) -> tuple[Rating, ...]:
    """Those that judge a reply of the named files, such as those of a release; by the bytes that answered, not by their name."""
    return tuple(rating for rating in ratings if rating.model_sha256 in only_sha256)


def chosen(ratings: Sequence[Rating], only: Only) -> list[Rating]:
    """The ratings of a kind; "" takes all."""
    wanted: dict[Only, Callable[[Rating], bool]] = {
        "": lambda rating: True,
        "liked": lambda rating: rating.liked,
        "disliked": lambda rating: not rating.liked,
        "commented": lambda rating: bool(rating.comment),
    }
    return [rating for rating in ratings if wanted[only](rating)]


def browse(ratings: Sequence[Rating], only: Only = "") -> str:
    """One rating after another: when, by which file, the question, the reply, what was thought of it. What users wrote cannot drive the terminal."""
    return "\n\n".join(map(_shown, chosen(ratings, only)))


class Exported(NamedTuple):
    """How many rows were written, and the ids of the ratings that could not become one, since a turn of theirs is empty."""

    rows: int
    left_out: tuple[str, ...]


def export(ratings: Sequence[Rating], path: Path) -> Exported:
    """Write labelled rows as JSONL (docs/data.md), the rating's id in each: the reply with its thumb, and a correction as one that is liked.

    Raises RecipeError for a file that is there already, cannot be written, or is not named .jsonl; DataError where no rating makes a row.
    """
    if path.suffix != ".jsonl":
        raise RecipeError(f"{path} is not named as what it would be, one JSON object a line", "give it a name that ends in .jsonl")
    rows: list[str] = []
    left_out: list[str] = []
    for rating in ratings:
        try:
            rows += [json.dumps(row, ensure_ascii=False) for row in rows_of(rating)]
        except DataError:
            left_out.append(rating.id)
    if not rows:
        raise DataError("there is no rating to make a row of", "take all of them, or wait until replies are rated")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.writelines(f"{row}\n" for row in rows)
    except FileExistsError:
        raise RecipeError(f"{path} exists already", "choose another name, or remove the file") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be written: {error.strerror}", "choose a folder that you may write to") from error
    return Exported(len(rows), tuple(left_out))


def rows_of(rating: Rating) -> list[dict[str, Json]]:
    """The rows of a rating, both or none; DataError where its turns are no conversation."""
    rows = [row_of(rating, rating.liked_value, rating.liked)]
    return [*rows, row_of(rating, rating.correction, True)] if rating.correction.strip() else rows


def row_of(rating: Rating, answer: str, liked: bool) -> dict[str, Json]:
    """An answer to what the rating's reply answers, as a labelled row; DataError where a turn is empty."""
    messages: list[Json] = [{"role": m.role, "content": m.content} for m in _talk(rating, answer).messages]
    return {"messages": messages, "label": liked, "rating": rating.id, **({"mode": rating.mode} if rating.mode else {})}


def _talk(rating: Rating, answer: str) -> Conversation:
    *earlier, (question, _) = rating.chat_history
    turns = [("system", rating.system)] if rating.system.strip() else []
    for asked, answered in (*earlier, (question, answer)):
        turns += [("user", asked), ("assistant", answered)]
    return conversation(turns, Source(rating.id, 1))


def _tables(ratings: Sequence[Rating]) -> dict[str, list[Count]]:
    keys: dict[str, Callable[[Rating], str]] = {
        "by_model": lambda rating: rating.model_name,
        "by_file": lambda rating: rating.model_sha256,
        "by_persona": lambda rating: rating.persona,
        "by_week": _week,
    }
    return {title: _counts(ratings, key) for title, key in keys.items()}


def _week(rating: Rating) -> str:
    year, week, _ = instant(rating).isocalendar()
    return f"{year}-W{week:02}"


def _counts(ratings: Sequence[Rating], key: Callable[[Rating], str]) -> list[Count]:
    """By the key's values in their order; `unknown` where a rating does not say."""
    groups: dict[str, list[Rating]] = {}
    for rating in ratings:
        groups.setdefault(key(rating), []).append(rating)
    return [_count(name or "unknown", groups[name]) for name in sorted(groups)]


def _count(name: str, ratings: Sequence[Rating]) -> Count:
    """One rater's ratings are alike, so that the interval goes by raters where one gave several; who is not known counts as somebody else."""
    raters = [rating.by for rating in ratings]
    hits = [rating.liked for rating in ratings]
    count = len(set(raters))
    if count == len(hits):
        interval = statistics.share(sum(hits), len(hits))
    elif count == 1:
        interval = Interval(sum(hits) / len(hits), 0.0, 1.0, len(hits), "one rater, which bounds nothing")
    else:
        interval = statistics.clustered_share(hits, raters)[0]
    return Count(name, sum(hits), count, interval)


def _short(count: Count) -> str:
    """The name for a table: a hash by its beginning."""
    return _plain(count.name[:12] if re.fullmatch("[0-9a-f]{64}", count.name) else " ".join(count.name.split()))


def _points(share: Interval) -> str:
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


def _skipped(skipped: Sequence[Skipped]) -> Iterator[str]:
    listed = [line for line in skipped if line.why != TORN]
    if torn := len(skipped) - len(listed):
        yield f"{torn} ratings were cut off while they were written"
    if listed:
        yield f"{len(listed)} lines hold no rating"
    yield from (f"  {line.file}:{line.line}: {line.why}" for line in listed[:SHOWN])
    if len(listed) > SHOWN:
        yield f"  ... and {len(listed) - SHOWN} more"


def _shown(rating: Rating) -> str:
    head = (rating.timestamp, "liked" if rating.liked else "disliked", rating.model_name, rating.model_sha256[:12], rating.mode, rating.id)
    earlier = len(rating.chat_history) - 1
    said = {
        "earlier exchanges": str(earlier or ""),
        "question": rating.chat_history[-1][0],
        "reply": rating.liked_value,
        "comment": rating.comment,
        "correction": rating.correction,
    }
    return _plain("\n".join(["  ".join(filter(None, head)), *(f"  {what}: " + text.replace("\n", "\n    ") for what, text in said.items() if text)]))


def _plain(text: str) -> str:
    """The text without control characters, which could clear or forge what stands on a terminal."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)
