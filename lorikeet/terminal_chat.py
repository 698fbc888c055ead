"""A chat in the terminal, or through a pipe: a question a line, each answer as it is written. Greedy, as it was audited."""

import contextlib
import sys

from lorikeet.conversation import Message, system_turn
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.endpoint import endpoint
from lorikeet.engine.endpoint_voice import EndpointVoice
from lorikeet.engine.guarded import Guard, GuardedServer
from lorikeet.engine.server import LlamaServer
from lorikeet.errors import ModelError, RecipeError
from lorikeet.released import Served

ANSWER_TOKENS = 512
Talking = LlamaServer | EndpointVoice | GuardedServer
_RED, _DIM, _PLAIN = "\x1b[1;37;41m", "\x1b[2m", "\x1b[0m"


def chat(served: Served, threads: int, guard: Guard | None = None) -> None:
    """Talk until /quit, Ctrl-D or Ctrl-C at the prompt, or the end of the piped questions.

    /reset forgets what was said; /mode NAME changes the persona's mode. guard: rules that answers pass before they are shown.
    """
    server = EndpointVoice(endpoint(served.address)) if served.address else LlamaServer(served.path, threads, slots=1)
    engine = GuardedServer(server, guard) if guard else server
    try:
        talk(served, engine)
    finally:
        engine.close()
        if isinstance(engine, GuardedServer) and engine.fired:
            print(f"{engine.fired} answers were stopped; see {guard.log if guard else ''}", file=sys.stderr)


def talk(served: Served, engine: Talking) -> None:
    """The chat itself. Answers go to standard output, everything else there too only where somebody is typing."""
    typing = sys.stdin.isatty()
    _greet(served, typing)
    opening = system_turn(served.prompt())
    said: Prompt = opening
    while (question := _read(typing)) is not None:
        if question == "/quit":
            break
        if question == "/reset":
            said = opening
            _tell("forgotten", typing)
        elif question.partition(" ")[0] == "/mode":
            try:
                said = opening = system_turn(served.prompt(question.partition(" ")[2].strip()))
            except RecipeError as error:
                print(f"{error.message}; {error.cure}", file=sys.stderr)
        elif question:
            said = _turn(engine, opening if served.single_turn else said, question, typing)


def _turn(engine: Talking, said: Prompt, question: str, typing: bool) -> Prompt:
    """One question answered; returns what has been said so far. An answer that was stopped counts as far as it went."""
    prompt: Prompt = [*said, Message("user", question)]
    answer, ended = "", "\n"
    try:
        prompt = engine.fitting(prompt, ANSWER_TOKENS)
        if len(prompt) < len(said) + 1:
            _tell("(the oldest turns no longer fit and were left out)", typing)
        with contextlib.closing(engine.stream(prompt, Sampling(max_tokens=ANSWER_TOKENS))) as pieces:
            for piece in pieces:
                answer += piece
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        ended = " [stopped]\n"
    except ModelError as error:
        print(f"{error.message}; {error.cure}", file=sys.stderr)
        return said
    print(end=ended, flush=True)
    return [*prompt, Message("assistant", answer)] if answer else said


def _read(typing: bool) -> str | None:
    """The next line, or None where there is none. `input` gives line editing; nothing is kept in a history file."""
    try:
        if typing:
            return input("> ").strip()
        line = sys.stdin.readline()
        return line.strip() if line else None
    except (EOFError, KeyboardInterrupt):
        print()
        return None


def _greet(served: Served, typing: bool) -> None:
    """The banner goes to standard error in any case, so that a pipe cannot lose it."""
    if not served.approved:
        warning = f"NOT RELEASED: {'; '.join(served.reasons)}. Do not rely on its answers."
        print(f"{_RED} {warning} {_PLAIN}" if sys.stderr.isatty() else warning, file=sys.stderr, flush=True)
    if not typing:
        return
    print(served.title)
    for line in (served.notice, served.greeting):
        if line:
            print(line)
    how = "each question is answered by itself, " if served.single_turn else "/reset forgets, "
    if served.modes:
        how += f"/mode {'|'.join(name for name, _ in served.modes)}, "
    print(f"{_DIM}{served.path.name}, {served.verdict}; {how}/quit leaves, Ctrl-C stops an answer{_PLAIN}")
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  arrow keys at the prompt, where the platform has it


def _tell(line: str, typing: bool) -> None:
    if typing:
        print(f"{_DIM}{line}{_PLAIN}")
