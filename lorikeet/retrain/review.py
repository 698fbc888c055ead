"""The owner's word on ratings, a line each in the feedback folder: accepted, rejected, or accepted with another correction."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from lorikeet.conversation import Rating
from lorikeet.journal import Journal, read_back

PATTERN = "review-*.jsonl"


@dataclass(frozen=True)
class Decision:
    """rating: its id. correction: what it should have said, where the owner wrote it anew; None leaves the rater's. timestamp: ISO 8601, in UTC."""

    rating: str
    accepted: bool
    correction: str | None = None
    timestamp: str = ""

    def mended(self, rating: Rating) -> Rating:
        """The rating with the owner's correction."""
        return rating if self.correction is None else replace(rating, correction=self.correction)


_READER = TypeAdapter(Decision)


def read(folder: Path) -> dict[str, Decision]:
    """The last decision on each rating, by its id; lines that hold none are passed over."""
    found = read_back(folder, PATTERN, _READER)
    return {decision.rating: decision for decision in sorted(found, key=lambda decision: decision.timestamp)}


class Review:
    """Where an owner's decisions are written as they are made."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder, PATTERN)

    def decide(self, rating: str, *, accepted: bool, correction: str | None = None) -> Decision:
        """Write a decision down; MachineError where it cannot be kept."""
        decision = Decision(rating, accepted, correction, datetime.now(UTC).isoformat())
        self._journal.record(decision)
        return decision
