"""The command line: reads arguments, calls the package, turns errors into one line what and one line the cure.

Nothing heavy is imported here; each command imports what it needs, so that --help is instant.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from lorikeet import processes, storage
from lorikeet.arguments import Command, parser
from lorikeet.commands import again, beginning, examining, running, serving
from lorikeet.errors import LorikeetError

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
            _bring(arguments)
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


READ = ("run", "runs", "target", "targets", "log")
"""Arguments that name a run to be read, of which what is finished is brought here where it lies elsewhere."""


def _bring(arguments: argparse.Namespace) -> None:
    for name in READ:
        value = vars(arguments).get(name)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path):
                storage.brought(path)


def _version() -> str:
    from lorikeet import __version__

    return f"lorikeet {__version__}"


COMMANDS: dict[str, Command] = {
    **dict.fromkeys(("run", "data", "train", "evaluate", "export"), running.run),
    **{
        "demo": running.demo,
        "init": beginning.init,
        "check": beginning.check,
        "bases": beginning.bases,
        "plan": running.plan,
        "audit": running.audit,
        "chat": serving.chat,
        "serve": serving.serve,
    },
    **{
        "diagnose": examining.diagnose,
        "parity": examining.parity,
        "compare": examining.compare,
        "diff": examining.diff,
        "rerun": again.rerun,
        "sweep": again.sweep,
        "report": examining.report,
    },
    **{"feedback": again.feedback, "retrain": again.retrain, "publish": serving.publish, "doctor": beginning.doctor, "tidy": running.tidy},
}

if __name__ == "__main__":
    sys.exit(main())
