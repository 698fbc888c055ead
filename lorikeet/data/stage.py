"""The data stage: reads rows, checks them, splits them, renders them once.

Writes conversations.jsonl (one {messages, split, group, source, topic, category, kind} a line), tokens.parquet
(ids and mask of the same rows in the same order), data.json (figures for the report) and findings.json.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow
import pyarrow.parquet

from lorikeet.artifact import write_json
from lorikeet.bases import load_tokenizer
from lorikeet.conversation import Conversation
from lorikeet.data import split
from lorikeet.data.checks import leaked_probes, run_checks, untaught_suite
from lorikeet.data.hub import row_files
from lorikeet.data.sources import read_all
from lorikeet.data.split import Row
from lorikeet.data.template import Tokens, opening, preview, render
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
    """Do the stage in `folder`. DataError where a check of severity `error` fails or a row is too long."""
    rows, findings = split_rows(recipe, progress)
    for finding in findings:
        if finding.severity == "error":
            excerpt = f": {finding.excerpt!r}" if finding.excerpt else ""
            raise DataError(f"{finding.code}: {finding.what}{excerpt} ({', '.join(finding.rows[:2])})", finding.cure)
        progress.say(f"  {finding.severity}: {finding.what}")
    if not any(row.part == "train" for row in rows) or not any(row.part == "test" and row.kind == "taught" for row in rows):
        raise DataError(f"{len(rows)} rows are too few to hold any out", "add rows; at least 20 different answers, or 4 wordings of each")
    tokenizer = load_tokenizer(base)
    tokens = []
    for number, row in enumerate(rows, 1):
        tokens.append(render(tokenizer, row.conversation))
        if len(tokens[-1].ids) > recipe.recipe.data.max_tokens:
            raise DataError(f"{row.conversation.source}: the row has {len(tokens[-1].ids)} tokens, data.max_tokens allows {recipe.recipe.data.max_tokens}",
                            "raise data.max_tokens (costs memory) or shorten the row; nothing is cut in silence")  # fmt: skip
        progress.step("rows rendered", number, len(rows))
    whole = recipe.recipe.data.whole_wordings
    cut = split.openings_only(rows, whole, recipe.recipe.seed) if whole else set()
    shown = next(t for n, (t, row) in enumerate(zip(tokens, rows, strict=True)) if row.part == "train" and n not in cut)
    write_json(folder / "preview.json", preview(tokenizer, shown))
    tokens = [opening(t, recipe.recipe.data.opening_tokens) if n in cut else t for n, t in enumerate(tokens)]
    _write(rows, tokens, folder)
    write_json(folder / "findings.json", [asdict(f) for f in findings])
    write_json(folder / "data.json", {**_figures(recipe, rows, tokens), "openings": len(cut)})


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


def _figures(recipe: LoadedRecipe, rows: Sequence[Row], tokens: Sequence[Tokens]) -> dict[str, object]:
    trained = [t for t, row in zip(tokens, rows, strict=True) if row.part == "train"]
    taught = [row for row in rows if row.kind == "taught"]
    held_out_groups = {r.group for r in taught if r.part == "test"} & {r.group for r in taught if r.part == "train"}
    return {
        "rows": len(rows),
        "split": "wordings" if held_out_groups else "groups",
        "parts": dict(Counter(f"{row.kind}/{row.part}" for row in rows)),
        "answers": len({row.group for row in taught}),
        "tokens": sum(len(t.ids) for t in trained),
        "supervised_tokens": sum(sum(t.supervised) for t in trained),
        "longest": max(len(t.ids) for t in tokens),
        "files": sorted({row.conversation.source.file for row in rows}),
        "system": recipe.persona.system,
    }
