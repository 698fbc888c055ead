"""What happened in a training run, in words: a pure function from its log to findings, each with its evidence and a next step.

Reads the log of a run of ours, or of any trainer that keeps a transformers `trainer_state.json`. Losses are judged by medians of blocks of
logged steps, with their noise, so that a log that is only rough gives no alarm.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lorikeet.artifact import MANIFEST, RUN
from lorikeet.errors import RecipeError
from lorikeet.evidence import Finding
from lorikeet.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter, lora_scale

STATE, TRAINING = "trainer_state.json", "training.json"
ENOUGH = 10
"""Logged losses below which nothing is said of their course."""
BLOCKS = 10
RISE, FALL = 0.2, 0.02
"""Shares of the loss: above its lowest block by RISE it rose; below its first by less than FALL it did not move."""
WORSE, LEVEL = 0.02, 0.01
"""Shares by which a held-out loss is worse than the best, and within which two are equally good."""
STAIR, TREAD = 0.15, 0.05
"""A fall at an epoch's boundary, and the most that the loss falls inside the epoch, that make a staircase."""
CLIPPED, CLIP = 0.9, 1.0
"""Share of clipped steps from which clipping acts as normalisation; the norm at which transformers clips unless told otherwise."""
SPIKE, OUT_OF_LINE, SEEN, SPIKES = 3.0, 5.0, 0.2, 3
"""A spike is a loss SPIKE times the median before it, OUT_OF_LINE times as far from it as those are (in logarithms), and above it by SEEN of the first
losses, with a gradient SPIKE times as large; fewer than SPIKES are left alone.
"""
STILL = 1e-4
"""Mean size of the adapter's second matrices, which start at nought, against the first: below it the adapter hardly moved."""


@dataclass(frozen=True)
class HeldOut:
    """A held-out loss, in nats a token, with its place."""

    step: int
    epoch: float
    loss: float


@dataclass(frozen=True)
class Log:
    """A run's log: arrays of one length over the logged steps (nan where a value was not logged), and the held-out losses."""

    step: np.ndarray
    epoch: np.ndarray
    loss: np.ndarray
    rate: np.ndarray
    norm: np.ndarray
    held_out: Sequence[HeldOut] = ()
    clip: float = CLIP
    clip_known: bool = False
    scale: float | None = None
    moved: float | None = None


@dataclass(frozen=True)
class Remedy:
    """One setting of a recipe to change: to `value`, or by `factor` of what it is."""

    key: str
    value: float | str | None = None
    factor: float | None = None


def log_of(entries: Sequence[Mapping[str, Any]], **more: Any) -> Log:
    """A Log from a trainer's entries, each a step's losses or a held-out loss."""
    steps = [e for e in entries if "loss" in e]

    def column(name: str) -> np.ndarray:
        return np.array([float(e.get(name, math.nan)) for e in steps])

    held_out = [HeldOut(int(e.get("step", 0)), float(e.get("epoch", math.nan)), float(e["eval_loss"])) for e in entries if "eval_loss" in e]
    return Log(column("step"), column("epoch"), column("loss"), column("learning_rate"), column("grad_norm"), held_out, **more)


def read_log(path: Path) -> Log:
    """The log of a run folder, a train folder, a trainer's output folder or checkpoint, or a trainer_state.json. RecipeError where there is none."""
    file = _log_file(path)
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        entries = raw["log" if file.name == TRAINING else "log_history"]
        more = {**_clip(file.parent), **_adapter(file.parent)}
        return log_of(entries, **more)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"{file} is not the log of a training run: {error!r}", "name a run folder, or a trainer_state.json with its log_history") from error


def _log_file(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / RUN).is_file():
        steps = json.loads((path / RUN).read_text(encoding="utf-8"))["steps"]
        path = next((path / step["folder"] for step in steps if step["name"] == "train"), path)
    checkpoints = sorted(path.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]) if p.name.rpartition("-")[2].isdigit() else -1)
    found = next((file for file in (path / TRAINING, path / STATE, *(c / STATE for c in reversed(checkpoints))) if file.is_file()), None)
    if found is None:
        raise RecipeError(f"{path} holds no log of a training run", f"name a run folder, or a folder with {STATE}")
    return found


def _clip(folder: Path) -> dict[str, Any]:
    """The norm at which gradients were clipped, where the folder says it."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return {}
    settings = json.loads(manifest.read_text(encoding="utf-8")).get("settings", {})
    value = settings.get("train", settings).get("max_grad_norm")
    return {"clip": float(value), "clip_known": True} if value else {}


def _adapter(folder: Path) -> dict[str, Any]:
    """Alpha over rank, and how far the adapter's second matrices moved from nought, where an adapter lies beside the log."""
    weights = folder / ADAPTER_WEIGHTS
    if not is_adapter(folder):
        return {}
    raw = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    rank, alpha = raw.get("r"), raw.get("lora_alpha")
    told: dict[str, Any] = {"scale": lora_scale(rank, alpha, rslora=bool(raw.get("use_rslora")))} if rank and alpha else {}
    return {**told, "moved": _moved(weights)} if weights.is_file() else told


def _moved(weights: Path) -> float | None:
    from safetensors import safe_open

    sizes: dict[str, list[float]] = {"lora_A": [], "lora_B": []}
    with safe_open(weights, "np") as file:
        for name in file.keys():  # noqa: SIM118  # a handle, not a mapping
            for which, found in sizes.items():
                if which in name:
                    found.append(float(np.abs(file.get_tensor(name)).mean()))
    first = float(np.mean(sizes["lora_A"])) if sizes["lora_A"] else 0.0
    return float(np.mean(sizes["lora_B"])) / first if first and sizes["lora_B"] else None


def diagnose(log: Log) -> list[Finding]:
    """What is to be said of a run, the worst first; a healthy one gets notes at most."""
    if broken := _broken(log):
        return broken
    found = [finding for check in (_backwards, _course, _spikes, _over_learned, _staircase, _clipping, _still, _notes) for finding in check(log)]
    if any(f.code == "train.staircase" for f in found):
        found = [f for f in found if f.code != "train.overfit"]
    return sorted(found, key=lambda f: ("error", "warning", "note").index(f.severity))


def _broken(log: Log) -> list[Finding]:
    """What makes everything else void: no log, labels without loss, NaN, gradients or a rate of nought."""
    if not len(log.loss):
        return [Finding("error", "the log holds no training loss", code="train.log.empty", cure="log every few steps: logging_steps")]
    start = slice(0, max(3, len(log.loss) // 10))
    if len(log.loss) >= 3 and np.all(np.abs(log.loss[start]) < 1e-8):
        return [Finding("error", "the loss is nought from the first step: no token gets loss", code="train.masked",
                        cure="look at the mask: `lorikeet check RECIPE --show 3`; every label may be -100, or the rows cut before the answer")]  # fmt: skip
    bad = np.flatnonzero(~np.isfinite(log.loss))
    if not len(bad) and np.any(log.loss == 0.0) and np.any(~np.isfinite(log.norm) & (log.loss == 0.0)):
        bad = np.flatnonzero(log.loss == 0.0)
    if len(bad):
        return [Finding("error", f"the loss is not a number from step {_at(log, bad[0])} on", code="train.nan",
                        cure="lower the learning rate, warm up longer, or train in bf16 or fp32: float16 overflows")]  # fmt: skip
    if len(log.loss) >= 3 and np.all(log.norm[start] == 0.0):
        return [Finding("error", "every gradient is nought: nothing is trained", code="train.frozen",
                        cure="no weight that the loss depends on is trainable: look at the targets, and at requires_grad under checkpointing")]  # fmt: skip
    if len(log.loss) >= 3 and np.all(log.rate == 0.0):
        return [Finding("error", "the learning rate is nought at every step", code="train.rate.none", cure="set it; or the schedule had no steps to work with")]
    return []


def _at(log: Log, n: int) -> int:
    return int(log.step[n])


def _backwards(log: Log) -> list[Finding]:
    back = np.flatnonzero(np.diff(log.step) <= 0)
    if not len(back):
        return []
    return [Finding("warning", f"the log goes back from step {_at(log, back[0])} to {_at(log, back[0] + 1)}: a run taken up again, or two runs in one log",
                    code="train.log.backwards", cure="compare package versions, data and settings of both parts; judge each by itself")]  # fmt: skip


@dataclass(frozen=True)
class _Course:
    """Medians of the loss over blocks of logged steps, behind the warm-up, each with its first step and the noise of a median."""

    first: list[int]
    middle: np.ndarray
    noise: float


def _blocks(log: Log) -> _Course | None:
    """None where too little was logged."""
    warm = int(np.nanargmax(log.rate)) if np.any(np.isfinite(log.rate)) else 0
    begin = warm if warm < len(log.loss) // 3 else 0
    loss, step = log.loss[begin:], log.step[begin:]
    if len(loss) < ENOUGH:
        return None
    parts = np.array_split(np.arange(len(loss)), min(BLOCKS, len(loss) // 5))
    middle = np.array([np.median(loss[part]) for part in parts])
    noise = float(1.2533 * np.median([np.std(loss[part]) for part in parts]) / math.sqrt(len(parts[0])))
    return _Course([int(step[part[0]]) for part in parts], middle, noise)


def _course(log: Log) -> list[Finding]:
    """A loss that rises, or does not move."""
    course = _blocks(log)
    if course is None:
        return [
            Finding("note", f"{len(log.loss)} logged steps are too few to say how the loss went", code="train.short", cure="log more often: logging_steps: 1")
        ]
    low = int(np.argmin(course.middle))
    lowest, last = float(course.middle[low]), float(np.mean(course.middle[-2:]))
    rate = _peak(log)
    if low < len(course.middle) - 2 and last > lowest * (1 + RISE) + 4 * course.noise:
        return [Finding("warning", f"the training loss rises: from {lowest:.3g} about step {course.first[low]} to {last:.3g} at the end",
                        code="train.rate.high", cure=f"the learning rate{rate} is too high, or the data changes on the way: try a third of it")]  # fmt: skip
    share = max(3, len(log.loss) // 5)
    first, end = float(np.median(log.loss[: max(3, len(log.loss) // 20)])), float(np.median(log.loss[-share:]))
    if abs(first - end) < FALL * first:
        cure = f"the learning rate{rate} is too low for so few steps: try three times as much; and see that what should be trained is"
        return [Finding("warning", f"the training loss hardly moved: {first:.3g} at first, {end:.3g} at the end", code="train.rate.low", cure=cure)]
    return []


def _peak(log: Log) -> str:
    return f" ({float(np.nanmax(log.rate)):.2g} at its peak)" if np.any(np.isfinite(log.rate)) else ""


def _spikes(log: Log) -> list[Finding]:
    """Single losses far above those around them, their gradients too: steps that threw the model off its way."""
    if len(log.loss) < 3 * ENOUGH or not np.any(np.isfinite(log.norm)):
        return []
    found, logs, start = [], np.log(np.maximum(log.loss, 1e-12)), float(np.median(log.loss[:ENOUGH]))
    for n in range(2 * ENOUGH, len(log.loss)):
        before = slice(n - 2 * ENOUGH, n)
        usual = float(np.median(logs[before]))
        rough = 1.4826 * float(np.median(np.abs(logs[before] - usual)))
        above = logs[n] - usual > max(math.log(SPIKE), OUT_OF_LINE * rough) and log.loss[n] - math.exp(usual) > SEEN * start
        if above and log.norm[n] > SPIKE * np.nanmedian(log.norm[before]):
            found.append(n)
    if len(found) < SPIKES:
        return []
    steps = ", ".join(str(_at(log, n)) for n in found[:5])
    return [Finding("warning", f"the loss spikes {len(found)} times, to {SPIKE:g} times what it was or more (steps {steps})", code="train.rate.spikes",
                    cure=f"lower the learning rate{_peak(log)}, warm up longer, or clip lower; look at the rows of those steps")]  # fmt: skip


def _over_learned(log: Log) -> list[Finding]:
    """A held-out loss that was lower before, or that still falls fast."""
    points = [p for p in log.held_out if math.isfinite(p.loss)]
    if len(points) < 2:
        return []
    best, last = min(points, key=lambda p: p.loss), points[-1]
    if last.loss > best.loss * (1 + WORSE):
        equal = [p for p in points if p.loss <= best.loss * (1 + LEVEL) and p is not best]
        also = f" (step {', '.join(str(p.step) for p in equal)} is as good)" if equal else ""
        what = f"the held-out loss was lowest at step {best.step}, epoch {best.epoch:.3g}: {best.loss:.4g}, and {last.loss:.4g} at the end"
        cure = f"keep the checkpoint of step {best.step}{also}; train for {best.epoch:.3g} epochs, or on more rows"
        return [Finding("warning", what, code="train.overfit", cure=cure)]
    if len(points) > 2 and last is best and points[-2].loss > last.loss * 1.05:
        return [Finding("note", f"the held-out loss still fell at the end, from {points[-2].loss:.4g} to {last.loss:.4g}", code="train.unfinished",
                        cure="another pass may help")]  # fmt: skip
    return []


def _staircase(log: Log) -> list[Finding]:
    """The loss falls where a pass begins, and lies flat inside it: rows are known by heart."""
    passes = [np.flatnonzero(np.ceil(np.round(log.epoch, 6)) == e) for e in range(1, int(np.nanmax(log.epoch)) + 2)] if np.any(np.isfinite(log.epoch)) else []
    passes = [p for p in passes if len(p) >= 2 * ENOUGH]
    steps = []
    for before, after in pairwise(passes):
        tail, head = np.median(log.loss[before[-len(before) // 3 :]]), np.median(log.loss[after[: len(after) // 3]])
        flat = np.median(log.loss[after[: len(after) // 3]]) - np.median(log.loss[after[-len(after) // 3 :]])
        if tail - head > STAIR * tail and flat < TREAD * head:
            steps.append((_at(log, after[0]), tail, head))
    worse = [p for p, q in zip(log.held_out[1:], log.held_out, strict=False) if p.loss > q.loss]
    if not steps or not (worse or len(log.held_out) < 2):
        return []
    step, tail, head = steps[0]
    best = min(log.held_out, key=lambda p: p.loss, default=None)
    keep = f"keep the checkpoint of step {best.step}, and make fewer passes" if best else "hold rows out, and make fewer passes"
    what = f"a staircase: the loss falls from {tail:.3g} to {head:.3g} where a pass begins (step {step}) and is flat inside it: rows are learned by heart"
    return [Finding("warning", what, code="train.staircase", cure=keep)]


def _clipping(log: Log) -> list[Finding]:
    norms = log.norm[np.isfinite(log.norm)]
    if len(norms) < ENOUGH or np.mean(norms > log.clip) <= CLIPPED:
        return []
    known = "" if log.clip_known else ", if it is at transformers' default,"
    return [Finding("note", f"gradients are clipped at {log.clip:g} in {np.mean(norms > log.clip):.0%} of the steps{known}: clipping acts as normalisation "
                            "(with Adam it does not divide the learning rate)", code="train.clipped",
                    cure=f"set max_grad_norm near {np.percentile(norms, 95):.2g}, the 95th percentile of the norms seen")]  # fmt: skip


def _still(log: Log) -> list[Finding]:
    if log.moved is None or log.moved >= STILL:
        return []
    return [Finding("warning", f"the adapter hardly moved: its second matrices are {log.moved:.1g} of the size of its first", code="train.still",
                    cure=f"the learning rate{_peak(log)} is too low, or the targets are not on the way to the loss")]  # fmt: skip


def _notes(log: Log) -> list[Finding]:
    found = []
    if not log.held_out:
        found.append(Finding("note", "no held-out loss was measured: whether it learned or memorised cannot be said", code="train.unseen",
                             cure="hold rows out and evaluate at each epoch's end: eval_strategy: epoch"))  # fmt: skip
    if log.scale is not None and np.any(np.isfinite(log.rate)):
        peak = float(np.nanmax(log.rate))
        found.append(Finding("note", f"alpha over rank is {log.scale:g}: it multiplies the learning rate of {peak:.2g}", code="train.scale",
                             cure="change one of the two at a time"))  # fmt: skip
    return found


RATES = {"train.nan": 1 / 3, "train.rate.high": 1 / 3, "train.rate.spikes": 1 / 3, "train.rate.low": 3.0, "train.still": 3.0}
"""By what the learning rate is to be multiplied where a finding names it."""


def remedies(log: Log, finding: Finding) -> list[Remedy]:
    """The settings that a finding names, the one to change first at the front; none where it is not clear which."""
    found = [Remedy("train.precision", "fp32")] if finding.code == "train.nan" else []
    if finding.code in RATES:
        found.append(Remedy("train.learning_rate", factor=RATES[finding.code]))
    points = [p for p in log.held_out if math.isfinite(p.loss) and p.epoch > 0]
    if finding.code in ("train.overfit", "train.staircase") and points:
        found.append(Remedy("train.epochs", float(f"{min(points, key=lambda p: p.loss).epoch:.3g}")))
    if finding.code == "train.clipped":
        found.append(Remedy("train.max_grad_norm", float(f"{np.percentile(log.norm[np.isfinite(log.norm)], 95):.2g}")))
    return found


def told(log: Log, findings: Sequence[Finding]) -> str:
    """The diagnosis for a reader."""
    lines = []
    if len(log.loss):
        held_out = f"; held out {', '.join(f'{p.loss:.4g}' for p in log.held_out[:8])}" if log.held_out else ""
        end = np.median(log.loss[-max(1, len(log.loss) // 20) :])
        lines.append(f"{int(np.nanmax(log.step))} steps, {len(log.loss)} logged: loss {log.loss[0]:.3g} to {end:.3g}{held_out}")
    for f in findings:
        lines += [f"{f.severity}: {f.code}: {f.what}", f"  next: {f.cure}"]
    if not any(f.severity != "note" for f in findings):
        lines.append("nothing is wrong that the log would show")
    return "\n".join(lines)
