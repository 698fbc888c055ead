"""What people write to say how an assistant is examined and how it speaks: Suite and Persona, read from YAML.

A suite can stand on one that ships with Lorikeet (`also`), whose words, manners and dangers that hold whatever was asked are then its own.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from lorikeet.errors import RecipeError
from lorikeet.patterns import cannot_match, expanded, says
from lorikeet.scoring import Form, Rubric, Score, accepted_as, fold, judge, lettered, token_overlap
from lorikeet.yaml_file import read_model

Pattern = Annotated[str, Field(min_length=2)]
Patterns = Annotated[list[Pattern], Field(min_length=1)]
ALIKE = 0.4
"""Word overlap (Jaccard) with a probe from which a question is taken to be on its topic."""
_BUNDLED = Path(__file__).parent / "audit" / "suites"


class Strict(BaseModel):
    """A part of a file that people write: unknown keys are errors, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Order(Strict):
    """Of two things that an answer says, the first has to come first."""

    first: Patterns
    then: Patterns
    dangerous: bool = Field(False, description="whether saying the second without the first before it breaks a must-never rule")


class Rules(Strict):
    """What a right answer on one topic has to say and must never say, and the guideline that this rests on."""

    hazard: str = Field(description="in a few words, the danger that a wrong answer would put somebody in")
    source: str = Field(description="the published guideline the rules are taken from")
    about: list[Pattern] = Field([], description="how a question on this topic is known that is none of the suite's own")
    must_say: list[Patterns] = Field(min_length=1)
    must_never: list[Pattern] = []
    unless: list[Pattern] = Field([], description="a sentence that says one of these breaks no must-never rule: what a crew or a trained person does, say")
    never_mention: list[Pattern] = Field([], description="what a right answer names only to warn of it")
    in_order: list[Order] = Field([], description="what has to come before what, where both are said")


class Danger(Strict):
    """What an answer must never say whatever was asked, but on some topics."""

    hazard: str = Field(description="in a few words, what it does to somebody")
    source: str = Field(description="the published guideline the rule is taken from")
    must_never: Patterns
    except_topics: list[str] = Field([], description="topics on which it is right, or has rules of its own")


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
    """Probes and rules. `not_taught`, `refusals` and `calls` are patterns by which an assistant says that it was not taught something, that it will not help,
    and that one is to call for help.

    `rules` are kept by topic, or by `topic/mode` where a mode has rules of its own; `everywhere` are dangers by name, whatever was asked.
    """

    name: str
    about: str = ""
    also: str = Field("", description="a suite that ships with Lorikeet, whose words, patterns and dangers (not topics and probes) hold too")
    words: dict[str, Annotated[list[str], Field(min_length=1)]] = Field({}, description="words and phrases that patterns name together, as @NAME")
    not_taught: list[Pattern] = []
    refusals: list[Pattern] = []
    calls: list[Pattern] = []
    rules: dict[str, Rules] = {}
    everywhere: dict[str, Danger] = {}
    forms: dict[str, Form] = Field({}, description="the form that an answer has in each of the persona's modes")
    probes: list[Probe] = Field(min_length=1)
    _rubrics: dict[tuple[str, str], Rubric] = PrivateAttr(default_factory=dict)

    def rules_for(self, topic: str, mode: str = "") -> Rules | None:
        """The rules of a topic in a mode, or else of the topic in any mode; None where there are none."""
        return self.rules.get(f"{topic}/{mode}") or self.rules.get(topic)

    def rubric(self, topic: str = "", mode: str = "") -> Rubric:
        """What an answer is judged by; on a topic without rules the dangers alone, which hold whatever was asked."""
        if (topic, mode) not in self._rubrics:
            rules = self.rules_for(topic, mode)
            never = {topic: self._patterns(rules.must_never)} if rules and rules.must_never else {}
            never |= {name: self._patterns(danger.must_never) for name, danger in self.everywhere.items() if topic not in danger.except_topics}
            self._rubrics[topic, mode] = Rubric(
                [self._patterns(thing) for thing in rules.must_say] if rules else [],
                never,
                self._patterns(rules.unless) if rules else [],
                {topic: self._patterns(rules.never_mention)} if rules and rules.never_mention else {},
                self._orders(rules, dangerous=False),
                {topic: found} if (found := self._orders(rules, dangerous=True)) else {},
                *map(self._patterns, (self.not_taught, self.refusals, self.calls)),
            )
        return self._rubrics[topic, mode]

    def _orders(self, rules: Rules | None, *, dangerous: bool) -> list[tuple[list[str], list[str]]]:
        return [(self._patterns(o.first), self._patterns(o.then)) for o in rules.in_order if o.dangerous == dangerous] if rules else []

    def _patterns(self, patterns: Sequence[str]) -> list[str]:
        return [expanded(pattern, self.words) for pattern in patterns]

    def score(self, topic: str, answer: str, mode: str = "", accepted: Sequence[str] = ()) -> Score | None:
        """Judge an answer: by the accepted ones, else by the rules of its topic; None where there is nothing to judge it by."""
        if accepted:
            return accepted_as(answer, accepted)
        return judge(answer, self.rubric(topic, mode)) if self.rules_for(topic, mode) else None

    def topics_of(self, question: str) -> list[str]:
        """The topics that a question is on: its probe's, else those whose `about` it says, else that of the most alike probe; none where none is alike."""
        own = next((probe.topic for probe in self.probes if fold(probe.question) == fold(question)), "")
        if own:
            return [own]
        named = [topic for topic, rules in self.rules.items() if any(says(p, question) for p in self._patterns(rules.about))]
        if named:
            return named
        likeness, nearest = max(((token_overlap(probe.question, question), probe.topic) for probe in self.probes), default=(0.0, ""))
        return [nearest] if likeness >= ALIKE else []

    def judge_any(self, question: str, answer: str) -> tuple[str, Score]:
        """Judge an answer to any question: the topic whose rules decided, empty where none is known, and the score.

        Of several topics a broken rule counts before a passed one, and that before a miss. Without a topic the dangers decide that hold whatever was asked,
        and what breaks none is "answered".
        """
        topics = [topic for topic in self.topics_of(question) if self.rules_for(topic)]
        scored = [(topic, judge(answer, self.rubric(topic))) for topic in topics]
        for outcome in ("violation", "pass"):
            if found := next(((topic, score) for topic, score in scored if score.outcome == outcome), None):
                return found
        if scored:
            return scored[0]
        score = judge(answer, self.rubric())
        return "", Score("answered") if score.passed else score

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
    layout: Literal["chat", "email"] = Field("chat", description="the page: a chat; or a draft that is corrected sentence by sentence, with its tone")
    sentiment_model: str = Field("", description="e-mail: a classifier of sentiment, by Hub id or folder, in place of the lexicon that comes along")
    politeness_model: str = Field("", description="e-mail: a classifier of politeness, by Hub id or folder, in place of the one that comes along")
    quiz: bool = Field(False, description="the page has a quiz beside its chat, whose questions the model writes")
    emergency_number: str = Field("", description="stands on top of the page, whose type is large then")
    safe_reply: str = Field("", description="said in place of an answer that the guard stops; where it is left out, a plain one of ours")

    def prompt(self, mode: str = "") -> str:
        """The system turn in a mode; without one, the plain system turn."""
        return " ".join(filter(None, (self.system, self.modes[mode] if mode else "")))


def load_suite(path: Path) -> Suite:
    """Read a suite; RecipeError names line and key of what is wrong, or the probe whose topic has no rules."""
    suite = _standing_on(read_model(path, Suite), path)
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


def bundled_suites() -> dict[str, Path]:
    """The suites that ship with Lorikeet, by name."""
    return {path.stem: path for path in sorted(_BUNDLED.glob("*.yaml"))}


def suite_file(named: str) -> Path:
    """A suite's file: a path, or the name of one that ships with Lorikeet; RecipeError where it is neither."""
    path, bundled = Path(named), bundled_suites()
    if not path.exists() and named not in bundled:
        raise RecipeError(f"{named} is no file, and no suite of that name ships with Lorikeet", f"name a suite.yaml, or one of: {', '.join(bundled)}")
    return path if path.exists() else bundled[named]


def _standing_on(suite: Suite, path: Path) -> Suite:
    """The suite with what it takes from the one that it names in `also`; what it says itself comes first."""
    if not suite.also:
        return suite
    bundled = bundled_suites()
    if suite.also not in bundled:
        raise RecipeError(f"{path}: also: no suite {suite.also!r} ships with Lorikeet", f"use one of: {', '.join(bundled)}")
    under = read_model(bundled[suite.also], Suite)
    taken = {"words": {**under.words, **suite.words}, "everywhere": {**under.everywhere, **suite.everywhere}}
    lists = {key: list(dict.fromkeys([*own, *theirs])) for key, own, theirs in (
        ("not_taught", suite.not_taught, under.not_taught), ("refusals", suite.refusals, under.refusals), ("calls", suite.calls, under.calls))}  # fmt: skip
    return suite.model_copy(update={**taken, **lists})


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
    named = [(key, p) for key, patterns in (("not_taught", suite.not_taught), ("refusals", suite.refusals), ("calls", suite.calls)) for p in patterns]
    for topic, rules in suite.rules.items():
        things = [
            *rules.must_say,
            rules.must_never,
            rules.unless,
            rules.never_mention,
            *(part for order in rules.in_order for part in (order.first, order.then)),
        ]
        named += [(f"rules.{topic}", p) for thing in things for p in thing]
    named += [(f"everywhere.{name}", p) for name, danger in suite.everywhere.items() for p in danger.must_never]
    for where, pattern in named:
        try:
            why = cannot_match(expanded(pattern, suite.words))
        except KeyError as error:
            near = difflib.get_close_matches(str(error.args[0]), suite.words, 1)
            raise RecipeError(f"{path}: {where}: the pattern {pattern!r} names @{error.args[0]}, and there are no words of that name",
                              f"did you mean @{near[0]}?" if near else "list them under `words`") from None  # fmt: skip
        if why:
            raise RecipeError(f"{path}: {where}: the pattern {pattern!r} can never match: {why}", "see the pattern language in docs/audit.md")


def load_persona(path: Path) -> Persona:
    """Read a persona; RecipeError names line and key of what is wrong."""
    return read_model(path, Persona)
