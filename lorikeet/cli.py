"""The command line: reads arguments, calls the package, turns errors into one line what and one line the cure.

Nothing heavy is imported here; each command imports what it needs, so that --help is instant.
"""

import argparse
import json
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorikeet import processes
from lorikeet.arguments import Command, parser
from lorikeet.errors import LorikeetError, RecipeError, RefusedError

if TYPE_CHECKING:
    from lorikeet.artifact import Json
    from lorikeet.engine.guarded import Guard
    from lorikeet.pipeline import Run
    from lorikeet.recipe import LoadedRecipe
    from lorikeet.released import Served

BUGS = "this is a bug in Lorikeet: please report it with the lines above"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of ../docs/cli.md: 0, 2, 3 or 130 (1 is a traceback)."""
    arguments = parser(COMMANDS, _version()).parse_args(argv)
    command: Command = arguments.command
    if not sys.warnoptions:  # libraries' deprecation notices are for us, who run the tests with warnings as errors
        warnings.simplefilter("ignore")
    arguments.written = False
    try:
        with processes.one_voice():
            return command(arguments)
    except LorikeetError as error:
        print(f"error: {error.message}\n  cure: {error.cure}", file=sys.stderr)
        if arguments.json and not arguments.written:
            print(json.dumps({"error": error.message, "cure": error.cure, "exit_code": error.exit_code}))
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _version() -> str:
    from lorikeet import __version__

    return f"lorikeet {__version__}"


def _out(arguments: argparse.Namespace, document: object, text: str) -> None:
    arguments.written = True
    print(json.dumps(document, ensure_ascii=False) if arguments.json else text)


def _load(arguments: argparse.Namespace) -> tuple["LoadedRecipe", Path]:
    """The recipe that a command names and its run folder."""
    from lorikeet.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    return recipe, arguments.out or Path("runs") / recipe.recipe.name


ALSO_CALLED = {"tutor": "ml-tutor", "quiz": "ml-tutor"}
"""What `init --like` calls a recipe by its use: the tutor's folder holds the quiz."""


def bundled(name: str) -> Path:
    """The folder of a recipe that ships with Lorikeet; RecipeError with the names there are."""
    import importlib.util

    spec = importlib.util.find_spec("lorikeet_recipes")
    places = [Path(__file__).parent.parent / "recipes", *(Path(p) for p in (spec.submodule_search_locations or [] if spec else []))]
    found = {p.parent.name: p.parent for place in reversed(places) for p in place.glob("*/recipe.yaml")}
    name = ALSO_CALLED.get(name, name)
    if name not in found:
        raise RecipeError(f"no recipe {name!r} ships with Lorikeet", f"use one of: {', '.join(sorted(found))}")
    return found[name]


def _demo(arguments: argparse.Namespace) -> int:
    arguments.recipe, arguments.set, arguments.until = bundled("first-aid") / "recipe.yaml", [], None
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from lorikeet import pipeline
    from lorikeet.progress import Terminal

    recipe, directory = _load(arguments)
    walked = pipeline.run(recipe, directory, Terminal(), arguments.until)
    if processes.rank():
        return 0
    _out(arguments, pipeline.document(walked, recipe), _told(walked))
    if walked.release and walked.release.recommended is None:
        raise RefusedError(
            "no file earned approval; the report says why", f"read {directory}/report.html; to talk to one all the same: lorikeet chat {directory} --unreleased"
        )
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lorikeet.recipe import MachineSettings, audit_settings
    from lorikeet.suite import load_suite, suite_file

    if arguments.recipe and (arguments.gguf or arguments.answers):
        raise RecipeError(f"{arguments.recipe} names its own files and suite", "give a recipe, or --gguf, or --answers")
    if arguments.recipe:
        return _run(arguments)
    if not arguments.gguf and not arguments.answers:
        raise RecipeError("there is nothing to audit", "name a recipe, or --gguf FILE, or --answers FILE.jsonl")
    from lorikeet.audit import anybody
    from lorikeet.progress import Terminal

    path = suite_file(arguments.suite)
    suite, settings = load_suite(path), audit_settings(path, arguments.set)
    if arguments.answers:
        if not arguments.answers.is_file():
            raise RecipeError(f"{arguments.answers} is no file", "name a .jsonl file of rows with a question and an answer")
        rows = anybody.answers(arguments.answers, suite)
        _out(arguments, anybody.answers_document(rows, suite), anybody.answers_told(rows))
        return RefusedError.exit_code if any(row.verdict == "unsafe" for row in rows) else 0
    out = arguments.out or Path(f"audit-{arguments.gguf[0].stem}")
    here = MachineSettings.model_validate({"threads": arguments.threads})
    release = anybody.files(arguments.gguf, arguments.parent, suite, arguments.system, settings, here, out, arguments.seed, Terminal())
    _out(arguments, {"suite": suite.name, "folder": str(out), **asdict(release)}, anybody.release_told(release, out))
    return 0 if release.recommended else RefusedError.exit_code


def _told(walked: "Run") -> str:
    lines = [] if walked.changed else ["nothing has changed: every step is done already"]
    if walked.release:
        lines += [f"  {f.quantisation:7} {f.bytes / 1e6:6.0f} MB  {f.verdict:20} {f.reasons[0]}" for f in walked.release.files]
        if walked.release.recommended:
            lines += [f"recommended: {walked.release.recommended}", f"chat:   lorikeet chat {walked.directory}", f"serve:  lorikeet serve {walked.directory}"]
    lines.append(f"report: {walked.directory / 'report.html'}")
    return "\n".join(lines)


def _plan(arguments: argparse.Namespace) -> int:
    from lorikeet import bases, pipeline
    from lorikeet.progress import Terminal

    recipe, directory = _load(arguments)
    planned = pipeline.plan(recipe, bases.prepare(recipe.recipe.base, Terminal()), directory)
    _out(arguments, {"run_dir": str(directory), "steps": planned}, "\n".join(map(_planned, planned)))
    return 0


def _planned(step: "dict[str, Json]") -> str:
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


def _init(arguments: argparse.Namespace) -> int:
    import shutil

    from lorikeet.recipe import NAME

    source, target = bundled(arguments.like), Path(arguments.name)
    if not re.fullmatch(NAME, target.name):
        raise RecipeError(f"{target.name!r} cannot be an assistant's name", "use lower-case letters, digits and hyphens, such as my-assistant")
    if target.exists():
        raise RecipeError(f"{target} exists already", "choose another name, or remove the folder")
    try:
        shutil.copytree(source, target)
    except OSError as error:
        raise RecipeError(f"{target} cannot be made: {error.strerror or error}", "choose a folder that you may write to") from error
    recipe = target / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8").replace(f"\nname: {source.name}\n", f"\nname: {target.name}\n", 1)
    recipe.write_text(text, encoding="utf-8")
    _out(arguments, {"folder": str(target), "recipe": str(recipe)}, f"{target}: edit data/, suite.yaml and persona.yaml, then run: lorikeet run {recipe}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from lorikeet.data import fix, inspect
    from lorikeet.progress import Terminal

    recipes = [Path(name) for name in arguments.what if Path(name).suffix in (".yaml", ".yml")]
    if recipes and len(arguments.what) > 1:
        raise RecipeError(f"{recipes[0]} is a recipe, which names its own files of rows", "check one recipe at a time, or files of rows alone")
    if recipes and (arguments.base or arguments.rows):
        raise RecipeError("--base and --rows are for files of rows", "the recipe names its own: base, data.rows")
    if arguments.show and not recipes and not arguments.base:
        raise RecipeError("--show needs the base whose chat template is used", "run: lorikeet check FILE --show N --base smollm2-135m; or check a recipe")
    if recipes:
        inspection = inspect.recipe(recipes[0], Terminal(), arguments.show)
    else:
        inspection = inspect.files(arguments.what, Terminal(), arguments.base or "", arguments.rows, arguments.show)
    text, document = inspect.told(inspection), inspection.document()
    refused, errors = inspection.refused, inspection.errors
    if arguments.fix and (usable := inspection.usable(Terminal())):
        fixed = fix.fix(inspection.files, usable, inspection.long, arguments.fix, Terminal())
        text, document = f"{text}\n{fix.told(fixed)}", {**document, "fixed": fixed.document()}
        refused, errors = 0, fixed.errors
    _out(arguments, document, text)
    if refused or errors:
        raise RefusedError(
            f"rows refused: {refused}, errors: {errors}; this must not be trained on", "mend what is listed above, or let --fix FOLDER write a cleaned copy"
        )
    if not any(file.read for file in inspection.files):
        raise RefusedError("there is no row to train on", "add rows: one JSON object a line")
    return 0


def _bases(arguments: argparse.Namespace) -> int:
    from lorikeet import bases

    rows = bases.listed()
    lines = [f"{r['name']:14} {r['parameters'] / 1e6:5.0f}M  {r['licence']:12} {r['from']:28} {r['here']:14} {r['tuning']}" for r in rows]
    _out(arguments, {"bases": rows}, "\n".join(lines) + "\nalso: a .gguf file, a folder with safetensors, or a Hub id (owner/name[@revision])")
    return 0


def _chat(arguments: argparse.Namespace) -> int:
    from lorikeet import machine, released
    from lorikeet.terminal_chat import chat

    served = released.find(arguments.target, arguments.unreleased, arguments.quantisation)
    released.record_override(served, "chat")
    chat(served, machine.threads(arguments.threads), _guard(arguments, served))
    return 0


def _guard(arguments: argparse.Namespace, served: "Served") -> "Guard | None":
    """The suite that answers pass before they are shown, and where what is stopped is logged; None without --guard."""
    from lorikeet.engine.guarded import Guard
    from lorikeet.suite import Suite, load_suite, suite_file
    from lorikeet.yaml_file import read_model

    if arguments.guard is None:
        return None
    log = (served.run_dir or Path()) / "guard.jsonl"
    if arguments.guard:
        return Guard(load_suite(suite_file(arguments.guard)), served.safe_reply, log)
    if served.suite is None:
        raise RecipeError(f"{served.path} has no suite of its own to guard it by", "name one: --guard FILE, or --guard first-aid")
    return Guard(read_model(served.suite, Suite), served.safe_reply, log)


def _serve(arguments: argparse.Namespace) -> int:
    from contextlib import nullcontext

    from lorikeet import machine, released, supervisor
    from lorikeet.journal import Journal
    from lorikeet.progress import Terminal

    targets = arguments.targets or released.approved_runs(Path("runs"))
    served = [one for target in targets for one in released.offered(target, arguments.unreleased, arguments.quantisation)]
    for one in served:
        released.record_override(one, "serve")
    folders = {one.name: released.feedback_folder(one) for one in served}
    if len(set(folders.values())) > 1 and arguments.sync:
        raise RecipeError("--sync is for one run, and several are served", "name one run, and serve the others on ports of their own")
    guards, progress, folder = [_guard(arguments, one) for one in served], Terminal(), folders[served[0].name]

    def work() -> int:
        from lorikeet.feedback.sync import Sync
        from lorikeet.serve.app import Room, serve

        room = Room(machine.threads(arguments.threads), arguments.slots, arguments.context)
        journals = {place: Journal(place) for place in set(folders.values())}
        record = None if arguments.no_feedback else lambda rating: journals[folders[rating.model_name]].record(rating)
        with Sync(folder, arguments.sync, progress=progress) if arguments.sync else nullcontext():
            serve(served, arguments.host, arguments.port, arguments.key, room, progress, guards, record, is_open=arguments.open)
        return 0

    return supervisor.kept_alive(work, progress)


def _diagnose(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lorikeet import diagnosis

    log = diagnosis.read_log(arguments.log)
    findings = diagnosis.diagnose(log)
    advised = [(f, diagnosis.remedies(log, f)) for f in findings]
    text = diagnosis.told(log, findings)
    if (arguments.log / "run.json").is_file() and any(remedies for _, remedies in advised):
        text += f"\ntry: lorikeet rerun {arguments.log}"
    found = [{**asdict(f), "remedies": [asdict(r) for r in remedies]} for f, remedies in advised]
    _out(arguments, {"steps": len(log.loss), "findings": found}, text)
    if any(f.severity == "error" for f in findings):
        raise RefusedError("the run cannot be judged, or taught nothing", findings[0].cure)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
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
    _out(arguments, compare.document(found), compare.told(found))
    return 0


def _parity(arguments: argparse.Namespace) -> int:
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
    _out(arguments, asdict(found), parity.told(found, gguf.path))
    return RefusedError.exit_code if found.causes else 0


def _diff(arguments: argparse.Namespace) -> int:
    from lorikeet import diff

    found = diff.diff(*arguments.runs)
    _out(arguments, found.document(), diff.told(found, *map(str, arguments.runs)))
    return 0


def _rerun(arguments: argparse.Namespace) -> int:
    from lorikeet import diff, pipeline, rerun
    from lorikeet.progress import Silent, Terminal

    progress = Silent() if processes.rank() else Terminal()
    again = rerun.plan(arguments.run, arguments.change, arguments.out, progress)
    progress.say(f"{again.directory}: {again.change}" + (f", since {again.why}" if again.why else ""))
    walked = pipeline.run(again.recipe, again.directory, progress, again.until)
    if processes.rank():
        return 0
    found, losses = diff.diff(arguments.run, again.directory), rerun.held_out(arguments.run, again.directory)
    text = diff.told(found, str(arguments.run), str(again.directory))
    if losses:
        text = f"held-out loss at its best: {losses[0]:.4g} -> {losses[1]:.4g}\n{text}"
    run = pipeline.document(walked, again.recipe)
    _out(arguments, {"change": again.change, "why": again.why, "held_out": losses, "run": run, "diff": found.document()}, text)
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lorikeet import sweep
    from lorikeet.progress import Terminal

    recipe, _ = _load(arguments)
    planned = sweep.design(arguments.recipe, arguments.vary, arguments.set, grid=arguments.grid, together=arguments.together)
    out = arguments.out or Path("runs") / f"{recipe.recipe.name}-sweep"
    arms, verdicts = sweep.run(arguments.recipe, planned, arguments.seeds, arguments.set, out, Terminal())
    found = {**sweep.told_as_json(planned, verdicts), "findings": [asdict(f) for f in sweep.findings(planned, arms, verdicts)], "folder": str(out)}
    _out(arguments, found, sweep.told(planned, arms, verdicts, out))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from lorikeet import report

    if not (arguments.run / "run.json").is_file():
        raise RecipeError(f"{arguments.run} is not a run folder: it has no run.json", "name a folder made by `lorikeet run`, such as runs/first-aid")
    path = report.write(arguments.run)
    _out(arguments, {"report": str(path)}, f"report: {path}")
    return 0


def _feedback(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lorikeet import released
    from lorikeet.feedback import ratings, stage

    if arguments.review:
        return _review(arguments)
    place = released.ratings_of(arguments.run)
    read = ratings.read(place)
    if arguments.released:
        approved = {served.sha256 for served in released.offered(arguments.run, unreleased=False)}
        read = read._replace(ratings=stage.of_files(read.ratings, approved))
    document = {"ratings": str(place), "skipped": [s._asdict() for s in read.skipped], **stage.summary(read.ratings)}
    text = stage.told(read)
    if arguments.show:
        only: stage.Only = "" if arguments.show == "all" else arguments.show
        text = stage.browse(read.ratings, only) or "no such rating"
        document["shown"] = [asdict(rating) for rating in stage.chosen(read.ratings, only)]
    if arguments.export:
        exported = stage.export(read.ratings, arguments.export)
        document["exported"] = {"file": str(arguments.export), **exported._asdict()}
        text += f"\n{arguments.export}: {exported.rows} rows" + (f"; {len(exported.left_out)} ratings have an empty turn" if exported.left_out else "")
    _out(arguments, document, text)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lorikeet import doctor

    checks = doctor.examine(Path.cwd())
    _out(arguments, {"checks": [asdict(check) for check in checks]}, doctor.told(checks))
    return RefusedError.exit_code if any(check.severity == "missing" for check in checks) else 0


def _tidy(arguments: argparse.Namespace) -> int:
    from lorikeet import tidy

    found = tidy.remove(arguments.run) if arguments.remove else tidy.leftovers(arguments.run)
    folders = [{"folder": str(left.folder), "bytes": left.bytes, "why": left.why} for left in found]
    _out(arguments, {"removed": arguments.remove, "folders": folders}, tidy.told(found, gone=arguments.remove))
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from lorikeet.progress import Terminal
    from lorikeet.publish import stage

    wanted = stage.Wanted(arguments.to or "", arguments.quantisation, arguments.data or "", arguments.space or "", arguments.feedback,
                          arguments.data_licence, arguments.base_licence, arguments.about, merged=arguments.merged)  # fmt: skip
    if arguments.check:
        problems = stage.check(arguments.run, wanted, arguments.check)
        _out(arguments, {"problems": problems}, "\n".join(problems) or "every figure is the evidence's")
        return RefusedError.exit_code if problems else 0
    planned = stage.plan(arguments.run, wanted)
    if arguments.dry_run:
        _out(arguments, planned.document(), planned.told())
    elif arguments.folder:
        stage.write(planned, arguments.folder)
        _out(arguments, planned.document(), f"{arguments.folder}: see README.md")
    else:
        pushed = stage.push(planned, Terminal(), private=arguments.private)
        _out(arguments, {"pushed": pushed, **planned.document()}, "\n".join(f"{name}: {url}" for name, url in pushed.items()))
    return 0


def _review(arguments: argparse.Namespace) -> int:
    from lorikeet.progress import Terminal
    from lorikeet.released import ratings_of
    from lorikeet.retrain.review import Review
    from lorikeet.retrain.review_page import page
    from lorikeet.retrain.round import sifted
    from lorikeet.serve.app import serve_page

    found = sifted(arguments.run, Terminal())
    blocks = page(found.aside, lambda: len(sifted(arguments.run, Terminal()).accepted), Review(ratings_of(arguments.run)))
    serve_page(blocks, arguments.port, Terminal())
    return 0


def _retrain(arguments: argparse.Namespace) -> int:
    from lorikeet.progress import Terminal
    from lorikeet.retrain import round as one_round

    if arguments.sift:
        found = one_round.sifted(arguments.run, Terminal())
        aside = [{"id": one.rating.id, "code": one.code, "why": one.why} for one in found.aside]
        _out(arguments, {"accepted": [rating.id for rating in found.accepted], "aside": aside}, one_round.sifted_told(found))
        return 0
    prepared = one_round.prepare(arguments.run, arguments.set, Terminal())
    verdict = one_round.run(prepared, Terminal())
    document = {"promoted": verdict.promoted, "reasons": verdict.reasons, "compared": verdict.compared, "folder": str(prepared.folder), **prepared.counts}
    _out(arguments, document, one_round.told(prepared, verdict))
    return 0 if verdict.promoted else RefusedError.exit_code


COMMANDS: dict[str, Command] = {
    **dict.fromkeys(("run", "data", "train", "evaluate", "export"), _run),
    **{"demo": _demo, "init": _init, "check": _check, "bases": _bases, "plan": _plan, "audit": _audit, "chat": _chat, "serve": _serve},
    **{"diagnose": _diagnose, "parity": _parity, "compare": _compare, "diff": _diff, "rerun": _rerun, "sweep": _sweep, "report": _report},
    **{"feedback": _feedback, "retrain": _retrain, "publish": _publish, "doctor": _doctor, "tidy": _tidy},
}

if __name__ == "__main__":
    sys.exit(main())
