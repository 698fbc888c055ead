"""Which ratings are learned from, and which are set aside and why. Nothing is deleted: a rating that was set aside can be accepted by the owner.

A rating is somebody's word, and whoever can rate can try to teach: the assistant learns nothing here that a rule or the owner has not let through.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import NamedTuple

from lorikeet.conversation import Message, Rating, Source, conversation
from lorikeet.data.contents import personal_in, secret_in
from lorikeet.data.rows import Row
from lorikeet.errors import DataError
from lorikeet.private import knowing_secrets
from lorikeet.retrain.review import Decision
from lorikeet.scoring import fold
from lorikeet.sickness import TEMPLATE_MARKS

FLOOD, FLOOD_SHARE = 20, 0.05
"""Ratings of one rater from which they are too many, and the share of all that they are then."""
COPIED = 3
"""Questions for which one rater writes one and the same correction."""
COMPANY = 3
"""Replies that others have rated too, from which on it is asked whether a rater agrees with them."""
AGAINST = 0.01
"""Probability below which a rater who agrees so seldom is taken for one that judges the other way round."""
_STEERING = re.compile(
    rf"{TEMPLATE_MARKS}|\b(?:ignore|disregard|forget|override)\b.{{0,30}}\b(?:instructions?|rules?|prompts?|training|above|previous)\b"
    r"|\b(?:system|developer) (?:prompt|message)\b|\byou are now\b|\bfrom now on,? (?:you|always|never)\b|\bpretend (?:to be|you)\b"
    r"|\bjailbr[eo]a?k|\bDAN mode\b|^\s*(?:system|assistant)\s*:",
    re.I | re.M | re.S,
)
"""What tries to steer the model, in place of asking it something."""


class SetAside(NamedTuple):
    """A rating that is not learned from: the code of the reason, and the reason in words."""

    rating: Rating
    code: str
    why: str


class Sifted(NamedTuple):
    """What is learned from, in the order of time, and what is not."""

    accepted: tuple[Rating, ...]
    aside: tuple[SetAside, ...]


def sift(ratings: Sequence[Rating], files: AbstractSet[str], exam: AbstractSet[str], decisions: Mapping[str, Decision]) -> Sifted:
    """Sort ratings, each by the first reason that holds.

    files: sha256 of the files whose replies count. exam: folded questions that the assistant is examined by. decisions: the owner's, by rating id; what was
    accepted passes all that a person can judge, with the correction that was mended.
    """
    aside: list[SetAside] = []
    left: list[Rating] = []
    granted: list[Rating] = []
    with knowing_secrets():
        for rating in ratings:
            decision = decisions.get(rating.id)
            why = _unusable(rating, files, exam)
            if not why and decision and not decision.accepted:
                why = "rejected", "the owner rejected it"
            if why:
                aside.append(SetAside(rating, *why))
            elif decision:
                granted.append(decision.mended(rating))
            elif why := _by_itself(rating):
                aside.append(SetAside(rating, *why))
            else:
                left.append(rating)
    for rule in (_duplicates, _floods, _copies, _contrary):
        found = rule(left, [*left, *granted])
        aside += found
        gone = {one.rating.id for one in found}
        left = [rating for rating in left if rating.id not in gone]
    accepted = {rating.id: rating for rating in (*granted, *left)}
    order = {rating.id: n for n, rating in enumerate(ratings)}
    return Sifted(tuple(accepted[rating.id] for rating in ratings if rating.id in accepted), tuple(sorted(aside, key=lambda one: order[one.rating.id])))


def _unusable(rating: Rating, files: AbstractSet[str], exam: AbstractSet[str]) -> tuple[str, str] | tuple[()]:
    """What no owner can let through."""
    if rating.model_sha256 not in files:
        return "another-model", f"it judges a reply of another model ({rating.model_name}, {rating.model_sha256[:12] or 'no sha256'})"
    try:
        row = _row(rating)
    except DataError:
        return "empty", "a turn of it is empty"
    if fold(row.conversation.question) in exam:
        return "exam", "its question stands in the exam, which would be known beforehand"
    return ()


def _by_itself(rating: Rating) -> tuple[str, str] | tuple[()]:
    row = _row(rating)
    if kinds := secret_in(row):
        return "secret", f"it holds a secret ({kinds[0]})"
    if kinds := personal_in(row):
        return "personal", f"it holds personal data ({kinds[0]})"
    written = [question for question, _ in rating.chat_history] + [rating.correction, rating.comment]
    if mark := next((found[0] for text in written if (found := _STEERING.search(text))), ""):
        return "steering", f"it tries to steer the model: {' '.join(mark.split())!r}"
    return ()


def _row(rating: Rating) -> Row:
    """All that was written, as a row of data, with the correction and the comment behind the reply; DataError where a turn is empty."""
    turns = [turn for question, answer in rating.chat_history for turn in (("user", question), ("assistant", answer))]
    talk = conversation(turns, Source(rating.id, 1))
    last = Message("assistant", "\n".join(filter(None, (talk.answer, rating.correction, rating.comment))))
    return Row(replace(talk, messages=(*talk.messages[:-1], last)), "train", "", "taught")


def _duplicates(left: Sequence[Rating], everything: Sequence[Rating]) -> list[SetAside]:
    """Of one rater's ratings of one reply to one question all but the last."""
    last = {_place(rating): rating.id for rating in everything}
    return [SetAside(r, "duplicate", "the same rater rated this reply again later") for r in left if last[_place(r)] != r.id]


def _place(rating: Rating) -> tuple[str, str, str]:
    return rating.by, fold(" ".join(question for question, _ in rating.chat_history)), fold(rating.liked_value)


def _floods(left: Sequence[Rating], everything: Sequence[Rating]) -> list[SetAside]:
    counts = Counter(rating.by for rating in everything)
    bound = max(FLOOD, FLOOD_SHARE * len(everything))
    return [SetAside(r, "flood", f"one rater gave {counts[r.by]} of {len(everything)} ratings") for r in left if counts[r.by] > bound]


def _copies(left: Sequence[Rating], everything: Sequence[Rating]) -> list[SetAside]:
    asked: dict[tuple[str, str], set[str]] = {}
    for rating in everything:
        if rating.correction:
            asked.setdefault((rating.by, fold(rating.correction)), set()).add(fold(rating.liked_value))
    return [SetAside(r, "copied", "one rater wrote this correction for several different replies") for r in left
            if r.correction and len(asked[r.by, fold(r.correction)]) >= COPIED]  # fmt: skip


def _contrary(left: Sequence[Rating], everything: Sequence[Rating]) -> list[SetAside]:
    """Ratings of those who agree with the others about the same replies so seldom that they seem to judge the other way round.

    A reply's other raters decide by majority; how often raters agree with it on the whole is the rate that one rater is held against (binomial, one-sided).
    The worst one is set aside and the rest are reckoned anew, until none is left.
    """
    from scipy.stats import binomtest

    found: list[SetAside] = []
    mine = {rating.by for rating in left}
    pool = [*everything]
    while True:
        agreed, asked = _agreement(pool)
        whole = sum(agreed.values()) / max(sum(asked.values()), 1)
        chances = {
            rater: float(binomtest(agreed[rater], n, min(max(whole, 0.5), 0.999), alternative="less").pvalue)
            for rater, n in asked.items()
            if n >= COMPANY and rater in mine
        }
        worst = min(chances, key=lambda rater: chances[rater], default="")
        if not worst or chances[worst] >= AGAINST:
            return found
        why = f"its rater agrees with the others in {agreed[worst]} of {asked[worst]} replies that they rated too"
        found += [SetAside(r, "contrary", why) for r in left if r.by == worst]
        pool = [r for r in pool if r.by != worst]


def _agreement(ratings: Sequence[Rating]) -> tuple[Counter[str], Counter[str]]:
    """By rater: with how many of the replies that two or more others rated, and do not tie about, the rater agrees; and how many there are."""
    votes: dict[str, Counter[str]] = {}
    for rating in ratings:
        votes.setdefault(fold(rating.liked_value), Counter())[rating.by] += 1 if rating.liked else -1
    agreed: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for cast in votes.values():
        whole = sum(cast.values())
        for rater, vote in cast.items():
            if len(cast) > 2 and vote and whole != vote:
                asked[rater] += 1
                agreed[rater] += (whole - vote > 0) == (vote > 0)
    return agreed, asked
