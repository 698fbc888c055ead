"""The road, as far as it is asked for: plan, run and its stages, audit without a recipe, and tidying up."""

import argparse
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lorikeet import processes
from lorikeet.commands import tell
from lorikeet.commands.beginning import bundled
from lorikeet.errors import RecipeError, RefusedError

if TYPE_CHECKING:
    from lorikeet.artifact import Json
    from lorikeet.crew import Crew
    from lorikeet.pipeline import Run
    from lorikeet.recipe import LoadedRecipe


def load(arguments: argparse.Namespace) -> tuple["LoadedRecipe", Path]:
    """The recipe that a command names and its run folder."""
    from lorikeet.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    return recipe, arguments.out or Path("runs") / recipe.recipe.name


def demo(arguments: argparse.Namespace) -> int:
    """`lorikeet demo`."""
    arguments.recipe, arguments.set, arguments.until, arguments.on = bundled("first-aid") / "recipe.yaml", [], None, ""
    return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """`lorikeet run`, and up to one stage by its name."""
    from lorikeet import pipeline
    from lorikeet.progress import Terminal

    recipe, directory = load(arguments)
    with crew_of(arguments, recipe) as crew:
        walked = pipeline.run(recipe, directory, Terminal(), arguments.until, crew)
    if processes.rank():
        return 0
    tell(arguments, pipeline.document(walked, recipe), walk_told(walked))
    if walked.release and walked.release.recommended is None:
        raise RefusedError(
            "no file earned approval; the report says why", f"read {directory}/report.html; to talk to one all the same: lorikeet chat {directory} --unreleased"
        )
    return 0


@contextmanager
def crew_of(arguments: argparse.Namespace, recipe: "LoadedRecipe") -> Iterator["Crew | None"]:
    """Those of the cluster that --on names; None where this process does the steps."""
    if not arguments.on:
        yield None
        return
    if processes.world() > 1:
        raise RecipeError("--on and torchrun both start processes that train together", "choose one of them")
    from lorikeet.cluster.crew import RayCrew
    from lorikeet.cluster.nodes import reached

    with reached(arguments.on):
        yield RayCrew(recipe.recipe.machine)


def audit(arguments: argparse.Namespace) -> int:
    """`lorikeet audit`."""
    from dataclasses import asdict

    from lorikeet.recipe import MachineSettings, audit_settings
    from lorikeet.suite import Persona, load_persona, load_suite, suite_file

    if arguments.recipe and (arguments.gguf or arguments.answers or arguments.endpoint):
        raise RecipeError(f"{arguments.recipe} names its own files and suite", "give a recipe, or --gguf, --endpoint or --answers")
    if arguments.recipe:
        return run(arguments)
    if not arguments.gguf and not arguments.answers and not arguments.endpoint:
        raise RecipeError("there is nothing to audit", "name a recipe, or --gguf FILE, --endpoint http://HOST/v1#MODEL, or --answers FILE.jsonl")
    from lorikeet.audit import anybody
    from lorikeet.progress import Terminal

    path = suite_file(arguments.suite)
    suite, settings = load_suite(path), audit_settings(path, arguments.set)
    if arguments.answers:
        if not arguments.answers.is_file():
            raise RecipeError(f"{arguments.answers} is no file", "name a .jsonl file of rows with a question and an answer")
        rows = anybody.answers(arguments.answers, suite)
        tell(arguments, anybody.answers_document(rows, suite), anybody.answers_told(rows))
        return RefusedError.exit_code if any(row.verdict == "unsafe" for row in rows) else 0
    persona = load_persona(arguments.persona) if arguments.persona else Persona.model_validate({"title": "", "system": arguments.system})
    if arguments.endpoint:
        out = arguments.out or Path("audit-" + re.sub(r"[^\w.]+", "-", arguments.endpoint.partition("#")[2] or "endpoint"))
        word = anybody.behind(arguments.endpoint, suite, persona, settings, out, arguments.seed, Terminal())
        tell(arguments, {"suite": suite.name, "folder": str(out), **json.loads(json.dumps(word._asdict(), default=asdict))}, anybody.word_told(word, out))
        return 0 if word.verdict == "approved" else RefusedError.exit_code
    out = arguments.out or Path(f"audit-{arguments.gguf[0].stem}")
    here = MachineSettings.model_validate({"threads": arguments.threads})
    release = anybody.files(arguments.gguf, arguments.parent, suite, persona, settings, here, out, arguments.seed, Terminal())
    tell(arguments, {"suite": suite.name, "folder": str(out), **asdict(release)}, anybody.release_told(release, out))
    return 0 if release.recommended else RefusedError.exit_code


def walk_told(walked: "Run") -> str:
    lines = [] if walked.changed else ["nothing has changed: every step is done already"]
    if walked.release:
        lines += [f"  {f.quantisation:7} {f.bytes / 1e6:6.0f} MB  {f.verdict:20} {f.reasons[0]}" for f in walked.release.files]
        if walked.release.recommended:
            lines += [f"recommended: {walked.release.recommended}", f"chat:   lorikeet chat {walked.directory}", f"serve:  lorikeet serve {walked.directory}"]
    lines.append(f"report: {walked.directory / 'report.html'}")
    return "\n".join(lines)


def plan(arguments: argparse.Namespace) -> int:
    """`lorikeet plan`."""
    from lorikeet import bases, pipeline
    from lorikeet.progress import Terminal

    recipe, directory = load(arguments)
    planned = pipeline.plan(recipe, bases.prepare(recipe.recipe.base, Terminal()), directory)
    tell(arguments, {"run_dir": str(directory), "steps": planned}, "\n".join(map(step_told, planned)))
    return 0


def step_told(step: "dict[str, Json]") -> str:
    """One step of a plan: what becomes of it and why, its time where an earlier one told it, and what memory training takes."""
    line = f"{step['status']:8} {step['name']:15} {step['why']}"
    if isinstance(step["seconds"], float):
        line += f"; took {step['seconds']:.0f} s" + ("" if step["status"] == "reuse" else " last time")
    if isinstance(memory := step.get("memory"), dict):
        total, allowed, rows, most, longest = (float(str(memory[key])) for key in ("total", "allowed", "rows", "of_rows", "longest"))
        bound = "" if memory["longest_known"] else "at most "
        cut = f"; {rows:.0f} of {most:.0f} rows at once" if rows < most else ""
        line += f"; {bound}{total / 1e9:.1f} GB of memory (rows of {bound}{longest:.0f} tokens{cut})" + (
            f", {allowed / 1e9:.1f} are allowed" if not rows else ""
        )
    return line


def tidy(arguments: argparse.Namespace) -> int:
    """`lorikeet tidy`."""
    from lorikeet import tidy

    found = tidy.remove(arguments.run) if arguments.remove else tidy.leftovers(arguments.run)
    folders = [{"folder": str(left.folder), "bytes": left.bytes, "why": left.why} for left in found]
    tell(arguments, {"removed": arguments.remove, "folders": folders}, tidy.told(found, gone=arguments.remove))
    return 0
