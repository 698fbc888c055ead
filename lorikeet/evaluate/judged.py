"""Questions whose answers people have judged, asked again: does the reply go with what was liked, and away from what was disliked?"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lorikeet.artifact import Artifact
from lorikeet.comparison import Column
from lorikeet.conversation import Message
from lorikeet.exam import JUDGED, Answer, Question, evenly
from lorikeet.scoring import fold

ALIKE = 0.8
"""ROUGE-L from which a reply is taken for the answer that was judged, where there is no other to hold it against."""


@dataclass
class Judged:
    """A question with the answers that were judged, each with likes less dislikes, and whether the judgements were held out."""

    question: Question
    held_out: bool
    answers: Counter[str] = field(default_factory=Counter)
    better: frozenset[str] = frozenset()
    """What was liked in place of a disliked answer of these, where another question got it too."""

    def goes_with(self, reply: str) -> bool:
        """Whether the reply is nearer to what was liked than to what was disliked, by ROUGE-L's F (Lin 2004); where only one kind is known, whether it is
        that answer, or no longer it.
        """
        liked = _nearest(reply, [*(text for text, votes in self.answers.items() if votes > 0), *self.better])
        disliked = _nearest(reply, [text for text, votes in self.answers.items() if votes < 0])
        if liked is None:
            return disliked is None or disliked < ALIKE
        return liked >= ALIKE if disliked is None else liked > disliked

    @property
    def disputed(self) -> bool:
        """Whether the judgements cancel out, so that nothing follows from them."""
        return not any(self.answers.values())

    @property
    def disliked(self) -> bool:
        """Whether an answer was disliked."""
        return any(votes < 0 for votes in self.answers.values())


def _nearest(reply: str, texts: Sequence[str]) -> float | None:
    from rouge_score.rouge_scorer import RougeScorer

    if any(fold(text) == fold(reply) for text in texts):
        return 1.0
    rouge = RougeScorer(["rougeL"])
    return max((0.999 * float(rouge.score(text, reply)["rougeL"].fmeasure) for text in texts), default=None)


def read(data: Artifact, count: int) -> list[Judged]:
    """At most `count` held-out questions, and as many that were learned from and have a disliked answer, each spread evenly; none without ratings."""
    if JUDGED not in data.manifest.files:
        return []
    found: dict[tuple[bool, tuple[Message, ...]], Judged] = {}
    with data.file(JUDGED).open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            *prompt, answer = (Message(m["role"], m["content"]) for m in row["messages"])
            key = row["split"] == "test", tuple(prompt)
            if key not in found:
                found[key] = Judged(Question(f"rating-{len(found) + 1}", "judged", "", tuple(prompt), mode=row["mode"]), key[0])
            found[key].answers[answer.content] += 1 if row["liked"] else -1
    known = _with_better([judged for judged in found.values() if not judged.disputed])
    return [*evenly([j for j in known if j.held_out], count), *evenly([j for j in known if not j.held_out and j.disliked], count)]


def _with_better(known: list[Judged]) -> list[Judged]:
    """Each with what was liked instead of the same disliked answer elsewhere in its part: one who dislikes need not write the correction that others wrote."""
    instead: dict[tuple[bool, str], set[str]] = {}
    for judged in known:
        liked = {text for text, votes in judged.answers.items() if votes > 0}
        for text, votes in judged.answers.items():
            if votes < 0:
                instead.setdefault((judged.held_out, fold(text)), set()).update(liked)
    return [
        replace(j, better=frozenset().union(*(instead[j.held_out, fold(text)] for text, votes in j.answers.items() if votes < 0))) for j in known
    ]  # fmt: skip


def columns(judged: Sequence[Judged], answers: Sequence[Answer]) -> list[Column]:
    """ratings.preferred: of held-out judgements, the questions whose reply goes with them; ratings.mended: the same of disliked answers learned from."""
    replies = {answer.id: answer.reply for answer in answers}
    fared = {j.question.id: float(j.goes_with(replies[j.question.id])) for j in judged if j.question.id in replies}
    kinds = (
        ("preferred", "Replies that go with held-out ratings", [j for j in judged if j.held_out]),
        ("mended", "Disliked answers that are given no more", [j for j in judged if not j.held_out]),
    )
    return [
        Column(f"ratings.{name}", title, {j.question.id: fared[j.question.id] for j in those if j.question.id in fared})
        for name, title, those in kinds
        if fared
    ]
