"""What examining quantised files costs: seven files of the default base, 150 probes of up to 120 tokens each, greedy, against the engine's own speed.

The engine's own: llama.cpp decoding as many sequences at a time as the audit has slots, all of them full, and nothing else: no prompts, no choice of tokens, no
judging. `ratio` is the audit's tokens a second, written answers over all the time it took, to that, file by file in turn; 1 would be an audit that costs
nothing but the answers. Shared system prompts are read once a file. Smaller answers cost less; these run to their cap, since the base was not tuned.

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


def own_speed(path: Path, threads: int, slots: int, tokens: int, depth: int) -> float:
    """Tokens a second of llama.cpp alone: `slots` sequences, each `tokens` long behind `depth` tokens that were read before."""
    from lorikeet.engine.llamacpp import LlamaCppEngine

    engine = LlamaCppEngine(path, threads, slots)
    engine._open(slots, depth + tokens)
    for slot in range(slots):
        engine._clear(slot)
        engine._read([(100 + n % 1000, n, slot, False) for n in range(depth)])
    begun = time.monotonic()
    for step in range(tokens):
        engine._decode([(200 + (step + slot) % 1000, depth + step, slot, True) for slot in range(slots)])
    seconds = time.monotonic() - begun
    engine.close()
    return slots * tokens / seconds


def audit_speed(path: Path, threads: int, slots: int, probes: int, tokens: int) -> tuple[float, float, float]:
    """An audit's answers to the suite that ships: tokens a second, seconds, mean length of what a probe's answer stands behind."""
    from lorikeet.audit.examine import Asked, examine
    from lorikeet.engine.llamacpp import LlamaCppEngine
    from lorikeet.exam import as_question, evenly
    from lorikeet.progress import Silent
    from lorikeet.suite import bundled_suites, load_suite

    suite = load_suite(bundled_suites()["first-aid"])
    questions = [as_question(probe, SYSTEM) for probe in evenly(suite.probes, probes)]
    engine = LlamaCppEngine(path, threads, slots)
    begun = time.monotonic()
    answers = examine(engine, path.stem, Asked(suite, questions, tokens, seed=7), {}, Silent())
    seconds = time.monotonic() - begun
    behind = statistics.mean(len(engine.tokenize(engine.prompt_text(q.messages))) for q in questions)
    engine.close()
    return sum(a.tokens for a in answers) / seconds, seconds, behind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="one file, a few probes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    from lorikeet import machine

    threads, probes, tokens = machine.threads(0), 12 if arguments.quick else 150, 24 if arguments.quick else 120
    samples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        files = base_files(Path(place), QUANTISATIONS)
        for path in files[: 1 if arguments.quick else None]:
            ours, seconds, behind = audit_speed(path, threads, arguments.slots, probes, tokens)
            own = own_speed(path, threads, arguments.slots, tokens, round(behind))
            samples.append(
                {"file": path.stem, "seconds": round(seconds, 1), "tokens_a_second": round(ours, 1), "own": round(own, 1), "ratio": round(ours / own, 3)}
            )
            print(samples[-1], file=sys.stderr)
    result = {
        "ratio": statistics.median(s["ratio"] for s in samples),
        "minutes": round(sum(s["seconds"] for s in samples) / 60, 2),
        "probes": probes,
        "max_new_tokens": tokens,
        "slots": arguments.slots,
        "peer": "llama.cpp decoding with its slots full",
        "samples": samples,
        "versions": {name: version(name) for name in ("xllamacpp", "cyllama", "numpy")},
    }
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
