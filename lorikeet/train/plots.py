"""Loss, perplexity (or margin), learning rate and gradient norm of a training run as PNG figures for people."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Log = Sequence[Mapping[str, float]]
PALE, DARK, RED = "#9bb8c9", "#1f6f8b", "#d1495b"


def draw(log: Log, clip: float, folder: Path) -> None:
    """Write loss.png, perplexity.png, learning_rate.png and gradient_norm.png from a trainer's log; of KTO and DPO margin.png in place of perplexity.

    Entries have `step` and some of `loss`, `eval_loss` (nats a supervised token, but for KTO and DPO), `rewards/margins`, `eval_rewards/margins`,
    `learning_rate`, `grad_norm`; gradients are clipped to the norm `clip`.
    """
    train, held_out, margins = _series(log, "loss"), _series(log, "eval_loss"), _series(log, "eval_rewards/margins")
    if margins:
        axes = _axes("beta times the log odds gained, nats")
        _rough(axes, _series(log, "rewards/margins"), "training")
        axes.plot([s for s, _ in margins], [v for _, v in margins], "o-", color=RED, linewidth=1.8, label="held out")
        _save(axes, folder / "margin.png")
    for name, change in (("loss", float),) if margins else (("loss", float), ("perplexity", math.exp)):
        axes = _axes("loss" if margins else f"{name} a supervised token")
        _rough(axes, [(step, change(value)) for step, value in train], "training")
        axes.plot([s for s, _ in held_out], [change(v) for _, v in held_out], "o-", color=RED, linewidth=1.8, label="held out")
        if name == "perplexity":
            axes.set_yscale("log")
        _save(axes, folder / f"{name}.png")
    rates = _series(log, "learning_rate")
    axes = _axes("learning rate")
    axes.plot([s for s, _ in rates], [v for _, v in rates], color=DARK, linewidth=1.8)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _save(axes, folder / "learning_rate.png")
    axes = _axes("gradient norm before clipping")
    _rough(axes, _series(log, "grad_norm"), "gradients")
    axes.axhline(clip, color=RED, linewidth=1.2, linestyle="--", label=f"clipped to {clip:g}")
    _save(axes, folder / "gradient_norm.png")


def _series(log: Log, key: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[key]) for entry in log if key in entry]


def _axes(label: str) -> "Axes":
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained").subplots()
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25)
    return axes


def _rough(axes: "Axes", series: Sequence[tuple[float, float]], what: str) -> None:
    """A value a step, and its running mean."""
    steps, values = [s for s, _ in series], [v for _, v in series]
    axes.plot(steps, values, color=PALE, linewidth=0.8, label=f"{what}, each step")
    axes.plot(steps, _running_mean(values, 15), color=DARK, linewidth=1.8, label=f"{what}, mean of 15")


def _save(axes: "Axes", path: Path) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, metadata={"Software": None})


def _running_mean(values: Sequence[float], width: int) -> list[float]:
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - width) : end]
        means.append(sum(window) / len(window))
    return means
