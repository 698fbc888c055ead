"""Once more: with one thing changed, with several, and from what people said."""

import argparse
from pathlib import Path

from lorikeet import processes
from lorikeet.commands import tell
from lorikeet.commands.running import crew_of, load
from lorikeet.errors import RecipeError, RefusedError


def rerun(arguments: argparse.Namespace) -> int:
    """`lorikeet rerun`."""
    from lorikeet import diff, pipeline, rerun
    from lorikeet.progress import Silent, Terminal

    progress = Silent() if processes.rank() else Terminal()
    again = rerun.plan(arguments.run, arguments.change, arguments.out, progress)
    progress.say(f"{again.directory}: {again.change}" + (f", since {again.why}" if again.why else ""))
    with crew_of(arguments, again.recipe) as crew:
        walked = pipeline.run(again.recipe, again.directory, progress, again.until, crew)
    if processes.rank():
        return 0
    found, losses = diff.diff(arguments.run, again.directory), rerun.held_out(arguments.run, again.directory)
    text = diff.told(found, str(arguments.run), str(again.directory))
    if losses:
        text = f"held-out loss at its best: {losses[0]:.4g} -> {losses[1]:.4g}\n{text}"
    run = pipeline.document(walked, again.recipe)
    tell(arguments, {"change": again.change, "why": again.why, "held_out": losses, "run": run, "diff": found.document()}, text)
    return 0


def sweep(arguments: argparse.Namespace) -> int:
    """`lorikeet sweep`."""
    from dataclasses import asdict

    from lorikeet import search, sweep
    from lorikeet.progress import Terminal

    if processes.world() > 1:
        raise RecipeError("torchrun starts processes for one training, and a sweep has many", "write --on ray to have them side by side")
    recipe, _ = load(arguments)
    out = arguments.out or Path("runs") / f"{recipe.recipe.name}-sweep"
    path, sets = arguments.recipe, arguments.set
    if arguments.search:
        if arguments.grid or arguments.together:
            raise RecipeError("--search makes its own combinations", "leave --grid and --together out")
        where = search.rooms(path, arguments.vary, sets)
        with crew_of(arguments, recipe) as crew:
            planned, arms, verdicts = search.run(path, where, arguments.search, arguments.seeds, sets, out, Terminal(), crew)
    else:
        planned = sweep.design(path, arguments.vary, sets, grid=arguments.grid, together=arguments.together)
        with crew_of(arguments, recipe) as crew:
            arms, verdicts = sweep.run(path, planned, arguments.seeds, sets, out, Terminal(), crew)
    found = {**sweep.told_as_json(planned, verdicts), "findings": [asdict(f) for f in sweep.findings(planned, arms, verdicts)], "folder": str(out)}
    tell(arguments, found, sweep.told(planned, arms, verdicts, out))
    return 0


def feedback(arguments: argparse.Namespace) -> int:
    """`lorikeet feedback`."""
    from dataclasses import asdict

    from lorikeet import released
    from lorikeet.feedback import ratings, stage

    if arguments.review:
        return review(arguments)
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
    tell(arguments, document, text)
    return 0


def review(arguments: argparse.Namespace) -> int:
    """`lorikeet feedback --review`."""
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


def retrain(arguments: argparse.Namespace) -> int:
    """`lorikeet retrain`."""
    from lorikeet.progress import Terminal
    from lorikeet.retrain import round as one_round

    if arguments.sift:
        found = one_round.sifted(arguments.run, Terminal())
        aside = [{"id": one.rating.id, "code": one.code, "why": one.why} for one in found.aside]
        tell(arguments, {"accepted": [rating.id for rating in found.accepted], "aside": aside}, one_round.sifted_told(found))
        return 0
    prepared = one_round.prepare(arguments.run, arguments.set, Terminal())
    with crew_of(arguments, prepared.recipe) as crew:
        verdict = one_round.run(prepared, Terminal(), crew)
    document = {"promoted": verdict.promoted, "reasons": verdict.reasons, "compared": verdict.compared, "folder": str(prepared.folder), **prepared.counts}
    tell(arguments, document, one_round.told(prepared, verdict))
    return 0 if verdict.promoted else RefusedError.exit_code
