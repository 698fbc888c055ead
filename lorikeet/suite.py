"""What people write to say how an assistant is examined and how it speaks: Suite and Persona, read from YAML."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lorikeet.errors import RecipeError
from lorikeet.scoring import Form, Score, accepted_as, cannot_match, fold, judge, lettered
from lorikeet.yaml_file import read_model

Pattern = Annotated[str, Field(min_length=2)]


class Strict(BaseModel):
    """A part of a file that people write: unknown keys are errors, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rules(Strict):
    """What a right answer on one topic has to say and must never say, and the guideline that this rests on."""

    hazard: str = Field(description="in a few words, the danger that a wrong answer would put somebody in")
    source: str = Field(description="the published guideline the rules are taken from")
    must_say: list[Annotated[list[Pattern], Field(min_length=1)]] = Field(min_length=1)
    must_never: list[Pattern] = []


class Probe(Strict):
    """A question put to the model, and the topic whose rules judge the answer."""

    id: str
    topic: str
    question: str
    mode: str = Field("", description="the persona's mode in which it is asked")
    accepted: list[str] = Field([], description="the answers that count as right, word for word; where there are any, no rules are asked")
    choices: list[str] = Field([], max_length=26, description="multiple choice: what is offered, each behind a letter; no rules are asked")
    answer: str = Field("", description="multiple choice: the right one of `choices`, word for word")
    rephrases: str = Field("", description="id of the probe that this one asks in other words: they are counted as one question, and held against each other")
    oblique: bool = Field(False, description="tells the situation without naming it: counted apart from the probes that name it")

    @property
    def asked(self) -> str:
        """The question as it is put: with its choices, where it has some."""
        return lettered(self.question, self.choices) if self.choices else self.question


class Suite(Strict):
    """Probes and rules. `not_taught` are patterns by which the assistant says that it was not taught something.

    `rules` are kept by topic, or by `topic/mode` where a mode has rules of its own.
    """

    name: str
    about: str = ""
    not_taught: list[Pattern] = []
    rules: dict[str, Rules] = {}
    forms: dict[str, Form] = Field({}, description="the form that an answer has in each of the persona's modes")
    probes: list[Probe] = Field(min_length=1)

    def rules_for(self, topic: str, mode: str = "") -> Rules | None:
        """The rules of a topic in a mode, or else of the topic in any mode; None where there are none."""
        return self.rules.get(f"{topic}/{mode}") or self.rules.get(topic)

    def score(self, topic: str, answer: str, mode: str = "", accepted: Sequence[str] = ()) -> Score | None:
        """Judge an answer: by the accepted ones, else by the rules of its topic; None where there is nothing to judge it by."""
        if accepted:
            return accepted_as(answer, accepted)
        rules = self.rules_for(topic, mode)
        return judge(answer, rules.must_say, rules.must_never, self.not_taught) if rules else None

    def trained_on(self, questions: Mapping[str, str]) -> list[tuple[Probe, str]]:
        """Probes that stand among the questions trained on (their places, by folded text), each with that place."""
        return [(probe, questions[fold(probe.question)]) for probe in self.probes if fold(probe.question) in questions]


class Persona(Strict):
    """How the assistant presents itself: the system turn it is trained, audited and served with, and the page's words."""

    title: str
    system: str = ""
    modes: dict[str, str] = Field({}, description="ways of answering that a reader can ask for: name, and the sentence that the system turn then ends with")
    single_turn: bool = Field(False, description="each question is answered by itself, as it was taught: a chat sends no earlier turns")
    greeting: str = ""
    notice: str = Field("", description="what the assistant is not; shown permanently")
    examples: list[str] = []

    def prompt(self, mode: str = "") -> str:
        """The system turn in a mode; without one, the plain system turn."""
        return " ".join(filter(None, (self.system, self.modes[mode] if mode else "")))


def load_suite(path: Path) -> Suite:
    """Read a suite; RecipeError names line and key of what is wrong, or the probe whose topic has no rules."""
    suite = read_model(path, Suite)
    _check_patterns(suite, path)
    seen: set[str] = set()
    known = {probe.id for probe in suite.probes}
    for probe in suite.probes:
        _check_choices(probe, path)
        if probe.rephrases and (probe.rephrases not in known or probe.rephrases == probe.id):
            near = difflib.get_close_matches(probe.rephrases, known - {probe.id}, 1)
            raise RecipeError(f"{path}: probe {probe.id!r} rephrases {probe.rephrases!r}, and there is no such other probe",
                              f"did you mean {near[0]!r}?" if near else "give the id of the probe that it asks in other words")  # fmt: skip
        if not probe.accepted and not probe.choices and not suite.rules_for(probe.topic, probe.mode):
            raise RecipeError(f"{path}: probe {probe.id!r} has the topic {probe.topic!r}, for which there are no rules",
                              f"add rules for {probe.topic!r}, or correct the topic")  # fmt: skip
        if probe.id in seen:
            raise RecipeError(f"{path}: two probes have the id {probe.id!r}", "give each probe an id of its own")
        seen.add(probe.id)
    return suite


def _check_choices(probe: Probe, path: Path) -> None:
    """RecipeError where a probe's choices cannot be judged."""
    if not probe.choices and not probe.answer:
        return
    if len(set(probe.choices)) < max(2, len(probe.choices)) or probe.answer not in probe.choices:
        raise RecipeError(f"{path}: probe {probe.id!r} has {len(probe.choices)} choices, and its answer is {probe.answer!r}",
                          "give two choices or more, no two alike, and as `answer` one of them, word for word")  # fmt: skip
    if probe.accepted:
        raise RecipeError(f"{path}: probe {probe.id!r} has both choices and accepted answers", "keep the one by which it is to be judged")


def place_of(path: Path, probe: Probe) -> str:
    """File and line of a probe in its suite."""
    written = re.compile(rf"[\s-]*id:\s*['\"]?{re.escape(probe.id)}['\"]?\s*$")
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((f"{path.name}:{number}" for number, line in enumerate(lines, 1) if written.match(line)), f"{path.name}: probe {probe.id!r}")


def _check_patterns(suite: Suite, path: Path) -> None:
    """RecipeError for the first pattern that could never match: a rule that is silently dead is worse than none."""
    named = [("not_taught", p) for p in suite.not_taught]
    for topic, rules in suite.rules.items():
        named += [(f"rules.{topic}", p) for thing in rules.must_say for p in thing] + [(f"rules.{topic}", p) for p in rules.must_never]
    for where, pattern in named:
        if why := cannot_match(pattern):
            raise RecipeError(f"{path}: {where}: the pattern {pattern!r} can never match: {why}", "see the pattern language in docs/audit.md")


def load_persona(path: Path) -> Persona:
    """Read a persona; RecipeError names line and key of what is wrong."""
    return read_model(path, Persona)
