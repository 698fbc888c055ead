"""A sweep of eight arms on two Ray nodes against the same sweep on one, both on this machine.

    .venv/bin/python benchmarks/cluster.py [--recipe recipes/first-aid/recipe.yaml] [--arms 8] [--epochs 0.03] [--rounds 1] [--json]

A node has one processor as far as Ray is concerned, and a training takes one, so that two nodes have twice what one has; they share memory and caches.
The rounds alternate which comes first. Every sweep begins with the rows made ready. Prints seconds of each, the ratio, and how far losses are apart.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SWEEP = """
import sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from lorikeet import sweep
from lorikeet.cluster.crew import RayCrew
from lorikeet.progress import Silent
from lorikeet.recipe import load_recipe

nodes, recipe, arms, epochs, out = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for _ in range(nodes - 1):
    cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
sets = ["machine.worker_cpus=1", "machine.threads=1", f"train.epochs={epochs}"]
rates = ",".join(f"{0.0005 * 1.4 ** n:.6f}" for n in range(arms))
design = sweep.design(recipe, [f"train.learning_rate={rates}"], sets)
crew = RayCrew(load_recipe(recipe, sets).recipe.machine)
begun = time.monotonic()
arms, _ = sweep.run(recipe, design, 1, sets, out, Silent(), crew)
print("seconds", time.monotonic() - begun)
print("losses", [sum(arm.losses[0]) for arm in arms])
"""


def timed(nodes: int, arguments: argparse.Namespace, rows: Path, out: Path) -> tuple[float, list[float]]:
    """Seconds of a sweep on so many nodes, and the summed held-out loss of each arm."""
    shutil.copytree(rows, out)
    command = [sys.executable, "-c", SWEEP, str(nodes), str(arguments.recipe), str(arguments.arms), str(arguments.epochs), str(out)]
    environment = {**os.environ, "RAY_TRAIN_V2_ENABLED": "1"}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()
    seconds, losses = (next(line.split(" ", 1)[1] for line in said if line.startswith(word)) for word in ("seconds", "losses"))
    return float(seconds), json.loads(losses)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/first-aid/recipe.yaml"))
    parser.add_argument("--arms", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=0.03)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    losses: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        subprocess.run([sys.executable, "-m", "lorikeet", "run", str(arguments.recipe), "--out", str(rows), "--until", "data"], check=True, capture_output=True)
        for number in range(arguments.rounds):
            for nodes in (1, 2) if number % 2 == 0 else (2, 1):
                took, losses[nodes] = timed(nodes, arguments, rows, Path(folder) / f"{nodes}-{number}")
                seconds[nodes].append(took)
                print(f"{nodes} nodes: {took:.0f} s", file=sys.stderr)
    ratios = [two / one for one, two in zip(seconds[1], seconds[2], strict=True)]
    apart = max(abs(one - two) / one for one, two in zip(losses[1], losses[2], strict=True))
    found = {"arms": arguments.arms, "seconds_one": seconds[1], "seconds_two": seconds[2], "ratio": sum(ratios) / len(ratios), "losses_apart": apart}
    print(json.dumps(found) if arguments.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
