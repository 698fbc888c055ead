"""Reading and writing of an exam: log-likelihoods of ARC questions against lm-eval's own `hf` model, and answers to a suite against one at a time.

Both sides of the first take the same prompts from lm-eval and run in fp32; lm-eval's batch size is the fastest of several, tried on the first questions. Each
run is a process of its own, in turn; ratios are of the medians. The second is llama.cpp's engine over the default base as Q8_0, with many slots and with one.

    .venv/bin/python benchmarks/evaluate.py --arc FILE [--questions 500] [--probes 200] [--repeats 3] [--quick] [--json]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from base_gguf import base_files

SUITE = Path(__file__).parent.parent / "recipes" / "first-aid"
BATCHES = (1, 4, 16, 64)
WRITTEN, SLOTS = 64, 16


def _base() -> Any:
    from lorikeet import bases
    from lorikeet.progress import Silent

    return bases.prepare("smollm2-135m", Silent())


def _asked(arc: Path, questions: int) -> Any:
    from lorikeet.evaluate import benchmarks

    return benchmarks.load({"arc_challenge": arc}, questions, {})[0]


def _weighed(model: Any, benchmark: Any) -> dict[str, Any]:
    """Seconds that lm-eval takes with a model, the log-likelihood of every choice, and the accuracy."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager()  # both sides have one already
    name, begun = benchmark.task.config.task, time.perf_counter()
    found = simple_evaluate(model, tasks=[benchmark.task], samples={name: benchmark.asked}, bootstrap_iters=0, log_samples=True, task_manager=manager)
    seconds = time.perf_counter() - begun
    samples = sorted(found["samples"][name], key=lambda s: s["doc_id"])
    return {"seconds": seconds, "nats": [[float(r[0]) for r in s["filtered_resps"]] for s in samples], "right": [s["acc"] for s in samples]}


def ours(arc: Path, questions: int, batch: int) -> dict[str, Any]:
    from lorikeet import machine
    from lorikeet.engine.torch_engine import TorchEngine
    from lorikeet.evaluate.benchmarks import Asked

    benchmark = _asked(arc, questions)
    return _weighed(Asked(TorchEngine(_base().path, None, machine.threads(0)), lambda done, total: None), benchmark)


def peer(arc: Path, questions: int, batch: int) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    benchmark = _asked(arc, questions)
    return _weighed(HFLM(pretrained=str(_base().path), dtype="float32", device="cpu", batch_size=batch), benchmark)


def _written(slots: int, file: Path, probes: int) -> dict[str, Any]:
    from lorikeet import machine
    from lorikeet.engine import Sampling
    from lorikeet.engine.llamacpp import LlamaCppEngine
    from lorikeet.exam import as_question, evenly
    from lorikeet.suite import load_persona, load_suite

    persona = load_persona(SUITE / "persona.yaml")
    asked = [as_question(probe, persona.prompt(probe.mode)).messages for probe in evenly(load_suite(SUITE / "suite.yaml").probes, probes)]
    engine = LlamaCppEngine(file, machine.threads(0), slots)
    begun = time.perf_counter()
    tokens = sum(reply.tokens for _, reply in engine.replies(asked, Sampling(max_tokens=WRITTEN)))
    seconds = time.perf_counter() - begun
    engine.close()
    return {"seconds": seconds, "answers": len(asked), "tokens": tokens, "rate": tokens / seconds}


def many(file: Path, probes: int, batch: int) -> dict[str, Any]:
    return _written(SLOTS, file, probes)


def one(file: Path, probes: int, batch: int) -> dict[str, Any]:
    return _written(1, file, probes)


SIDES: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {"ours": ours, "peer": peer, "many": many, "one": one}


def run(side: str, file: Path, count: int, batch: int = 1) -> dict[str, Any]:
    """One side in a process of its own: its figures."""
    command = [sys.executable, __file__, "--side", side, "--arc", str(file), "--questions", str(count), "--batch", str(batch)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arc", type=Path, required=True, help="ARC-Challenge as JSON lines with the keys of the data set on the Hub")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="40 questions, 24 probes, one run a side")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.arc, arguments.questions, arguments.batch)))
        return
    questions, probes, repeats = (40, 24, 1) if arguments.quick else (arguments.questions, arguments.probes, arguments.repeats)
    tried = {batch: run("peer", arguments.arc, min(questions, 64), batch)["seconds"] for batch in BATCHES}
    best = min(tried, key=lambda batch: tried[batch])
    samples: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        (file,) = base_files(Path(folder), ["Q8_0"])
        for _ in range(repeats):
            for side, found in samples.items():
                found.append(run(side, arguments.arc, questions, best) if side in ("ours", "peer") else run(side, file, probes))
    seconds = {side: statistics.median(s["seconds"] for s in found) for side, found in samples.items()}
    rate = {side: statistics.median(s["rate"] for s in samples[side]) for side in ("many", "one")}
    mine, theirs = samples["ours"][0], samples["peer"][0]
    apart = max(abs(a - b) for x, y in zip(mine["nats"], theirs["nats"], strict=True) for a, b in zip(x, y, strict=True))
    told = {
        "ratio": seconds["peer"] / seconds["ours"],
        "generation_ratio": rate["many"] / rate["one"],
        "largest_difference_nats": apart,
        "accuracy": {"ours": statistics.mean(mine["right"]), "peer": statistics.mean(theirs["right"])},
        "seconds": seconds,
        "tokens_per_second": rate,
        "peer": f"lm-eval's hf model at batch size {best}",
        "batch_sizes_tried": tried,
        "versions": {name: version(name) for name in ("lm_eval", "torch", "transformers", "xllamacpp")},
        "samples": {side: [{k: v for k, v in s.items() if k not in ("nats", "right")} for s in found] for side, found in samples.items()},
    }
    if arguments.json:
        print(json.dumps(told))
        return
    print(f"{questions} questions: {seconds['ours']:.1f} s, {told['peer']} {seconds['peer']:.1f} s: {told['ratio']:.2f} times as fast")
    print(f"log-likelihoods at most {apart:.1e} nats apart; accuracy {told['accuracy']['ours']:.3f} and {told['accuracy']['peer']:.3f}")
    print(f"{probes} answers: {rate['many']:.0f} a second with {SLOTS} slots, {rate['one']:.0f} one at a time: {told['generation_ratio']:.2f} times")


if __name__ == "__main__":
    main()
