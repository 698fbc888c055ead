"""GGUFs, endpoints and answers that Lorikeet never made: examined by a suite, files against a parent where there is one, with no recipe, rows or training.

What was taught is not known, so nothing is asked that was not; divergence is measured over the parent's own answers.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from lorikeet import __version__, machine, statistics
from lorikeet.artifact import digest, write_json
from lorikeet.audit import divergence
from lorikeet.audit.examine import Asked, examine, findings, greedy, named
from lorikeet.audit.gate import Examined, file_verdict, verdicts, worst
from lorikeet.engine.llamacpp import Floats, LlamaCppEngine
from lorikeet.engine.remembered import REPLIES, Remembered
from lorikeet.errors import DataError, RecipeError
from lorikeet.evidence import TEMPLATE, Evidence, Finding, Quoted, Release, decide, read_evidence
from lorikeet.exam import Answer, Question, as_question, evenly, read_answers, write_answers
from lorikeet.progress import Progress
from lorikeet.recipe import AuditSettings, MachineSettings, Thresholds
from lorikeet.sickness import sickness
from lorikeet.suite import Persona, Suite
from lorikeet.weights import gguf_file

ANSWERS = "answers.jsonl"
EXAMINED = "examined.json"
"""What a folder's evidence was made from: written last, so that one without it was broken off."""
DIVERGENCE_CONTEXT = 512
"""Tokens of a conversation that divergence is measured over at most."""


def files(
    paths: Sequence[Path],
    parent: Path | None,
    suite: Suite,
    persona: Persona,
    settings: AuditSettings,
    here: MachineSettings,
    out: Path,
    seed: int,
    progress: Progress,
) -> Release:
    """Examine GGUFs and judge them together; the parent, where it is named, is examined first and judged as one of them.

    Writes release.json into `out`, and a folder a file with evidence.json and answers.jsonl; a file that was examined so before is not examined again.
    RecipeError where two files have one name, or the suite asks in a mode that the persona lacks.
    """
    order = [gguf_file(path) for path in dict.fromkeys([*([parent] if parent else []), *paths])]
    names = [gguf.path.stem for gguf in order]
    if len(set(names)) < len(names):
        raise RecipeError(f"two files are called {next(n for n in names if names.count(n) > 1)}.gguf", "give them names that tell them apart")
    asked = _asked(suite, persona, settings, seed)
    found: list[Examined] = []
    chosen: tuple[tuple[divergence.Row, ...], list[Floats]] | None = None
    template = ""
    keys = [digest([__version__, gguf.sha256, order[0].sha256 if parent else "", suite.model_dump(), persona.model_dump(), settings.model_dump(), seed])
            for gguf in order]  # fmt: skip
    left = [name for name, key in zip(names, keys, strict=True) if not _is_kept(out / name, key)]
    for gguf, name, key in zip(order, names, keys, strict=True):
        progress.say(f"{name} ({gguf.bytes / 1e6:.0f} MB)")
        first = not found
        theirs = greedy(found[0].answers) if parent and not first else {}
        if name not in left and not (parent and first and left):  # the others are held against what the parent chooses
            progress.say(f"  examined already: {out / name}")
            found.append(Examined(name, read_evidence(out / name), read_answers(out / name / ANSWERS), gguf.bytes))
            continue
        engine = LlamaCppEngine(gguf.path, machine.threads(here.threads), here.slots)
        answers = read_answers(out / name / ANSWERS) if name not in left else examine(engine, name, asked, theirs, progress)
        measures, told = named(answers, suite.name, name), findings(answers)
        if parent and not first and engine.template != template:
            told.append(Finding("error", "its chat template is not its parent's: it is asked otherwise than it was trained", code=TEMPLATE,
                                cure="make the file again from its parent"))  # fmt: skip
        if parent and first:
            template = engine.template
            rows = _rows(engine, asked.questions, answers, settings.divergence_rows)
            chosen = rows, divergence.choices(engine, rows)
        elif chosen:
            if engine.vocabulary == chosen[1][0].shape[-1]:
                measures += divergence.measure(*chosen, divergence.choices(engine, chosen[0]), name, seed)
            else:
                progress.say(f"  {engine.vocabulary} tokens, and its parent has {chosen[1][0].shape[-1]}: their choices cannot be compared")
        if theirs:
            measures += divergence.answers(theirs, greedy(answers), name)
        engine.close()
        found.append(_kept(Examined(name, Evidence(measures, told), answers, gguf.bytes), out / name))
        write_json(out / name / EXAMINED, {"key": key})
    words = verdicts(found, suite.name, _limits(settings), names[0] if parent else "", seed)
    release = decide([file_verdict(file, gguf, str(gguf.path), *word) for gguf, file, word in zip(order, found, words, strict=True)])
    release.write(out)
    return release


class Word(NamedTuple):
    """The gate's word on what answers at an address: a verdict, its reasons, and the worst answers where it is not approved."""

    verdict: str
    reasons: list[str]
    worst: list[Quoted]


def behind(address: str, suite: Suite, persona: Persona, settings: AuditSettings, out: Path, seed: int, progress: Progress) -> Word:
    """Examine what answers at http://HOST/v1#MODEL by the same questions and thresholds. Writes evidence.json and answers.jsonl into `out`.

    There is no release: what answers there may be another model tomorrow. Answers are kept in replies.jsonl as they come; asked again, only the rest is asked
    for. Raises RecipeError for a mode that the persona lacks, and ModelError for what an endpoint refuses.
    """
    from lorikeet.engine.endpoint import endpoint

    asked = _asked(suite, persona, settings, seed)
    engine = endpoint(address)
    try:
        progress.say(engine.identity)
        asking = Remembered(engine, engine.identity, out / REPLIES)
        answers = examine(asking, engine.model, asked, {}, progress)
        if asking.known:
            progress.say(f"  {asking.known} answers were known already from {out / REPLIES}")
    finally:
        engine.close()
    found = _kept(Examined(engine.model, Evidence(named(answers, suite.name, engine.model), findings(answers)), answers), out)
    ((word, reasons),) = verdicts([found], suite.name, _limits(settings), "", seed)
    return Word(word, reasons, [] if word == "approved" else worst(answers))


def _asked(suite: Suite, persona: Persona, settings: AuditSettings, seed: int) -> Asked:
    """What is asked where nothing is known but suite and persona; RecipeError for a mode that the persona lacks."""
    if lacking := sorted({probe.mode for probe in suite.probes if probe.mode} - persona.modes.keys()):
        raise RecipeError(f"the suite {suite.name} asks in the mode {lacking[0]}, and the persona has {', '.join(persona.modes) or 'no modes'}",
                          "name the persona that has it: --persona persona.yaml")  # fmt: skip
    questions = [as_question(probe, persona.prompt(probe.mode)) for probe in evenly(suite.probes, settings.probes or len(suite.probes))]
    return Asked(suite, questions, settings.max_new_tokens, seed, settings.samples, settings.temperature)


def _limits(settings: AuditSettings) -> Thresholds:
    """The thresholds, without that of questions out of scope: nobody knows what is."""
    return settings.thresholds.model_copy(update={"misdirection_at_most": None})


def _is_kept(folder: Path, key: str) -> bool:
    """Whether a file was examined so before, to the end."""
    return (folder / EXAMINED).is_file() and json.loads((folder / EXAMINED).read_text(encoding="utf-8"))["key"] == key


def _kept(found: Examined, folder: Path) -> Examined:
    """What was found, written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXAMINED).unlink(missing_ok=True)
    found.evidence.write(folder)
    write_answers(folder / ANSWERS, found.answers)
    return found


def _rows(engine: LlamaCppEngine, questions: Sequence[Question], answers: Sequence[Answer], count: int) -> tuple[divergence.Row, ...]:
    """Conversations that the parent itself has held: its prompts and its greedy answers. The answers count, or the prompt where there is none."""
    replies = greedy(answers)
    rows = []
    for question in evenly(questions, count):
        prompt, reply = engine.tokenize(engine.prompt_text(question.messages)), engine.tokenize(replies[question.id])
        ids = (*prompt, *reply)[:DIVERGENCE_CONTEXT]
        first = len(prompt) if len(ids) > len(prompt) else 1
        rows.append((ids, tuple(n >= first for n in range(len(ids)))))
    return tuple(rows)


@dataclass(frozen=True)
class Row:
    """A judged answer: the topic whose rules decided (empty where none is known), the verdict in a word, and what it rests on."""

    question: str
    answer: str
    topic: str
    verdict: str
    outcome: str
    hazard: str
    why: str


VERDICTS = {"violation": "unsafe", "pass": "safe", "miss": "incomplete", "declined": "not-taught", "refused": "set-aside", "referred": "set-aside",
            "answered": "unjudged", "unreadable": "unsafe"}  # fmt: skip


def answers(path: Path, suite: Suite) -> list[Row]:
    """Judge rows of {"question": ..., "answer": ...} and, where it is known, "topic". DataError names the line of what is none."""
    judged = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: this is not JSON: {error}", "write one JSON object a line") from error
        texts = [row.get(key) for key in ("question", "answer", "topic")] if isinstance(row, dict) else []
        if len(texts) != 3 or not isinstance(texts[0], str) or not isinstance(texts[1], str) or not isinstance(texts[2], str | None):
            raise DataError(f'{path}:{number}: a row has a "question" and an "answer", which are texts', "mend the line, or leave it out")
        judged.append(judge(suite, texts[0], texts[1], texts[2] or ""))
    if not judged:
        raise DataError(f"{path} holds no row", 'write rows such as {"question": "...", "answer": "..."}')
    return judged


def judge(suite: Suite, question: str, answer: str, topic: str = "") -> Row:
    """One answer to any question. RecipeError for a topic that the suite has no rules for."""
    if topic:
        score = suite.score(topic, answer)
        if score is None:
            raise RecipeError(f"the suite {suite.name} has no rules for the topic {topic!r}", f"leave it out, or use one of: {', '.join(suite.rules)}")
    else:
        topic, score = suite.judge_any(question, answer)
    if score.outcome == "violation":
        return Row(question, answer, topic, "unsafe", score.outcome, score.hazard, score.excerpt)
    if sign := sickness(answer, question):
        return Row(question, answer, topic, "unsafe", score.outcome, "", sign)
    return Row(question, answer, topic, VERDICTS[score.outcome], score.outcome, "", "; ".join(score.missing))


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    return {verdict: sum(row.verdict == verdict for row in rows) for verdict in dict.fromkeys(VERDICTS.values())}


def answers_document(rows: Sequence[Row], suite: Suite) -> dict[str, object]:
    """What --json prints of judged answers."""
    counts = _counts(rows)
    known = [row for row in rows if row.verdict in ("safe", "unsafe", "incomplete")]
    share = statistics.share(counts["unsafe"], len(rows))
    return {"suite": suite.name, "rows": [asdict(row) for row in rows], "counts": counts, "judged": len(known),
            "unsafe": {"value": share.value, "low": share.low, "high": share.high, "n": share.n}}  # fmt: skip


def answers_told(rows: Sequence[Row]) -> str:
    """The rows that a reader must see, and the counts."""
    lines = []
    for row in rows:
        if row.verdict in ("unsafe", "incomplete"):
            lines.append(
                f"{row.verdict:10} {row.question!r}\n  {row.why or row.outcome}{f' (on {row.hazard})' if row.hazard else ''}\n  > {_shortened(row.answer)}"
            )
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in _counts(rows).items() if count) + f" of {len(rows)}")
    return "\n".join(lines)


def _shortened(text: str, most: int = 240) -> str:
    one = " ".join(text.split())
    return one if len(one) <= most else one[: most - 1] + "…"


def word_told(word: Word, out: Path) -> str:
    """The verdict on an endpoint, with its reasons and worst answers."""
    lines = [f"{word.verdict}: {'; '.join(word.reasons)}"]
    lines += [f"  {quoted.why}\n    {quoted.question}\n    > {_shortened(quoted.answer)}" for quoted in word.worst]
    return "\n".join([*lines, f"evidence: {out}"])


def release_told(release: Release, out: Path) -> str:
    """The verdicts, with reasons and the worst answers of what is not approved."""
    lines = []
    for file in release.files:
        lines.append(f"{file.quantisation}  {file.bytes / 1e6:.0f} MB  {file.verdict}: {'; '.join(file.reasons)}")
        lines += [f"  {quoted.why}\n    {quoted.question}\n    > {_shortened(quoted.answer)}" for quoted in file.worst]
    if release.recommended:
        lines.append(f"recommended: {release.recommended}")
        lines.append(f"to serve it, put {out / 'release.json'} beside the file")
    return "\n".join([*lines, f"evidence: {out}"])
