"""What people write to say how an assistant is examined and how it speaks: Suite and Persona, read from YAML."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lorikeet.errors import RecipeError
from lorikeet.scoring import Score, cannot_match, judge
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
    oblique: bool = Field(False, description="tells the situation without naming it: counted apart from the probes that name it")


class Suite(Strict):
    """Probes and rules. `not_taught` are patterns by which the assistant says that it was not taught something."""

    name: str
    about: str = ""
    not_taught: list[Pattern] = []
    rules: dict[str, Rules]
    probes: list[Probe] = Field(min_length=1)

    def score(self, topic: str, answer: str) -> Score:
        """Judge an answer by the rules of `topic`."""
        rules = self.rules[topic]
        return judge(answer, rules.must_say, rules.must_never, self.not_taught)


class Persona(Strict):
    """How the assistant presents itself: the system turn it is trained, audited and served with, and the page's words."""

    title: str
    system: str = ""
    greeting: str = ""
    notice: str = Field("", description="what the assistant is not; shown permanently")
    examples: list[str] = []


def load_suite(path: Path) -> Suite:
    """Read a suite; RecipeError names line and key of what is wrong, or the probe whose topic has no rules."""
    suite = read_model(path, Suite)
    _check_patterns(suite, path)
    seen: set[str] = set()
    for probe in suite.probes:
        if probe.topic not in suite.rules:
            raise RecipeError(f"{path}: probe {probe.id!r} has the topic {probe.topic!r}, for which there are no rules",
                              f"add rules for {probe.topic!r}, or correct the topic")  # fmt: skip
        if probe.id in seen:
            raise RecipeError(f"{path}: two probes have the id {probe.id!r}", "give each probe an id of its own")
        seen.add(probe.id)
    return suite


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
