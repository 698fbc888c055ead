"""What ratings teach: answers once each as most judged them, corrections, and answers that others are taught in place of."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

from lorikeet.artifact import Json
from lorikeet.conversation import Rating
from lorikeet.feedback.stage import row_of
from lorikeet.scoring import fold

AGREED = 2
"""Raters who have to write the same correction of an answer for it to be taught in that answer's place everywhere."""


def by_majority(ratings: Sequence[Rating], given_up: AbstractSet[str] = frozenset()) -> list[dict[str, Json]]:
    """Labelled rows: a reply to a question once, as most judged it (none where they tie), and every different correction of one that is not liked.

    given_up: folded answers that another is taught in place of; nobody's like brings them back.
    """
    judged: dict[tuple[object, ...], list[Rating]] = {}
    for rating in ratings:
        judged.setdefault((rating.system, rating.mode, rating.chat_history), []).append(rating)
    rows = []
    for those in judged.values():
        votes = sum(1 if rating.liked else -1 for rating in those)
        if votes < 0 or (votes and fold(those[-1].liked_value) not in given_up):
            rows.append(row_of(those[-1], those[-1].liked_value, votes > 0))
        if votes <= 0:
            corrected = {fold(rating.correction): rating for rating in those if rating.correction.strip()}
            rows += [row_of(rating, rating.correction, liked=True) for rating in corrected.values()]
    return rows


def replaced(ratings: Sequence[Rating]) -> list[dict[str, Json]]:
    """Answers that most dislike, whatever was asked, and of which several raters wrote the same correction: it is taught in the answer's place everywhere."""
    judged: dict[str, list[Rating]] = {}
    for rating in ratings:
        judged.setdefault(fold(rating.liked_value), []).append(rating)
    rows: list[dict[str, Json]] = []
    for those in judged.values():
        raters: dict[str, set[str]] = {}
        for rating in those:
            if rating.correction.strip():
                raters.setdefault(rating.correction.strip(), set()).add(rating.by)
        best = max(raters, key=lambda text: (len(raters[text]), text), default="")
        if best and len(raters[best]) >= AGREED and sum(1 if rating.liked else -1 for rating in those) < 0:
            rows.append({"answer": those[-1].liked_value, "by": best, "raters": len(raters[best])})
    return rows


def one_after_the_other(before: Sequence[dict[str, Json]], now: Sequence[dict[str, Json]]) -> list[dict[str, Json]]:
    """Replacements of an earlier round with those of this one behind them: what was replaced by an answer that is replaced now gets the last one at once."""
    last = {fold(str(row["answer"])): row["by"] for row in now}
    return [*({**row, "by": last.get(fold(str(row["by"])), row["by"])} for row in before), *now]


def shared_words(answers: Sequence[str]) -> int:
    """The most words with which two of the answers begin alike: before them nothing tells one situation from another."""
    texts = sorted(answer.split() for answer in answers)
    alike = (next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))) for one, other in pairwise(texts))
    return max((n for n in alike), default=0)
