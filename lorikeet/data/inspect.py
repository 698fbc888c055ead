"""What `lorikeet check` says: files, formats, refusals, findings, figures, and rows painted by what gets loss."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorikeet.data import figures, split
from lorikeet.data.checks import run_checks
from lorikeet.data.figures import LongRow
from lorikeet.data.hub import fetch
from lorikeet.data.rows import TRAIN, Row, Rows
from lorikeet.data.shelf import Shelf
from lorikeet.data.sources import FileRows, read_file
from lorikeet.data.survey import Survey, survey
from lorikeet.errors import LorikeetError
from lorikeet.evidence import Finding
from lorikeet.progress import Progress
from lorikeet.recipe import HUB_ID, DataSettings, TrainSettings, find_files, load_recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorikeet.data.tokens import Seen


@dataclass(frozen=True)
class Inspection:
    """What was read and what was found. `figures` as in data.json, or of it what needs no tokenizer; `long` are the rows that are too long.

    Where refusals left no split nothing was looked for, and `unsplit` is all that could be read, to train on.
    """

    files: list[FileRows]
    seen: Survey | None = None
    findings: list[Finding] = field(default_factory=list)
    figures: Mapping[str, object] = field(default_factory=dict)
    painted: list[str] = field(default_factory=list)
    long: list[LongRow] = field(default_factory=list)
    unsplit: Rows | None = None

    @property
    def refused(self) -> int:
        return sum(len(f.refused) for f in self.files)

    @property
    def errors(self) -> int:
        return sum(f.severity == "error" for f in self.findings)

    @property
    def parts(self) -> dict[str, int]:
        return dict(sorted(figures.parts(self.seen).items())) if self.seen else {}

    def usable(self, progress: Progress) -> Survey | None:
        """What can be mended: the rows in their split, or unsplit, looked at. None where there is no row."""
        seen = survey(self.unsplit, progress) if self.unsplit is not None else self.seen
        return seen if seen and seen.rows else None

    def document(self) -> dict[str, object]:
        """The JSON form of docs/cli.md."""
        return {
            "files": [
                {
                    "path": str(f.path),
                    "format": f.format.name if f.format else None,
                    "why": f.format.why if f.format else "no row could be read",
                    "rows": f.read,
                    "refused": [{"reason": e.message, "cure": e.cure} for e in f.refused],
                }
                for f in self.files
            ],
            "findings": [{**asdict(f), "example": f.excerpt} for f in self.findings],
            "parts": self.parts,
            "figures": self.figures,
        }


_PART = re.compile(r"(?:^|[._-])(?:(train)|val|valid|validation|dev|test|eval)(?:$|[._-])", re.I)
"""What a file's name says of its part in a split; the first group is the rows to train on."""


def files(what: Sequence[str], progress: Progress, base: str = "", rows_of_hub: int | None = None, show: int = 0) -> Inspection:
    """Read files of rows, or data sets of the Hub (owner/name@commit, the first `rows_of_hub` rows).

    They are a split that somebody made where their names say train and test, else a data set split by groups. With a base, lengths
    are counted in its tokens, and `show` rows are painted.
    """
    paths = [found for name in what for found in ([fetch(name, rows_of_hub, progress)] if HUB_ID.fullmatch(name) else find_files(name))]
    read = [FileRows(path) for path in paths]
    trained, held_out = Shelf(), Shelf()
    for file in read:
        named = _PART.search(file.path.name)
        shelf = held_out if named and not named.group(1) else trained
        for talk in read_file(file):
            shelf.append(talk)
    made = bool(trained and held_out)
    rows = split.given(trained, held_out, seed=0, test_share=0.0) if made else split.by_groups(trained or held_out, seed=0, test_share=0.1)
    seen = survey(rows, progress)
    findings, counted = run_checks(seen), figures.words(seen)
    if not base or not rows:
        return Inspection(read, seen, findings, counted)
    from lorikeet.data.tokens import tokenise

    limit, batch = DataSettings.model_fields["max_tokens"].default, TrainSettings.model_fields["batch"].default
    tokens = tokenise(_tokenizer(base, progress), rows, None, progress, limit=limit, paint=range(show))
    counted |= figures.shape(tokens.lengths, batch, 0)
    return Inspection(read, seen, [*figures.too_long(tokens.long, limit), *findings], counted, _painted(rows, tokens), tokens.long)


def recipe(path: Path, progress: Progress, show: int = 0) -> Inspection:
    """Read all files that a recipe names, split as its data section says, in the tokens of its base; `show` rows painted."""
    from lorikeet.data.stage import as_trained, cut, read_rows, split_rows

    loaded = load_recipe(path)
    rows_of = read_rows(loaded, progress)
    read = [file for found in rows_of.values() for file in found.files]
    if any(file.refused for file in read):
        every = Shelf(talk for found in rows_of.values() for talk in found.talks)
        unsplit = Rows(every, "taught", np.full(len(every), TRAIN), np.full(len(every), b""))
        return Inspection(read, unsplit=unsplit)
    seen, findings, _ = split_rows(loaded, rows_of, progress)
    try:
        tokenizer = _tokenizer(loaded.recipe.base, progress)
    except LorikeetError as error:
        if show:
            raise
        return Inspection(read, seen, [*findings, _uncounted(error)], figures.words(seen))
    tokens = as_trained(loaded, tokenizer, seen.rows, cut(loaded, seen.rows), None, range(show), progress)
    found = [*figures.too_long(tokens.long, loaded.recipe.data.max_tokens), *findings]
    counted = figures.figures(loaded, seen, tokens.lengths, tokens.supervised)
    return Inspection(read, seen, found, counted, _painted(seen.rows, tokens), tokens.long)


def _uncounted(error: LorikeetError) -> Finding:
    return Finding("note", f"lengths were not counted, and the mask was not tried: {error.message}", code="data.uncounted", cure=error.cure)


def _tokenizer(base: str, progress: Progress) -> "PreTrainedTokenizerBase":
    from lorikeet import bases

    return bases.load_tokenizer(bases.prepare(base, progress))


def _painted(rows: Sequence[Row], seen: "Seen") -> list[str]:
    """Rows as the model sees them: text with loss in bold green (or between [[ and ]] without a terminal)."""
    begin, end = ("\x1b[1;32m", "\x1b[0m") if sys.stdout.isatty() else ("[[", "]]")
    return [f"--- {rows[n].conversation.source} ({rows[n].part})\n" + "".join(f"{begin}{text}{end}" if lossy else text for text, lossy in runs)
            for n, runs in seen.painted.items()]  # fmt: skip


def told(inspection: Inspection) -> str:
    """The inspection for a reader."""
    lines = []
    for file in inspection.files:
        kind = f"{file.format.name} ({file.format.why})" if file.format else "no row could be read"
        lines.append(f"{file.path.name}: {file.read} rows, {len(file.refused)} refused; {kind}")
        lines += [f"  {e.message}\n    cure: {e.cure}" for e in file.refused[:10]]
        if len(file.refused) > 10:
            lines.append(f"  ... and {len(file.refused) - 10} more; --json lists all")
    lines += [f"{name}: {count} rows" for name, count in inspection.parts.items()]
    for f in inspection.findings:
        lines.append(f"{f.severity}: {f.code}: {f.what}" + (f": {f.excerpt!r}" if f.excerpt else ""))
        lines += [f"  {', '.join(f.rows)}"] if f.rows else []
        lines += [f"  cure: {f.cure}"] if f.cure else []
    lines += figures.told(inspection.figures)
    return "\n".join([*lines, *inspection.painted])
