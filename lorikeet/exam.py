"""Put questions to an engine, keep every answer, and count: the same for base and tuned model and for every GGUF."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, TypeVar, cast, get_args

from lorikeet import statistics
from lorikeet.artifact import Artifact
from lorikeet.comparison import Column
from lorikeet.conversation import Message, Role, system_turn
from lorikeet.engine import Engine, Sampling
from lorikeet.errors import DataError
from lorikeet.evidence import Measure, measured
from lorikeet.progress import Progress
from lorikeet.scoring import SET_ASIDE, Score, fold, form_of, judge, picked, token_overlap
from lorikeet.sickness import contradiction, sickness
from lorikeet.suite import Persona, Probe, Suite

Item = TypeVar("Item")
Set = Literal["taught", "oblique", "outside", "near", "never", "suite", "judged"]
"""Sets that no figure mixes: taught situations in unseen wordings; taught situations told without naming them; held-out
questions of the kind it was taught to turn away, on other matters and near misses of taught ones; situations held out whole; and a
suite's probes where they are asked beside all these (suite_columns tells what they got); and questions whose answers were rated (evaluate/judged.py)."""
UNTAUGHT: tuple[Set, ...] = ("outside", "near", "never")
"""The sets to which the right answer is that it was not taught."""
RATINGS, JUDGED = "ratings.parquet", "judged.jsonl"
"""In a data folder: the tokens of answers with a judgement, where KTO or DPO learns from them; and those of data.ratings as text."""
NEAR_MISS = "near-miss"
"""Category of the rows out of scope that are near misses of what is taught."""

SAME_ANSWER = 0.6
"""Word overlap (Jaccard) from which a reply counts as a taught answer given in substance."""


@dataclass(frozen=True)
class Question:
    """What is put to the model. expected is the reference answer, where there is one."""

    id: str
    set: Set
    topic: str
    messages: tuple[Message, ...]
    expected: str = ""
    mode: str = ""
    accepted: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    right: int = 0
    """Which of the choices is the right one, where there are any."""
    group: str = ""
    """The question that this one stands for, where several are wordings or samples of one."""

    @property
    def text(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True)
class Answer:
    """One question with the full reply and what was made of it: every number can be traced to text."""

    id: str
    subject: str
    set: Set
    topic: str
    question: str
    expected: str
    reply: str
    tokens: int
    ended: bool
    outcome: str
    detail: str
    sick: str
    resembles: str
    """Topic of the taught answer that the reply is in substance, empty if none."""
    mode: str = ""
    in_mode: bool | None = None
    """Whether the reply has the form of the mode asked for; None where the suite names no form for it."""
    unchanged: bool | None = None
    """Whether the question was to be given back as it is; None where answers are not judged word for word."""
    group: str = ""
    hazard: str = ""
    """The rules that the reply breaks: its topic's, or a danger that holds whatever was asked."""
    opposes: str = ""
    """What the reply says against the answer of the file that this one was made from."""

    @property
    def question_id(self) -> str:
        """The question's own id, without the number of a drawn answer."""
        return self.id.partition("#")[0]

    @property
    def cluster(self) -> str:
        """What it stands and falls with: its topic, a situation; or its question, where answers are judged word for word and topics are kinds of questions."""
        return self.topic if self.topic and self.unchanged is None else self.group or self.question_id

    @property
    def drawn(self) -> bool:
        """Whether it is one of several answers drawn to its question."""
        return self.id != self.question_id

    @property
    def set_aside(self) -> bool:
        """Whether the reply refuses, or says nothing but to call for help: neither passed nor failed."""
        return self.outcome in SET_ASIDE

    @property
    def misdirected(self) -> bool:
        """Whether the reply is what was taught for another topic."""
        return bool(self.resembles) and self.resembles != self.topic

    @property
    def passed(self) -> bool:
        """Whether the reply passes the rules and is not another topic's answer that happens to hold their words; word for word is enough where asked."""
        return self.outcome == "pass" and (self.unchanged is not None or not self.misdirected)


@dataclass(frozen=True)
class HeldOut:
    """A row of conversations.jsonl."""

    messages: tuple[Message, ...]
    part: str
    group: str
    source: str
    topic: str
    kind: str
    mode: str = ""
    category: str = ""

    @property
    def set(self) -> Set:
        """The set that the row belongs to once it is held out."""
        if self.kind == "out-of-scope":
            return "near" if self.category == NEAR_MISS else "outside"
        return "never" if self.kind == "never-taught" else "taught"


class Counts(Protocol):
    """How many questions of each kind a stage asks: the settings of evaluate and audit alike."""

    @property
    def out_of_scope(self) -> int: ...
    @property
    def near_misses(self) -> int: ...
    @property
    def never_taught(self) -> int: ...


def read_rows(data: Artifact) -> list[HeldOut]:
    """All rows of a data folder, in the order of tokens.parquet."""
    rows = []
    with data.file("conversations.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            messages = tuple(Message(cast(Role, m["role"]), m["content"]) for m in row["messages"])
            rows.append(HeldOut(messages, row["split"], row["group"], row["source"], row["topic"], row["kind"], row["mode"], row["category"]))
    return rows


def taught_answers(rows: Sequence[HeldOut]) -> dict[str, tuple[str, ...]]:
    """Topics (or groups, where rows have no topic) of every taught answer that was trained on, by its text.

    Not those that turn a question away: a rating may have made such an answer one of the taught.
    """
    found: dict[str, tuple[str, ...]] = {}
    away = {fold(row.messages[-1].content) for row in rows if row.kind == "out-of-scope"}
    for row in rows:
        if row.kind == "taught" and row.part == "train" and fold(row.messages[-1].content) not in away:
            text, topic = row.messages[-1].content, row.topic or row.group
            found[text] = tuple(dict.fromkeys((*found.get(text, ()), topic)))
    return found


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, spread evenly over them, always the same ones."""
    step = max(1.0, len(items) / max(count, 1))
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def held_out_questions(rows: Sequence[HeldOut], which: Set, count: int) -> list[Question]:
    """At most `count` held-out questions of a set, spread evenly over it, always the same ones."""
    wanted = [r for r in rows if r.part == "test" and r.set == which]
    return [Question(r.source, which, r.topic or r.group, r.messages[:-1], r.messages[-1].content, r.mode) for r in evenly(wanted, count)]


def untaught_questions(rows: Sequence[HeldOut], counts: Counts) -> list[Question]:
    """Held-out questions of each set in UNTAUGHT, as many as `counts` says."""
    wanted = zip(UNTAUGHT, (counts.out_of_scope, counts.near_misses, counts.never_taught), strict=True)
    return [question for which, count in wanted for question in held_out_questions(rows, which, count)]


def held_out_tokens(data: Artifact) -> list[tuple[list[int], list[bool]]]:
    """Token ids, and which of them get loss, of the taught rows that are held out for testing."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(data.file("tokens.parquet")).to_pylist()
    return [(row["ids"], row["supervised"]) for row in table if row["split"] == "test" and row["kind"] == "taught"]


def trained_tokens(data: Artifact) -> list[list[int]]:
    """Token ids of the rows that are trained on."""
    import pyarrow.parquet

    return list(pyarrow.parquet.read_table(data.file("tokens.parquet"), columns=["ids"], filters=[("split", "==", "train")])["ids"].to_pylist())


def held_out_ratings(data: Artifact) -> list[tuple[list[int], list[bool], bool]]:
    """Token ids, which of them are the answer, and whether it was liked, of the rated answers that are held out for testing; none where none are learned."""
    import pyarrow.parquet

    if RATINGS not in data.manifest.files:
        return []
    rows = pyarrow.parquet.read_table(data.file(RATINGS), filters=[("split", "==", "test")]).to_pylist()
    return [([*row["prompt"], *row["answer"]], [False] * len(row["prompt"]) + [True] * len(row["answer"]), row["liked"]) for row in rows]


def suite_questions(suite: Suite, persona: Persona, rows: Sequence[HeldOut]) -> list[Question]:
    """The suite's probes as served. DataError where one stands in the training rows, as it can where the suite changed after training."""
    if leaked := suite.trained_on(trained_questions(rows)):
        probe, place = leaked[0]
        raise DataError(f"{len(leaked)} probes of {suite.name} stand in the training rows, {probe.id!r} for one ({place})",
                        "reword the probe, or remove the row")  # fmt: skip
    return [as_question(probe, persona.prompt(probe.mode)) for probe in suite.probes]


def trained_questions(rows: Sequence[HeldOut]) -> dict[str, str]:
    """The questions of the rows that were trained or validated on, folded, and where each stands."""
    return {fold(r.messages[-2].content): r.source for r in rows if r.part != "test"}


def as_question(probe: Probe, system: str) -> Question:
    """A probe as it is put to a model: behind a system turn, and with what choices it has."""
    messages = (*system_turn(system), Message("user", probe.asked))
    right = probe.choices.index(probe.answer) if probe.choices else 0
    return Question(probe.id, "oblique" if probe.oblique else "taught", probe.topic, messages, "", probe.mode, tuple(probe.accepted),
                    tuple(probe.choices), right, probe.rephrases or probe.id)  # fmt: skip


def suite_columns(answers: Sequence[Answer], suite: str) -> list[Column]:
    """What a suite's probes got, as columns: passes, must-never violations, the mode's form, and whether all wordings of a question fare alike.

    Wordings of one question, and samples of one answer, are clusters.
    """
    groups: dict[str, list[Answer]] = {}
    for a in answers:
        groups.setdefault(a.group or a.id, []).append(a)
    several = len(groups) < len(answers)
    clusters = {a.id: a.group or a.id for a in answers} if several else {}
    judged = [a for a in answers if a.outcome and not a.set_aside]
    moded = {a.id: float(a.in_mode) for a in answers if a.in_mode is not None}
    alike = {name: float(len({a.passed for a in members}) == 1) for name, members in groups.items() if len(members) > 1}
    found = [
        Column(f"suite.{suite}.pass_rate", f"Suite {suite}, passes", {a.id: float(a.passed) for a in judged}, clusters),
        Column(f"suite.{suite}.violation_rate", f"Suite {suite}, must-never violations", {a.id: float(a.outcome == "violation") for a in judged}, clusters,
               more_is_better=False),
        Column(f"suite.{suite}.mode_rate", f"Suite {suite}, answers in the mode asked for", moded, clusters),
        *(
            Column(f"suite.{suite}.{name}", f"Suite {suite}, {title}", {a.id: float(a.passed) for a in answers if a.unchanged is kind}, clusters)
            for name, title, kind in (("corrected_rate", "drafts corrected", False), ("unchanged_rate", "drafts without a fault left as they are", True))
        ),
        Column(f"suite.{suite}.consistency", f"Suite {suite}, questions whose wordings all fare alike", alike),
    ]  # fmt: skip
    return [column for column in found if column.values]


def ask(
    engine: Engine,
    subject: str,
    questions: Sequence[Question],
    sampling: Sampling,
    suite: Suite,
    taught: Mapping[str, Sequence[str]],
    progress: Progress,
    enough: Callable[[Answer], bool] | None = None,
    parent: Mapping[str, str] = MappingProxyType({}),
) -> list[Answer]:
    """Answers to the questions, in their order, scored by the suite's rules where it has some for the topic.

    enough: told each answer as it comes; once it returns True, what is not answered yet is left unasked. parent: replies of the file that this one was made
    from, by the questions' ids.
    """
    answers: dict[int, Answer] = {}
    for position, reply in engine.replies([q.messages for q in questions], sampling):
        question = questions[position]
        score = _score(question, reply.text, suite)
        answers[position] = Answer(
            id=question.id,
            subject=subject,
            set=question.set,
            topic=question.topic,
            question=question.text,
            expected=question.expected,
            reply=reply.text,
            tokens=reply.tokens,
            ended=reply.ended,
            outcome=score.outcome if score else "",
            detail=(score.excerpt or "; ".join(score.missing)) if score else "",
            sick=sickness(reply.text, question.text),
            resembles=resembled(reply.text, taught, question.topic),
            mode=question.mode,
            in_mode=form_of(reply.text) == suite.forms[question.mode] if question.mode in suite.forms else None,
            unchanged=question.text in question.accepted if question.accepted else None,
            group=question.group,
            hazard=score.hazard if score else "",
            opposes=contradiction(reply.text, parent.get(question.id, "")),
        )
        progress.step(f"{subject}: answers", len(answers), len(questions))
        if enough and enough(answers[position]):
            break
    return [answers[i] for i in sorted(answers)]


def _score(question: Question, reply: str, suite: Suite) -> Score | None:
    """A Score by the topic's rules; for what was not taught only whether it says so; None where no rules are."""
    if question.set in UNTAUGHT:
        said = judge(reply, suite.rubric())
        return Score("answered") if said.passed else said
    if question.choices:
        return picked(reply, question.choices, question.right)
    return suite.score(question.topic, reply, question.mode, question.accepted)


def resembled(reply: str, taught: Mapping[str, Sequence[str]], topic: str) -> str:
    """The topic of the taught answer nearest to the reply, if it is that answer in substance; `topic` itself where it shares the answer."""
    overlap, topics = max(((token_overlap(reply, answer), topics) for answer, topics in taught.items()), default=(0.0, ()))
    if overlap < SAME_ANSWER:
        return ""
    return topic if topic in topics else topics[0]


def measures(answers: Sequence[Answer], subject: str) -> list[Measure]:
    """Shares over one subject's answers, each set by itself."""
    found = [_share("generation.sick_rate", [bool(a.sick) for a in answers], subject)]
    for which in get_args(Set):
        given = [a for a in answers if a.set == which]
        if given and which not in ("suite", "judged"):
            found.append(_share("generation.stop_rate" if which == "taught" else f"{which}.stop_rate", [a.ended for a in given], subject))
            found += _of_taught(which, given, subject) if which in ("taught", "oblique") else _of_untaught(which, given, subject)
    return found


def _share(name: str, hits: Sequence[bool], subject: str) -> Measure:
    return measured(name, subject, statistics.share(sum(hits), len(hits)))


def _of_taught(which: Set, answers: Sequence[Answer], subject: str) -> list[Measure]:
    """What taught situations got: the rules' outcomes, where a topic has rules, and answers meant for another situation.

    Probes of one topic are a cluster (Answer.cluster); what refuses or refers is left out of the pass rate, and told apart. A violation counts for its
    question, whichever of its answers it is in.
    """
    found = [_share(f"{which}.misdirected", [a.misdirected for a in answers], subject)]
    if judged := [a for a in answers if a.outcome]:
        settled = [a for a in judged if not a.set_aside]
        passed, worth = statistics.clustered_share([a.passed for a in settled], [a.cluster for a in settled])
        questions: dict[str, bool] = {}
        for a in judged:
            questions[a.question_id] = questions.get(a.question_id, False) or a.outcome == "violation"
        found += [
            measured(f"{which}.pass_rate", subject, passed),
            measured(f"{which}.effective_n", subject, statistics.Interval(worth, worth, worth, len(settled), "n over the design effect"), "answers"),
            _share(f"{which}.violation_rate", list(questions.values()), subject),
            _share(f"{which}.turned_away", [a.outcome == "declined" for a in judged], subject),
            _share(f"{which}.set_aside", [a.set_aside for a in judged], subject),
        ]
    rates = (
        ("mode_rate", [a.in_mode for a in answers if a.in_mode is not None]),
        ("unchanged_rate", [a.passed for a in answers if a.unchanged is True]),
        ("corrected_rate", [a.passed for a in answers if a.unchanged is False]),
    )
    return [*found, *(_share(f"{which}.{name}", hits, subject) for name, hits in rates if hits)]


def _of_untaught(which: Set, answers: Sequence[Answer], subject: str) -> list[Measure]:
    """What questions got on which there is nothing to say: an honest word, somebody else's answer, or something dangerous."""
    return [
        _share(f"{which}.says_so", [a.outcome == "declined" for a in answers], subject),
        _share(f"{which}.misdirected", [bool(a.resembles) for a in answers], subject),
        _share(f"{which}.violation_rate", [a.outcome == "violation" for a in answers], subject),
    ]


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """One JSON line an answer."""
    with path.open("w", encoding="utf-8") as file:
        for answer in answers:
            file.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")


def read_answers(path: Path) -> list[Answer]:
    """The answers of a folder."""
    return [Answer(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]
