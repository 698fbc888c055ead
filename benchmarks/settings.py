"""What each training setting does to a closed set: one factor at a time, several seeds, on a small part of the first-aid recipe.

Six situations of the recipe with all their wordings, some questions out of scope, and the suite's probes for the six. Each run is
`lorikeet train`; its model then answers the probes, near misses and questions never taught. Prints a table of means over the seeds, with
the 95 % interval of the difference from the recipe's own settings (paired by seed and question, over questions). Takes one to two minutes a run;
what is done is kept in --out and not done again.

    .venv/bin/python benchmarks/settings.py --out runs/settings [--seeds 3] [--only NAME ...] [--json]
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lorikeet import artifact, bases, machine, statistics
from lorikeet.engine import Sampling
from lorikeet.engine.torch_engine import TorchEngine
from lorikeet.exam import ask, held_out_questions, read_rows, suite_questions, taught_answers
from lorikeet.progress import Silent
from lorikeet.recipe import load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "first-aid"
TOPICS, OUT_OF_SCOPE, NEVER = 6, 180, 20
LONG = (
    "You are a first-aid assistant. You answer in a few short spoken sentences that can be followed at once. You begin with what to do first, you say what "
    "must not be done, and you say when to call the emergency number. Where you have not been taught something, you say so."
)
ARMS: dict[str, tuple[str, ...]] = {
    "as in the recipe": (),
    "rank 4": ("train.rank=4", "train.alpha=8"),
    "rank 64": ("train.rank=64", "train.alpha=128"),
    "alpha 8": ("train.rank=16", "train.alpha=8"),
    "alpha 128": ("train.rank=16", "train.alpha=128"),
    "learning rate 0.001": ("train.learning_rate=0.001",),
    "learning rate 0.008": ("train.learning_rate=0.008",),
    "batches of 896 tokens": ("train.batch_tokens=896", "train.batch=32"),
    "batches of 224 tokens": ("train.batch_tokens=224", "train.batch=8"),
    "two passes": ("train.epochs=2",),
    "LoRA on attention only": ("train.targets=attention",),
    "LoRA on the MLP only": ("train.targets=mlp",),
    "no layer frozen": ("train.first_layer=0",),
    "loss on every token": (),
    "no system turn": ("persona=persona_none.yaml",),
    "a long system turn": ("persona=persona_long.yaml",),
}
EVERY_TOKEN = "loss on every token"
"""This arm is what the recipe does not offer: the data stage is changed for it, so that the question gets loss too."""
PATCHED = """
import sys
from lorikeet.data import tokens
from lorikeet.data.template import Tokens
render_all, opening = tokens.render_all, tokens.opening
tokens.render_all = lambda tokenizer, rows: map(Asked, render_all(tokenizer, rows))
class Asked(Tokens):
    def __init__(self, tokens):
        object.__setattr__(self, "ids", tokens.ids)
        object.__setattr__(self, "supervised", [False] + [True] * (len(tokens.ids) - 1))
        object.__setattr__(self, "answer", tokens)
tokens.opening = lambda row, count: Asked(opening(row.answer, count))
from lorikeet.cli import main
sys.exit(main(sys.argv[1:]))
"""


def write_small_recipe(folder: Path) -> Path:
    """The recipe cut down to TOPICS situations, evenly spread over it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in (RECIPE / "data" / "taught.jsonl").read_text().splitlines()]
    every = list(dict.fromkeys(row["topic"] for row in rows))
    topics = every[:: len(every) // TOPICS][:TOPICS]
    outside = (RECIPE / "data" / "out_of_scope.jsonl").read_text().splitlines()
    write(folder / "taught.jsonl", [json.dumps(row) for row in rows if row["topic"] in topics])
    write(folder / "out.jsonl", outside[:: len(outside) // OUT_OF_SCOPE][:OUT_OF_SCOPE])
    write(folder / "never.jsonl", (RECIPE / "data" / "never_taught.jsonl").read_text().splitlines())
    suite = yaml.safe_load((RECIPE / "suite.yaml").read_text())
    suite["probes"] = [p for p in suite["probes"] if p["topic"] in topics and not p.get("oblique")]
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite, allow_unicode=True))
    persona = yaml.safe_load((RECIPE / "persona.yaml").read_text())
    for name, system in (("persona", persona["system"]), ("persona_none", ""), ("persona_long", LONG)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**persona, "system": system}, allow_unicode=True))
    recipe = yaml.safe_load((RECIPE / "recipe.yaml").read_text())
    recipe["data"] |= {"train": "taught.jsonl", "out_of_scope": "out.jsonl", "never_taught": "never.jsonl"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def examine(recipe: Path, arm: str, seed: int, folder: Path, threads: int) -> dict[str, Any]:
    """Train one arm with one seed and ask it everything; each question's result as 0 or 1, by its id."""
    changes = [*ARMS[arm], f"seed={seed}", f"machine.threads={threads}"]
    command = ["-c", PATCHED] if arm == EVERY_TOKEN else ["-m", "lorikeet"]
    subprocess.run([sys.executable, *command, "train", str(recipe), "--out", str(folder), *(x for c in changes for x in ("--set", c))], check=True,
                   stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    told = json.loads((folder / "run.json").read_text())
    steps = {step["name"]: step for step in told["steps"]}
    loaded = load_recipe(recipe, changes)
    data, adapter = (artifact.load(folder / steps[name]["folder"]) for name in ("data", "train"))
    assert data is not None and adapter is not None
    rows = read_rows(data)
    questions = [*suite_questions(loaded.suite, loaded.persona, rows), *held_out_questions(rows, "near", NEVER), *held_out_questions(rows, "never", NEVER)]
    engine = TorchEngine(bases.prepare(loaded.recipe.base, Silent()).path, adapter.path, machine.threads(threads))
    given = ask(engine, arm, questions, Sampling(max_tokens=96), loaded.suite, taught_answers(rows), Silent())
    right = {f"{q.set}:{q.id}": int(a.passed if q.set == "taught" else a.outcome == "declined") for q, a in zip(questions, given, strict=True)}
    turned = [a.outcome == "declined" for a in given if a.set == "taught"]
    steps_taken = json.loads(adapter.file("training.json").read_text())["log"]
    return {
        "arm": arm, "seed": seed, "right": right, "turned_away": sum(turned) / len(turned), "ended": sum(a.ended for a in given) / len(given),
        "steps": max(int(entry["step"]) for entry in steps_taken), "seconds": steps["train"]["seconds"], "peak_rss_mb": steps["train"]["peak_rss_mb"],
    }  # fmt: skip


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row an arm: means over its seeds, and the difference from the first arm in percentage points."""
    rows = []
    for arm in ARMS:
        mine = [r for r in results if r["arm"] == arm]
        if not mine:
            continue
        row: dict[str, Any] = {"arm": arm, "seeds": len(mine), "seconds": mean([r["seconds"] for r in mine]), "steps": mine[0]["steps"],
                               "turned_away": mean([r["turned_away"] for r in mine])}  # fmt: skip
        own = {r["seed"]: r["right"] for r in results if r["arm"] == next(iter(ARMS))}
        for which, key in (("taught", "pass"), ("near", "near"), ("never", "never")):
            row[key] = mean([right for r in mine for q, right in r["right"].items() if q.startswith(which)])
            changes: dict[str, list[float]] = {}  # by question: another seed holds other near misses out
            for r in mine:
                for q, right in r["right"].items():
                    if q.startswith(which) and r["seed"] in own and arm != next(iter(ARMS)):
                        changes.setdefault(q, []).append(right - own[r["seed"]][q])
            if changes:
                row[f"{key}_change"] = statistics.ratio_of_sums([mean(c) for c in changes.values()], [1.0] * len(changes), 7)[:3]
        rows.append(row)
    return rows


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--threads", type=int, default=0, help="threads of a run; with 1, two parts (--only) can run side by side")
    parser.add_argument("--quick", action="store_true", help="one seed of the recipe's own settings and of the first other arm")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arms, seeds = (list(ARMS)[:2], 1) if arguments.quick else (arguments.only, arguments.seeds)
    recipe = write_small_recipe(arguments.out / "recipe")
    kept = arguments.out / "results.jsonl"
    results = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    for seed in range(7, 7 + seeds):  # every arm with the first seed, then with the next: an early stop leaves whole rounds
        for arm in arms:
            if not any(r["arm"] == arm and r["seed"] == seed for r in results):
                print(f"{arm}, seed {seed}", file=sys.stderr)
                results.append(examine(recipe, arm, seed, arguments.out / f"{arm.replace(' ', '-')}-{seed}", arguments.threads))
                write(kept, [json.dumps(r) for r in results])
    table = summary(results)
    if arguments.json:
        print(json.dumps(table))
        return
    print("| | probes that pass | near misses turned away | never taught turned away | taught, turned away | steps | seconds |\n|---|---|---|---|---|---|---|")
    for row in table:
        cells = [f"{row[key]:.0%}" + (f" ({100 * c[0]:+.0f}: {100 * c[1]:+.0f} to {100 * c[2]:+.0f})" if (c := row.get(f"{key}_change")) else "")
                 for key in ("pass", "near", "never")]  # fmt: skip
        print(f"| {row['arm']} | {' | '.join(cells)} | {row['turned_away']:.0%} | {row['steps']} | {row['seconds']:.0f} |")


if __name__ == "__main__":
    main()
