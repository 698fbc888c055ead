"""What the first hour feels like: start-up against `python -c pass`, a second run of an unchanged recipe, the demo's cost.

Prints ratios and figures; run it on an idle machine after `make demo`:
    .venv/bin/python benchmarks/first_light.py [--quick] [--json] [RUN]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path


def seconds(*command: str) -> float:
    """Wall seconds of one command."""
    begun = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/first-aid"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rounds = 5 if arguments.quick else 20
    ours, peer = [], []
    for _ in range(rounds):  # interleaved: the machine's drift falls on both
        ours.append(seconds(sys.executable, "-m", "lorikeet", "--help"))
        peer.append(seconds(sys.executable, "-c", "pass"))
    result: dict[str, object] = {
        "help_ratio": round(statistics.median(ours) / statistics.median(peer), 2),
        "peer": "python -c pass",
        "versions": {"lorikeet": metadata.version("lorikeet"), "python": sys.version.split()[0]},
        "samples": {"help_seconds": ours, "pass_seconds": peer},
    }
    if (arguments.run / "run.json").is_file():
        run = json.loads((arguments.run / "run.json").read_text())
        result["demo_minutes"] = round(sum(s["seconds"] for s in run["steps"]) / 60, 1)
        result["demo_peak_rss_gb"] = round(max(s["peak_rss_mb"] for s in run["steps"]) / 1000, 2)
        result["second_run_seconds"] = round(seconds(sys.executable, "-m", "lorikeet", "run", run["recipe"], "--out", str(arguments.run)), 2)
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items() if k != "samples"))


if __name__ == "__main__":
    main()
