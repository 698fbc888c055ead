"""The data stage: reads rows, checks them, splits them, renders them once.

Writes conversations.jsonl (one {messages, split, group, source, topic, category, kind} a line), tokens.parquet
(ids and mask of the same rows in the same order), data.json (figures for the report) and findings.json.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet
from transformers import PreTrainedTokenizerBase

from lorikeet.artifact import write_json
from lorikeet.bases import load_tokenizer
from lorikeet.conversation import Conversation
from lorikeet.data import split
from lorikeet.data.checks import leaked_probes, run_checks, untaught_suite
from lorikeet.data.figures import figures, long_rows, too_long
from lorikeet.data.hub import row_files
from lorikeet.data.sources import read_all
from lorikeet.data.split import Row
from lorikeet.data.template import Tokens, opening, preview, render_all
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
    return rows, [*leaked_probes(rows, recipe.suite, Path(recipe.recipe.audit.suite)), *untaught_suite(rows, recipe.suite), *findings, *run_checks(rows)]


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
    seen = tokenised(recipe, tokenizer, rows, progress)
    _accept(too_long(seen.long, recipe.recipe.data.max_tokens), progress)
    write_json(folder / "preview.json", previews(tokenizer, rows, seen))
    _write(rows, seen.tokens, folder)
    write_json(folder / "findings.json", [asdict(f) for f in findings])
    write_json(folder / "data.json", {**figures(recipe, rows, seen.tokens), "openings": len(seen.openings)})


def _accept(findings: Sequence[Finding], progress: Progress) -> None:
    for finding in findings:
        if finding.severity == "error":
            excerpt = f": {finding.excerpt!r}" if finding.excerpt else ""
            raise DataError(f"{finding.code}: {finding.what}{excerpt} ({', '.join(finding.rows[:2])})", finding.cure)
        progress.say(f"  {finding.severity}: {finding.what}")


class Tokenised(NamedTuple):
    """The rows' tokens as training sees them, the positions of those cut to how their answer begins, and the rows that are too long."""

    tokens: list[Tokens]
    openings: set[int]
    long: list[tuple[Row, Tokens]]


def tokenised(recipe: LoadedRecipe, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], progress: Progress) -> Tokenised:
    """Render every row once; DataError where the template cannot be learned from."""
    settings = recipe.recipe.data
    whole = render_all(tokenizer, [row.conversation for row in rows], progress)
    cut = split.openings_only(rows, settings.whole_wordings, recipe.recipe.seed) if settings.whole_wordings else set()
    tokens = [opening(t, settings.opening_tokens) if n in cut else t for n, t in enumerate(whole)]
    return Tokenised(tokens, cut, long_rows(rows, whole, settings.max_tokens))


def previews(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], seen: Tokenised) -> list[dict[str, object]]:
    """The first row trained on of each sort, painted: taught or out of scope, whole or cut to its beginning."""
    first: dict[tuple[str, bool], int] = {}
    for n, row in enumerate(rows):
        if row.part == "train":
            first.setdefault((row.kind, n in seen.openings), n)
    chosen = sorted(first.items(), key=lambda item: (item[0][1], item[1]))
    return [{"source": str(rows[n].conversation.source), "cut": cut, "runs": preview(tokenizer, seen.tokens[n])} for (_, cut), n in chosen]


def _write(rows: Sequence[Row], tokens: Sequence[Tokens], folder: Path) -> None:
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
    table = pyarrow.table({
        "ids": pyarrow.array([t.ids for t in tokens], pyarrow.list_(pyarrow.int32())),
        "supervised": pyarrow.array([t.supervised for t in tokens], pyarrow.list_(pyarrow.bool_())),
        "split": [row.part for row in rows],
        "kind": [row.kind for row in rows],
    })  # fmt: skip
    pyarrow.parquet.write_table(table, folder / "tokens.parquet")
