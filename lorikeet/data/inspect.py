"""What `lorikeet check` says: files, formats, refusals, findings, and rows painted by what gets loss."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lorikeet.data import split
from lorikeet.data.checks import run_checks
from lorikeet.data.hub import row_files
from lorikeet.data.sources import FileRows, read_file
from lorikeet.data.split import Row
from lorikeet.errors import DataError
from lorikeet.evidence import Finding
from lorikeet.progress import Terminal
from lorikeet.recipe import LoadedRecipe, find_files, load_recipe


@dataclass(frozen=True)
class Inspection:
    """What was read and what was found."""

    files: list[FileRows]
    findings: list[Finding]
    parts: dict[str, int]

    @property
    def refused(self) -> int:
        return sum(len(f.refused) for f in self.files)

    @property
    def errors(self) -> int:
        return sum(f.severity == "error" for f in self.findings)

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
        }


_PART = re.compile(r"(?:^|[._-])(?:(train)|val|valid|validation|dev|test|eval)(?:$|[._-])", re.I)
"""What a file's name says of its part in a split; the first group is the rows to train on."""


def files(paths: Sequence[Path]) -> Inspection:
    """Read files of rows: as a split that somebody made where their names say train and test, else as a data set split by groups."""
    read = [read_file(found) for path in paths for found in find_files(str(path))]
    named = [_PART.search(file.path.name) for file in read]
    trained = [row for file, name in zip(read, named, strict=True) if name is None or name.group(1) for row in file.rows]
    held_out = [row for file, name in zip(read, named, strict=True) if name is not None and not name.group(1) for row in file.rows]
    made = bool(trained and held_out)
    rows = split.given(trained, held_out, seed=0, test_share=0.0) if made else split.by_groups([*trained, *held_out], seed=0, test_share=0.1)
    return Inspection(read, run_checks(rows), _parts(rows))


def recipe(path: Path) -> Inspection:
    """Read all files that a recipe names, split as its data section says."""
    loaded = load_recipe(path)
    columns = loaded.recipe.data.columns
    files = {key: row_files(loaded, key, Terminal()) for key in loaded.recipe.data.sources()}
    read = [read_file(file, columns if key in ("train", "test") else None) for key, found in files.items() for file in found]
    if any(file.refused for file in read):
        return Inspection(read, [], {})
    rows, findings = _split(loaded)
    return Inspection(read, findings, _parts(rows))


def _split(loaded: LoadedRecipe) -> tuple[list[Row], list[Finding]]:
    from lorikeet.data.stage import split_rows

    return split_rows(loaded, Terminal())


def _parts(rows: Sequence[Row]) -> dict[str, int]:
    return dict(sorted(Counter(f"{row.kind}/{row.part}" for row in rows).items()))


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
    return "\n".join(lines)


def painted(path: Path, count: int) -> str:
    """Rows of a recipe as the model sees them: text with loss in bold green (or between [[ and ]] without a terminal)."""
    import sys

    from lorikeet import bases
    from lorikeet.data.template import preview, render

    if path.suffix not in (".yaml", ".yml"):
        raise DataError("--show needs a recipe, which names the model whose template is used", "run: lorikeet check RECIPE --show N")
    loaded = load_recipe(path)
    tokenizer = bases.load_tokenizer(bases.prepare(loaded.recipe.base, Terminal()))
    begin, end = ("\x1b[1;32m", "\x1b[0m") if sys.stdout.isatty() else ("[[", "]]")
    blocks = []
    for row in _split(loaded)[0][:count]:
        runs = preview(tokenizer, render(tokenizer, row.conversation))
        blocks.append(f"--- {row.conversation.source} ({row.part})\n" + "".join(f"{begin}{text}{end}" if lossy else text for text, lossy in runs))
    return "\n".join(blocks)
