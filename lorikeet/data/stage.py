"""The data stage: reads rows, checks them, splits them, renders them once.

Writes conversations.jsonl (one {messages, split, group, source, topic, category, kind} a line), tokens.parquet
(ids and mask of the same rows in the same order), data.json (figures for the report) and findings.json.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lorikeet.artifact import write_json
from lorikeet.bases import load_tokenizer
from lorikeet.conversation import Conversation
from lorikeet.data import split
from lorikeet.data.checks import leaked_probes, read_too_often, run_checks, untaught_suite
from lorikeet.data.figures import figures, too_long
from lorikeet.data.hub import row_files
from lorikeet.data.sources import read_all
from lorikeet.data.split import Row
from lorikeet.data.tokens import Seen, tokenise
from lorikeet.errors import DataError
from lorikeet.evidence import Finding
from lorikeet.progress import Progress
from lorikeet.recipe import LoadedRecipe
from lorikeet.suite import Persona
from lorikeet.weights import Base


def split_rows(recipe: LoadedRecipe, progress: Progress) -> tuple[list[Row], list[Finding]]:
    """All rows with their place in the split, and what the checks found. Needs no model."""
    settings, seed = recipe.recipe.data, recipe.recipe.seed
    files = {key: row_files(recipe, key, progress) for key in settings.sources()}
    taught, findings = _without_disliked(read_all(files["train"], settings.columns))
    if held_out := files["test"]:
        rows = split.given(taught, read_all(held_out, settings.columns), seed, settings.test_share)
    elif settings.split == "wordings" and split.is_taught_set(taught):
        rows = split.by_wordings(taught, seed)
    else:
        if settings.split == "wordings":
            findings.append(Finding("warning", "data.split is 'wordings', but most answers have fewer than four wordings: whole answers were held out instead",
                                    code="data.split.not-a-taught-set", cure="set data.split: groups to say so yourself"))  # fmt: skip
        rows = split.by_groups(taught, seed, settings.test_share)
    if outside := files["out_of_scope"]:
        rows += split.out_of_scope(read_all(outside), seed)
    if never := files["never_taught"]:
        rows += split.never_taught(read_all(never))
    rows = [replace(row, conversation=_with_system(row.conversation, recipe.persona)) for row in rows]
    own = [*leaked_probes(rows, recipe.suite, Path(recipe.recipe.audit.suite)), *untaught_suite(rows, recipe.suite)]
    return rows, [*own, *findings, *read_too_often(rows, recipe.recipe.train.epochs), *run_checks(rows)]


def _without_disliked(rows: list[Conversation]) -> tuple[list[Conversation], list[Finding]]:
    """The rows without answers that somebody disliked: they are no examples to follow."""
    disliked = [row for row in rows if row.liked is False]
    if not disliked:
        return rows, []
    if len(disliked) == len(rows):
        raise DataError("every row's answer is labelled as disliked: none is left to learn from", "add rows with the label true")
    told = Finding("note", f"{len(disliked)} of {len(rows)} rows have an answer labelled as disliked, and are left out", disliked[0].question,
                   code="data.disliked", rows=tuple(str(row.source) for row in disliked[:10]))  # fmt: skip
    return [row for row in rows if row.liked is not False], [told]


def _with_system(talk: Conversation, persona: Persona) -> Conversation:
    """The row behind the system turn of its mode; DataError for a mode that the persona does not have."""
    if talk.mode and talk.mode not in persona.modes:
        known = ", ".join(persona.modes) or "none"
        raise DataError(f"{talk.source}: the mode {talk.mode!r} is not one of the persona's ({known})", "correct the row, or add the mode to the persona")
    return talk.with_system(persona.prompt(talk.mode))


def run(recipe: LoadedRecipe, base: Base, folder: Path, progress: Progress) -> None:
    """Do the stage in `folder`. DataError where a check of severity `error` fails."""
    rows, findings = split_rows(recipe, progress)
    _accept(findings, progress)
    if not any(row.part == "train" for row in rows) or not any(row.part == "test" and row.kind == "taught" for row in rows):
        raise DataError(f"{len(rows)} rows are too few to hold any out", "add rows; at least 20 different answers, or 4 wordings of each")
    tokenizer = load_tokenizer(base)
    openings = cut(recipe, rows)
    shown = _one_of_each(rows, openings)
    seen = as_trained(recipe, tokenizer, rows, openings, folder / "tokens.parquet", shown, progress)
    _accept(too_long(seen.long, recipe.recipe.data.max_tokens), progress)
    painted = [{"source": str(rows[n].conversation.source), "cut": n in openings, "runs": seen.painted[n]} for n in shown]
    write_json(folder / "preview.json", painted)
    _write(rows, folder)
    write_json(folder / "findings.json", [asdict(f) for f in findings])
    write_json(folder / "data.json", {**figures(recipe, rows, seen.lengths, seen.supervised), "openings": len(openings)})


def _accept(findings: Sequence[Finding], progress: Progress) -> None:
    for finding in findings:
        if finding.severity == "error":
            excerpt = f": {finding.excerpt!r}" if finding.excerpt else ""
            raise DataError(f"{finding.code}: {finding.what}{excerpt} ({', '.join(finding.rows[:2])})", finding.cure)
        progress.say(f"  {finding.severity}: {finding.what}")


def cut(recipe: LoadedRecipe, rows: Sequence[Row]) -> set[int]:
    """Positions of the rows that teach only how their answer begins."""
    whole = recipe.recipe.data.whole_wordings
    return split.openings_only(rows, whole, recipe.recipe.seed) if whole else set()


def as_trained(
    recipe: LoadedRecipe,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    openings: set[int],
    path: Path | None,
    paint: Sequence[int],
    progress: Progress,
) -> Seen:
    """The rows' tokens as the recipe's training sees them, in `path` where one is given."""
    settings = recipe.recipe.data
    return tokenise(tokenizer, rows, path, progress, limit=settings.max_tokens, openings=openings, opening_tokens=settings.opening_tokens, paint=paint)


def _one_of_each(rows: Sequence[Row], openings: set[int]) -> list[int]:
    """The first row trained on of each sort: whole or cut to its beginning, taught or out of scope."""
    first: dict[tuple[bool, str], int] = {}
    for n, row in enumerate(rows):
        if row.part == "train":
            first.setdefault((n in openings, row.kind), n)
    return sorted(first.values(), key=lambda n: (n in openings, n))


def _write(rows: Sequence[Row], folder: Path) -> None:
    with (folder / "conversations.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            talk = row.conversation
            line = {
                "messages": [m.as_dict() for m in talk.messages],
                "split": row.part,
                "group": row.group,
                "source": str(talk.source),
                "topic": talk.topic,
                "category": talk.category,
                "kind": row.kind,
                "mode": talk.mode,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
