"""The commands, a module a group: each takes its arguments, calls the package and tells what came of it. Nothing heavy is imported at once."""

import argparse
import json


def tell(arguments: argparse.Namespace, document: object, text: str) -> None:
    """Tell what came of a command: the text, or with --json the document."""
    arguments.written = True
    print(json.dumps(document, ensure_ascii=False) if arguments.json else text)
