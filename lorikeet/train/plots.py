"""Loss and perplexity of a training run as PNG figures for people."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

Log = Sequence[Mapping[str, float]]


def draw(log: Log, folder: Path) -> None:
    """Write loss.png and perplexity.png from a trainer's log (entries with step and loss or eval_loss)."""
    from matplotlib.figure import Figure

    train = [(e["step"], e["loss"]) for e in log if "loss" in e]
    held_out = [(e["step"], e["eval_loss"]) for e in log if "eval_loss" in e]
    for name, change in (("loss", float), ("perplexity", math.exp)):
        figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
        axes = figure.subplots()
        axes.plot([s for s, _ in train], [change(v) for _, v in train], color="#9bb8c9", linewidth=0.8, label="training, each step")
        smooth = _running_mean([v for _, v in train], 15)
        axes.plot([s for s, _ in train], [change(v) for v in smooth], color="#1f6f8b", linewidth=1.8, label="training, mean of 15")
        axes.plot([s for s, _ in held_out], [change(v) for _, v in held_out], "o-", color="#d1495b", linewidth=1.8, label="held out")
        axes.set_xlabel("step")
        axes.set_ylabel(f"{name} a supervised token")
        if name == "perplexity":
            axes.set_yscale("log")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})


def _running_mean(values: Sequence[float], width: int) -> list[float]:
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - width) : end]
        means.append(sum(window) / len(window))
    return means
