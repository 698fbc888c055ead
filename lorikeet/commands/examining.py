"""Looks at what was made, by whoever: diagnosis, comparison, parity, difference, report."""

import argparse
import re
from pathlib import Path

from lorikeet.commands import tell
from lorikeet.errors import RecipeError, RefusedError


def diagnose(arguments: argparse.Namespace) -> int:
    """`lorikeet diagnose`."""
    from dataclasses import asdict

    from lorikeet import diagnosis

    log = diagnosis.read_log(arguments.log)
    findings = diagnosis.diagnose(log)
    advised = [(f, diagnosis.remedies(log, f)) for f in findings]
    text = diagnosis.told(log, findings)
    if (arguments.log / "run.json").is_file() and any(remedies for _, remedies in advised):
        text += f"\ntry: lorikeet rerun {arguments.log}"
    found = [{**asdict(f), "remedies": [asdict(r) for r in remedies]} for f, remedies in advised]
    tell(arguments, {"steps": len(log.loss), "findings": found}, text)
    if any(f.severity == "error" for f in findings):
        raise RefusedError("the run cannot be judged, or taught nothing", findings[0].cure)
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """`lorikeet compare`."""
    from lorikeet import compare, machine
    from lorikeet.engine import Sampling
    from lorikeet.progress import Terminal
    from lorikeet.subjects import subject

    progress = Terminal()
    threads = machine.threads(arguments.threads)
    first, second = (subject(spec, arguments.base, threads, progress) for spec in arguments.models)
    named = (text.partition("=") for text in arguments.benchmark)
    wanted = {name: Path(file) if file else None for name, _, file in named}
    asked = compare.asked(arguments.suite, arguments.questions, (first, second), arguments.system, arguments.count, wanted)
    sampling = Sampling(arguments.temperature, max_tokens=arguments.max_new_tokens, seed=arguments.seed)
    names = (re.sub(r"[^\w.-]+", "-", s.name) for s in (first, second))
    found = compare.compare(first, second, asked, sampling, arguments.out or Path("-".join(["compare", *names])), progress,
                            arguments.judge, arguments.judge_budget)  # fmt: skip
    tell(arguments, compare.document(found), compare.told(found))
    return 0


def parity(arguments: argparse.Namespace) -> int:
    """`lorikeet parity`."""
    from dataclasses import asdict

    from lorikeet import exam, machine
    from lorikeet.data.sources import FileRows, read_file, require_all
    from lorikeet.export import parity
    from lorikeet.progress import Terminal
    from lorikeet.subjects import held_against
    from lorikeet.weights import gguf_file

    gguf = gguf_file(arguments.gguf)
    held = held_against(arguments.model, arguments.base, Terminal())
    talks = held.conversations or parity.TALKS
    if arguments.rows:
        rows = FileRows(arguments.rows)
        talks = [talk.messages for talk in read_file(rows)]
        require_all([rows])
    found = parity.compare(gguf.path, held.base, held.trained, exam.evenly(talks, arguments.count), machine.threads(arguments.threads))
    tell(arguments, asdict(found), parity.told(found, gguf.path))
    return RefusedError.exit_code if found.causes else 0


def diff(arguments: argparse.Namespace) -> int:
    """`lorikeet diff`."""
    from lorikeet import diff

    found = diff.diff(*arguments.runs)
    tell(arguments, found.document(), diff.told(found, *map(str, arguments.runs)))
    return 0


def report(arguments: argparse.Namespace) -> int:
    """`lorikeet report`."""
    from lorikeet import report

    if not (arguments.run / "run.json").is_file():
        raise RecipeError(f"{arguments.run} is not a run folder: it has no run.json", "name a folder made by `lorikeet run`, such as runs/first-aid")
    path = report.write(arguments.run)
    tell(arguments, {"report": str(path)}, f"report: {path}")
    return 0
