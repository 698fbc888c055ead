"""The data stage: reads rows, checks them, splits them, renders them once.

Writes conversations.jsonl (one {messages, split, group, source, topic, category, kind} a line), tokens.parquet
(ids and mask of the same rows in the same order), data.json (figures for the report) and findings.json; for KTO and DPO also ratings.parquet.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from lorikeet.artifact import write_json
from lorikeet.bases import load_tokenizer
from lorikeet.conversation import Conversation
from lorikeet.data import split
from lorikeet.data.checks import leaked_probes, read_too_often, run_checks, untaught_suite
from lorikeet.data.contents import SHOWN
from lorikeet.data.figures import figures, too_long
from lorikeet.data.hub import row_files
from lorikeet.data.ratings import is_rated, require_both, write_judged, write_ratings
from lorikeet.data.replaced import renewed, replacements
from lorikeet.data.rows import TEST, TRAIN, Row, Rows
from lorikeet.data.shelf import Shelf
from lorikeet.data.sources import FileRows, read_file, require_all
from lorikeet.data.survey import Survey, survey
from lorikeet.data.tokens import Seen, tokenise
from lorikeet.errors import DataError
from lorikeet.evidence import Finding
from lorikeet.exam import JUDGED, RATINGS, evenly
from lorikeet.progress import Progress
from lorikeet.recipe import LoadedRecipe, RowKey
from lorikeet.scoring import fold
from lorikeet.suite import Persona
from lorikeet.weights import Base


class Read(NamedTuple):
    """What the files of a key of the data section gave."""

    files: list[FileRows]
    talks: Shelf


def read_rows(recipe: LoadedRecipe, progress: Progress) -> dict[RowKey, Read]:
    """All rows of all files that the recipe names, behind the system turn of their mode; what is refused is in the files."""
    settings, finish = recipe.recipe.data, partial(_with_system, recipe.persona)
    replaced = {fold(old): new for path in recipe.rows("replaced") for old, new in replacements(path)}
    found: dict[RowKey, Read] = {}
    for key in settings.sources():
        files = [FileRows(path) for path in row_files(recipe, key, progress)] if key != "replaced" else []
        taught = key in ("train", "test")
        talks = (talk for file in files for talk in read_file(file, settings.columns if taught else None, finish))
        found[key] = Read(files, Shelf(renewed(talk, replaced) if taught else talk for talk in talks))
    return found


class Split(NamedTuple):
    """All rows that show what to say, with their place, looked at; what the checks found; and the rows whose judgements are learned."""

    seen: Survey
    findings: list[Finding]
    rated: Rows


def split_rows(recipe: LoadedRecipe, read: Mapping[RowKey, Read], progress: Progress) -> Split:
    """Place all rows in the split. Needs no model. DataError where a row is refused."""
    settings, seed, objective = recipe.recipe.data, recipe.recipe.seed, recipe.recipe.train.objective
    for rows_of_key in read.values():
        if rows_of_key.files:
            require_all(rows_of_key.files)
    judged = Shelf()
    if objective == "sft":
        taught, findings = _without_disliked(read["train"].talks)
    else:
        judged = Shelf(talk for talk in read["train"].talks if is_rated(talk))
        taught, findings = Shelf(talk for talk in read["train"].talks if not is_rated(talk)), []
    rows = split.by_groups(judged, seed, settings.test_share) if judged else Rows.of([])
    if taught or not judged:
        shown, told = _split_taught(recipe, taught, read["test"].talks)
        rows, findings = shown + rows, findings + told
    rows += split.out_of_scope(read["out_of_scope"].talks, seed)
    rows += split.never_taught(read["never_taught"].talks)
    rated = rows if judged else Rows.of([])
    if given := read["ratings"].talks:
        rated = split.by_judgement(given, read["ratings_test"].talks, seed, settings.test_share)
        if objective == "sft":
            rows += Rows.of(row for row in rated if row.part == "train" and row.conversation.liked)
        else:
            rated += Rows.of(evenly([row for row in rows if row.part == "train" and row.kind != "never-taught"], round(settings.ratings_mix * len(given))))
    if objective != "sft":
        require_both(rated, objective)
        rows = Rows.of(row for row in rows if row.conversation.liked is not False)
    seen = survey(rows, progress)
    own = [*leaked_probes(seen, recipe.suite, Path(recipe.recipe.audit.suite)), *untaught_suite(seen, recipe.suite)]
    return Split(seen, [*own, *findings, *read_too_often(seen, recipe.recipe.train.epochs), *run_checks(seen)], rated)


def _split_taught(recipe: LoadedRecipe, taught: Shelf, held_out: Shelf) -> tuple[Rows, list[Finding]]:
    settings, seed = recipe.recipe.data, recipe.recipe.seed
    if held_out:
        return split.given(taught, held_out, seed, settings.test_share), []
    if settings.split == "groups":
        return split.by_groups(taught, seed, settings.test_share), []
    if split.is_taught_set(taught):
        return split.by_wordings(taught, seed), []
    told = Finding("warning", "data.split is 'wordings', but most answers have fewer than four wordings: whole answers were held out instead",
                   code="data.split.not-a-taught-set", cure="set data.split: groups to say so yourself")  # fmt: skip
    return split.by_groups(taught, seed, settings.test_share), [told]


def _without_disliked(rows: Shelf) -> tuple[Shelf, list[Finding]]:
    """The rows without answers that somebody disliked: they are no examples to follow."""
    disliked = [n for n, row in enumerate(rows) if row.liked is False]
    if not disliked:
        return rows, []
    if len(disliked) == len(rows):
        raise DataError("every row's answer is labelled as disliked: none is left to learn from", "add rows with the label true")
    told = Finding("note", f"{len(disliked)} of {len(rows)} rows have an answer labelled as disliked, and are left out", rows[disliked[0]].question,
                   code="data.disliked", rows=tuple(str(rows[n].source) for n in disliked[:SHOWN]))  # fmt: skip
    return Shelf(row for row in rows if row.liked is not False), [told]


def _with_system(persona: Persona, talk: Conversation) -> Conversation:
    """The row behind the system turn of its mode; DataError for a mode that the persona does not have."""
    if talk.mode and talk.mode not in persona.modes:
        known = ", ".join(persona.modes) or "none"
        raise DataError(f"{talk.source}: the mode {talk.mode!r} is not one of the persona's ({known})", "correct the row, or add the mode to the persona")
    return talk.with_system(persona.prompt(talk.mode))


def run(recipe: LoadedRecipe, base: Base, folder: Path, progress: Progress) -> None:
    """Do the stage in `folder`. DataError where a check of severity `error` fails."""
    looked, findings, rated = split_rows(recipe, read_rows(recipe, progress), progress)
    rows = looked.rows
    _accept(findings, progress)
    if not (looked.part == TRAIN).any() or not (looked.taught & (looked.part == TEST)).any():
        raise DataError(f"{len(rows)} rows are too few to hold any out", "add rows; at least 20 different answers, or 4 wordings of each")
    tokenizer = load_tokenizer(base)
    openings = cut(recipe, rows)
    shown = _one_of_each(rows, openings)
    seen = as_trained(recipe, tokenizer, rows, openings, folder / "tokens.parquet", shown, progress)
    _accept(too_long(seen.long, recipe.recipe.data.max_tokens), progress)
    if rated:
        settings = recipe.recipe
        write_ratings(tokenizer, rated, "dpo" if settings.train.objective == "dpo" else "kto", settings.data.max_tokens, folder / RATINGS)
    if recipe.recipe.data.ratings:
        write_judged(rated, folder / JUDGED)
    painted = [{"source": str(rows[n].conversation.source), "cut": n in openings, "runs": seen.painted[n]} for n in shown]
    write_json(folder / "preview.json", painted)
    _write(rows, folder)
    write_json(folder / "findings.json", [asdict(f) for f in findings])
    write_json(folder / "data.json", {**figures(recipe, looked, seen.lengths, seen.supervised), "openings": len(openings)})


def _accept(findings: Sequence[Finding], progress: Progress) -> None:
    for finding in findings:
        if finding.severity == "error":
            excerpt = f": {finding.excerpt!r}" if finding.excerpt else ""
            raise DataError(f"{finding.code}: {finding.what}{excerpt} ({', '.join(finding.rows[:2])})", finding.cure)
        progress.say(f"  {finding.severity}: {finding.what}")


def cut(recipe: LoadedRecipe, rows: Sequence[Row]) -> set[int]:
    """Positions of the rows that teach only how their answer begins."""
    whole = recipe.recipe.data.whole_wordings
    return set(split.openings_only(rows, whole, recipe.recipe.seed).tolist()) if whole else set()


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
