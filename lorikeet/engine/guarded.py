"""A server whose answers pass a suite's rules before they are shown: a sentence that breaks a must-never rule is stopped, and the persona's safe reply stands
in its place. Each firing is logged as a finding, for the next round.

Rules know what they were written for and no more: the guard is a net under an audited file, and no substitute for the audit.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.server import Chunk, Schema, text_of
from lorikeet.evidence import Finding
from lorikeet.scoring import judge
from lorikeet.suite import Suite

SAFE_REPLY = "I am not sure enough of my answer to give it. Please ask somebody who knows; in an emergency call your local emergency number."
FIRED = "content_filter"
"""The finish reason of an answer that was stopped, as OpenAI's API calls it."""
CODE = "guard.stopped"
_ENDS = re.compile(r"[.!?;\n](?=\s|$)")
_KEPT = 600
"""Characters that may be held back where no sentence ends."""


class Guard(NamedTuple):
    """What answers pass before they are shown: a suite, what is said in place of one that is stopped, and the file that findings are added to."""

    suite: Suite
    safe_reply: str
    log: Path


class Answering(Protocol):
    """What chat and serve ask of a model, guarded or not: a LlamaServer, or a Voice of a fleet."""

    slots: int
    context: int

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Schema | None = None) -> Generator[Chunk]:
        """OpenAI chat completion chunks, and empty ones while it waits; closing the generator stops the model. Busy where too many wait."""

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        """The prompt without its oldest turns, so that `room` tokens are left."""

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """How belief is shared among options of one token each as the answer's beginning."""

    def close(self) -> None: ...


class GuardedServer:
    """A server behind a suite's must-never rules: those of the question's topics, and the dangers that hold whatever else was asked.

    fired: how often it has fired.
    """

    def __init__(self, engine: Answering, guard: Guard) -> None:
        self._engine, self._suite, self._reply, self._log = engine, guard.suite, guard.safe_reply or SAFE_REPLY, guard.log
        self._writing = threading.Lock()
        self.slots, self.context, self.fired = engine.slots, engine.context, 0

    def close(self) -> None:
        self._engine.close()

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return self._engine.fitting(prompt, room)

    def shares(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        return self._engine.shares(prompt, options)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[str]:
        """The answer's text as it passes, and the safe reply where it does not."""
        with contextlib.closing(self.chunks(prompt, sampling)) as chunks:
            for chunk in chunks:
                if text := text_of(chunk):
                    yield text

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Schema | None = None) -> Generator[Chunk]:
        """The engine's chunks, whose text comes by whole sentences; before one that breaks a rule the model is stopped, and the safe reply ends the answer."""
        question = prompt[-1].content
        topics = self._suite.topics_of(question) or [""]
        shown, held = "", ""
        with contextlib.closing(self._engine.chunks(prompt, sampling, schema)) as chunks:
            for chunk in chunks:
                ended = False
                for choice in chunk["choices"]:
                    held += choice["delta"].get("content") or ""
                    choice["delta"] = {**choice["delta"], "content": ""}
                    ended = ended or bool(choice["finish_reason"])
                passing = held if ended else held[: _whole(held)]
                if passing:
                    if broken := self._broken(topics, shown + passing):
                        yield from self._stopped(chunk, question, shown, held, broken)
                        return
                    shown, held = shown + passing, held[len(passing) :]
                    chunk["choices"][0]["delta"]["content"] = passing
                if passing or ended or not chunk["choices"] or "role" in chunk["choices"][0]["delta"]:
                    yield chunk

    def _broken(self, topics: Sequence[str], answer: str) -> tuple[str, str] | None:
        """The hazard whose rule an answer breaks, and the words that do; None where it breaks none."""
        for topic in topics:
            score = judge(answer, self._suite.rubric(topic))
            if score.outcome == "violation":
                return score.hazard, score.excerpt
        return None

    def _stopped(self, chunk: dict[str, Any], question: str, shown: str, held: str, broken: tuple[str, str]) -> Iterator[dict[str, Any]]:
        self._log_finding(question, shown + held, *broken)
        choice = {**chunk["choices"][0], "delta": {"content": ("\n\n" if shown.strip() else "") + self._reply}, "finish_reason": FIRED}
        yield {**{key: value for key, value in chunk.items() if key != "usage"}, "choices": [choice]}

    def _log_finding(self, question: str, answer: str, hazard: str, excerpt: str) -> None:
        finding = Finding("error", f"{question!r}: stopped, since it breaks a must-never rule on {hazard}", excerpt, answer, code=CODE)
        with self._writing:
            self.fired += 1
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"timestamp": round(time.time(), 3), **asdict(finding)}, ensure_ascii=False) + "\n")


def _whole(text: str) -> int:
    """How much of the text is whole sentences, or all of it where it has grown long without an end."""
    ends = [match.end() for match in _ENDS.finditer(text) if match.end() < len(text)]
    return ends[-1] if ends else len(text) if len(text) > _KEPT else 0
