"""Talking to what was released, and bringing it out of the door."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lorikeet.commands import tell
from lorikeet.errors import RecipeError, RefusedError

if TYPE_CHECKING:
    from lorikeet.engine.guarded import Guard
    from lorikeet.released import Served


def chat(arguments: argparse.Namespace) -> int:
    """`lorikeet chat`."""
    from lorikeet import machine, released
    from lorikeet.terminal_chat import chat

    if arguments.endpoint:
        served = released.behind(arguments.target, arguments.endpoint, arguments.unreleased)
    else:
        served = released.find(arguments.target, arguments.unreleased, arguments.quantisation)
    released.record_override(served, "chat")
    chat(served, machine.threads(arguments.threads), guard_of(arguments, served))
    return 0


def guard_of(arguments: argparse.Namespace, served: "Served") -> "Guard | None":
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


def serve(arguments: argparse.Namespace) -> int:
    """`lorikeet serve`."""
    from contextlib import nullcontext

    from lorikeet import machine, released, supervisor
    from lorikeet.journal import Journal
    from lorikeet.progress import Terminal

    targets = arguments.targets or released.approved_runs(Path("runs"))
    if arguments.endpoint and len(targets) != 1:
        raise RecipeError("--endpoint answers as one run's assistant", "name one run")
    if arguments.endpoint:
        served = [released.behind(targets[0], arguments.endpoint, arguments.unreleased)]
    else:
        served = [one for target in targets for one in released.offered(target, arguments.unreleased, arguments.quantisation)]
    for one in served:
        released.record_override(one, "serve")
    folders = {one.name: released.feedback_folder(one) for one in served}
    places = list(dict.fromkeys(folders.values()))
    guards, progress = [guard_of(arguments, one) for one in served], Terminal()

    def work() -> int:
        from lorikeet.feedback.sync import Sync
        from lorikeet.serve.app import Room, serve

        room = Room(machine.threads(arguments.threads), arguments.slots, arguments.context)
        journals = {place: Journal(place) for place in places}
        record = None if arguments.no_feedback else lambda rating: journals[folders[rating.model_name]].record(rating)
        with Sync(places, arguments.sync, progress=progress) if arguments.sync else nullcontext():
            serve(served, arguments.host, arguments.port, arguments.key, room, progress, guards, record, is_open=arguments.open)
        return 0

    return supervisor.kept_alive(work, progress)


def publish(arguments: argparse.Namespace) -> int:
    """`lorikeet publish`."""
    from lorikeet.progress import Terminal
    from lorikeet.publish import stage

    wanted = stage.Wanted(arguments.to or "", arguments.quantisation, arguments.data or "", arguments.space or "", arguments.feedback,
                          arguments.data_licence, arguments.base_licence, arguments.about, merged=arguments.merged)  # fmt: skip
    if arguments.check:
        problems = stage.check(arguments.run, wanted, arguments.check)
        tell(arguments, {"problems": problems}, "\n".join(problems) or "every figure is the evidence's")
        return RefusedError.exit_code if problems else 0
    planned = stage.plan(arguments.run, wanted)
    if arguments.dry_run:
        tell(arguments, planned.document(), planned.told())
    elif arguments.folder:
        stage.write(planned, arguments.folder)
        tell(arguments, planned.document(), f"{arguments.folder}: see README.md")
    else:
        pushed = stage.push(planned, Terminal(), private=arguments.private)
        tell(arguments, {"pushed": pushed, **planned.document()}, "\n".join(f"{name}: {url}" for name, url in pushed.items()))
    return 0
