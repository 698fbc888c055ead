"""The README's commands exist, and its size is one screen."""

import re
from pathlib import Path

import pytest

from lorikeet.arguments import parser
from lorikeet.cli import COMMANDS as KNOWN

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(?:\.venv/bin/)?lorikeet (.+?)(?:\s+#.*)?$", README, re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_understood(command: str) -> None:
    assert parser(KNOWN, "").parse_args(command.split()).command


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in re.findall(r"make (\w+)", README))


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) <= 70
