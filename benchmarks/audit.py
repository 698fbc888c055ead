"""What examining quantised files costs: seven files of the default base, 150 probes of up to 120 tokens each, greedy, against the engine's own speed.

The engine's own: llama.cpp reading as many tokens of prompts in full batches, and writing as many with all its slots full, and nothing else: no
choice of tokens, no judging, no slot that waits for the last answer. `ratio` is the time that this takes to the time that the audit took, file by file in
turn; 1 would be slots that are always full. `written_ratio` counts the written tokens alone, as if prompts read themselves. What all prompts begin with is read
once a file. Answers run longer than a tuned model's, since the base was not tuned.

    .venv/bin/python benchmarks/audit.py [--slots 16] [--quick] [--json]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from base_gguf import base_files

QUANTISATIONS = ("Q8_0", "Q4_K_M", "Q4_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
SYSTEM = "You help in emergencies. Answer in a few plain sentences: what to do first, what never to do, and when to call for help."


def own_speeds(path: Path, threads: int, slots: int, tokens: int, prompt: int, behind: int) -> tuple[float, float]:
    """Tokens a second of llama.cpp alone: reading prompts of `prompt` tokens in full batches, and writing `tokens` in each of `slots` sequences behind them.

    behind: tokens that each sequence holds already, which all prompts begin with.
    """
    from lorikeet.engine.llamacpp import BATCH_TOKENS, LlamaCppEngine

    engine = LlamaCppEngine(path, threads, slots)
    engine._open(slots, behind + prompt + tokens)
    for slot in range(slots):
        engine._clear(slot)
        engine._read([(100 + n % 1000, n, slot, False) for n in range(behind)])
    entries = [(150 + n % 1000, behind + n, slot, n == prompt - 1) for slot in range(slots) for n in range(prompt)]
    begun = time.monotonic()
    for first in range(0, len(entries), BATCH_TOKENS):
        engine._decode(entries[first : first + BATCH_TOKENS])
    read = len(entries) / (time.monotonic() - begun)
    begun = time.monotonic()
    for step in range(tokens):
        engine._decode([(200 + (step + slot) % 1000, behind + prompt + step, slot, True) for slot in range(slots)])
    written = slots * tokens / (time.monotonic() - begun)
    engine.close()
    return read, written


def audit_once(path: Path, threads: int, slots: int, probes: int, tokens: int, parent: dict[str, str]) -> dict[str, float]:
    """An audit's answers to the suite that ships: seconds, tokens written, tokens of prompts behind what they share, and how many they share.

    parent: the first file's replies, filled in by its own audit.
    """
    from lorikeet.audit.examine import Asked, examine, greedy
    from lorikeet.engine import shared_beginning
    from lorikeet.engine.llamacpp import LlamaCppEngine
    from lorikeet.exam import as_question, evenly
    from lorikeet.progress import Silent
    from lorikeet.suite import bundled_suites, load_suite

    suite = load_suite(bundled_suites()["first-aid"])
    questions = [as_question(probe, SYSTEM) for probe in evenly(suite.probes, probes)]
    engine = LlamaCppEngine(path, threads, slots)
    begun = time.monotonic()
    answers = examine(engine, path.stem, Asked(suite, questions, tokens, seed=7), parent, Silent())
    seconds = time.monotonic() - begun
    parent.update({} if parent else greedy(answers))
    prompts = [engine.tokenize(engine.prompt_text(q.messages)) for q in questions]
    shared = shared_beginning(prompts)
    engine.close()
    return {"seconds": seconds, "written": sum(a.tokens for a in answers), "read": sum(len(p) - shared for p in prompts), "shared": shared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="one file, a few probes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    from lorikeet import machine

    threads, probes, tokens = machine.threads(0), 12 if arguments.quick else 150, 24 if arguments.quick else 120
    samples: list[dict[str, Any]] = []
    parent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        files = base_files(Path(place), QUANTISATIONS)
        for path in files[: 1 if arguments.quick else None]:
            found = audit_once(path, threads, arguments.slots, probes, tokens, parent)
            read, written = own_speeds(path, threads, arguments.slots, tokens, round(found["read"] / probes), round(found["shared"]))
            ideal = found["read"] / read + found["written"] / written
            ratios = {"ratio": round(ideal / found["seconds"], 3), "written_ratio": round(found["written"] / written / found["seconds"], 3)}
            samples.append({"file": path.stem, **found, "own_read": round(read, 1), "own_written": round(written, 1), **ratios})
            print(samples[-1], file=sys.stderr)
    result = {
        "ratio": statistics.median(s["ratio"] for s in samples),
        "written_ratio": statistics.median(s["written_ratio"] for s in samples),
        "minutes": round(sum(s["seconds"] for s in samples) / 60, 2),
        "probes": probes,
        "max_new_tokens": tokens,
        "slots": arguments.slots,
        "peer": "llama.cpp reading in full batches and writing with its slots full",
        "samples": samples,
        "versions": {name: version(name) for name in ("xllamacpp", "cyllama", "numpy")},
    }
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
