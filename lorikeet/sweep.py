"""A controlled experiment: the same recipe trained with settings varied, each with several seeds, and for every factor the verdict with its interval.

Arms are compared by their loss on the rows held out for validation; those for testing stay unseen. Every arm has the same rows and the same seeds, so that
differences are paired by both. An arm that is plainly worse than the best one is trained with no further seed.
"""

import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lorikeet import pipeline, statistics, storage
from lorikeet.artifact import write_json
from lorikeet.crew import Crew
from lorikeet.errors import RecipeError
from lorikeet.evidence import Finding, Measure, measured
from lorikeet.progress import Progress
from lorikeet.recipe import LoadedRecipe, load_recipe
from lorikeet.statistics import Change
from lorikeet.steps import Step, losses_of, steps_of
from lorikeet.weights import Base

if TYPE_CHECKING:
    import optuna

FILE, LOSSES = "sweep.json", "losses.json"
HOPELESS = 0.02
"""How much worse than the best one, as a share of its loss, an arm has to be to be given up."""
Settings = tuple[tuple[str, str], ...]
"""Keys and values of an arm, in the order of the factors."""


@dataclass(frozen=True)
class Factor:
    """A key that is varied, and its values; the first is what the others are held against."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Design:
    """What is trained: arms by their settings, the reference first. Where `together` factors change at once, no cause can be named."""

    factors: tuple[Factor, ...]
    arms: tuple[Settings, ...]
    grid: bool
    together: bool


@dataclass
class Arm:
    """An arm as far as it was trained: its losses by seed, of shape (seeds, groups of rows), and why it was given up, if it was."""

    settings: Settings
    losses: list[list[float]] = field(default_factory=list)
    given_up: str = ""

    @property
    def name(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.settings)


@dataclass(frozen=True)
class Verdict:
    """One value of a factor against the reference value: the change of the held-out loss, nats a token; p adjusted over the whole sweep."""

    factor: str
    value: str
    reference: str
    change: Change
    adjusted: float
    seeds: int

    @property
    def shown(self) -> bool:
        return self.adjusted < 0.05

    def sentence(self) -> str:
        """What the factor does, how sure that is, and where nothing is shown what would have been."""
        found = self.change.interval
        what = f"{self.factor} {self.reference} -> {self.value}"
        if self.seeds < 2:
            return f"{what}: held-out loss {found.value:+.4f} nats a token with one seed, from which nothing can be said: give --seeds 2 or more"
        rests = f"(95 % interval {found.low:+.4f} to {found.high:+.4f}, {self.seeds} seeds, p {self.adjusted:.2g})"
        if self.shown:
            way, judged = ("lowers", "better") if found.value < 0 else ("raises", "worse")
            return f"{what} {way} the held-out loss by {abs(found.value):.4f} nats a token: {judged} {rests}"
        return f"{what}: no difference shown {rests}; {self.change.smallest:.4f} nats a token would have been seen four times out of five"


def design(path: Path, vary: Sequence[str], overrides: Sequence[str] = (), *, grid: bool = False, together: bool = False) -> Design:
    """The arms that `vary` (KEY=V1,V2,...) asks for: one factor at a time around the recipe's own values, a grid, or all factors together.

    Raises RecipeError for a factor that is not of training, has fewer than two values or comes twice, and for what the recipe does not take.
    """
    factors = tuple(factor_of(text, path, overrides) for text in vary)
    if len({f.key for f in factors}) < len(factors):
        raise RecipeError("a key is varied twice", "give all its values in one --vary KEY=V1,V2")
    if grid and together:
        raise RecipeError("--grid and --together exclude each other", "choose --grid, from which causes can be named")
    if together and len({len(f.values) for f in factors}) > 1:
        raise RecipeError("--together needs as many values of every key", ", ".join(f"{f.key} has {len(f.values)}" for f in factors))
    if grid:
        rows = list(itertools.product(*(f.values for f in factors)))
    elif together:
        rows = list(zip(*(f.values for f in factors), strict=True))
    else:
        first = tuple(f.values[0] for f in factors)
        rows = [first, *((*first[:n], value, *first[n + 1 :]) for n, f in enumerate(factors) for value in f.values[1:])]
    arms = tuple(tuple(zip((f.key for f in factors), row, strict=True)) for row in rows)
    for arm in arms:
        load_recipe(path, [*overrides, *(f"{key}={value}" for key, value in arm)])
    return Design(factors, arms, grid, together and len(factors) > 1)


def factor_of(text: str, path: Path, overrides: Sequence[str]) -> Factor:
    """A key with its values, the recipe's own first. RecipeError for a key that is not of training, or fewer than two values."""
    key, sign, listed = text.partition("=")
    values = tuple(dict.fromkeys(value.strip() for value in listed.split(",") if value.strip()))
    if not sign or not key or len(values) < 2:
        raise RecipeError(f"--vary {text}: not of the form KEY=V1,V2", "write for example --vary train.learning_rate=0.001,0.002")
    if not key.startswith("train.") or key in ("train.seed", "train.objective", "train.adapter"):
        raise RecipeError(f"--vary {key}: only settings of training can be varied, by which the same rows are learned", "vary for example train.learning_rate")
    own = own_value(path, key, overrides)
    return Factor(key, tuple(sorted(values, key=lambda value: yaml.safe_load(value) != own)))


def own_value(path: Path, key: str, overrides: Sequence[str]) -> object:
    """What the recipe itself has for the key."""
    at: object = load_recipe(path, overrides).recipe.model_dump(mode="json")
    for part in key.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return at


def run(
    path: Path, planned: Design, seeds: int, overrides: Sequence[str], out: Path, progress: Progress, crew: Crew | None = None
) -> tuple[list[Arm], list[Verdict]]:
    """Train every arm with so many seeds in `out`, as far as it is not done already, and judge. Whatever was trained before is reused.

    All arms are trained with one seed before any with the next: side by side where the crew has room, and with the same result however that comes.
    """
    arms, first = [Arm(settings) for settings in planned.arms], load_recipe(path, overrides).recipe.training_seed
    for number in range(seeds):
        weights = learn([arm for arm in arms if not arm.given_up], first + number, path, overrides, out, progress, crew)
        if number + 1 < seeds:
            _give_up(arms, weights)
            for arm in (arm for arm in arms if arm.given_up and len(arm.losses) == number + 1):
                progress.say(f"{arm.name} is given up: {arm.given_up}")
    verdicts = judge(planned, arms, weights)
    write(out, planned, arms, verdicts, weights)
    return arms, verdicts


def write(out: Path, planned: Design, arms: Sequence[Arm], verdicts: Sequence[Verdict], weights: Sequence[float]) -> None:
    """Write sweep.json: the arms with their losses by seed, in nats a token, the design and its verdicts."""
    document = {"arms": [{**asdict(arm), "losses": [sum(s) / sum(weights) for s in arm.losses]} for arm in arms], **told_as_json(planned, verdicts)}
    write_json(out / FILE, json.loads(json.dumps(document)))
    if elsewhere := storage.of(out):
        elsewhere.send_loose()


def learn(arms: Sequence[Arm], seed: int, path: Path, overrides: Sequence[str], out: Path, progress: Progress, crew: Crew | None = None) -> list[float]:
    """Train arms with one seed and note their losses; the tokens of each group of rows, of shape (groups,)."""
    recipes = [load_recipe(path, [*overrides, *(f"{key}={value}" for key, value in arm.settings), f"train.seed={seed}"]) for arm in arms]
    progress.say(f"seed {seed}: {len(arms)} arms")
    weights: list[float] = []
    for arm, walked in zip(arms, pipeline.side_by_side(recipes, out, _steps, progress, crew), strict=True):
        found = json.loads(walked.artifacts["losses"].file(LOSSES).read_text(encoding="utf-8"))
        arm.losses.append(found["nats"])
        weights = found["tokens"]
        progress.say(f"{arm.name}, seed {seed}: held-out loss {sum(found['nats']) / sum(weights):.4f} nats a token")
    return weights


def _steps(recipe: LoadedRecipe, base: Base) -> list[Step]:
    """What is done of an arm: rows, training, and its losses."""
    return [*(step for step in steps_of(recipe, base) if step.stage in ("data", "train")), losses_of(recipe, base)]


def mean(arm: Arm, weights: Sequence[float]) -> float:
    """Nats a token over all its seeds."""
    return sum(map(sum, arm.losses)) / len(arm.losses) / sum(weights)


def _give_up(arms: Sequence[Arm], weights: Sequence[float]) -> None:
    """Note of arms why they are hopeless: Optuna's Wilcoxon pruner finds their losses higher than the best one's, group by group of rows and by enough."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # its interface may change: the version is pinned
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.05, n_startup_steps=2)
    study = optuna.create_study(direction="minimize", pruner=pruner)

    def reported(arm: Arm) -> "optuna.Trial":
        trial = study.ask()
        for at, (loss, tokens) in enumerate((loss, tokens) for seed in arm.losses for loss, tokens in zip(seed, weights, strict=True)):
            trial.report(loss / tokens, at)
        return trial

    alive = [arm for arm in arms if not arm.given_up]
    best = min(alive, key=lambda arm: mean(arm, weights))
    least = mean(best, weights)
    study.tell(reported(best), least)
    for arm in alive:
        if arm is not best and mean(arm, weights) >= least * (1 + HOPELESS) and reported(arm).should_prune():
            arm.given_up = f"its loss {mean(arm, weights):.4f} is above the best arm's {least:.4f} on most rows"


def judge(planned: Design, arms: Sequence[Arm], weights: Sequence[float]) -> list[Verdict]:
    """For every factor each value against the reference value, over arms that are alike in all else; none where factors changed together."""
    if planned.together:
        return []
    by_settings = {arm.settings: arm for arm in arms}
    found: list[Verdict] = []
    for n, factor in enumerate(planned.factors):
        for value in factor.values[1:]:
            pairs = []
            for arm in arms:
                other = tuple((key, value if m == n else now) for m, (key, now) in enumerate(arm.settings))
                if arm.settings[n][1] == factor.values[0] and other in by_settings:
                    pairs.append((arm, by_settings[other]))
            seeds = min(len(arm.losses) for pair in pairs for arm in pair)
            before, after = ([_over([pair[side] for pair in pairs], seed) for seed in range(seeds)] for side in (0, 1))
            change = statistics.crossed_change(before, after, weights)
            found.append(Verdict(factor.key, value, factor.values[0], change, change.p, seeds))
    adjusted = statistics.holm([v.change.p for v in found])
    return [Verdict(v.factor, v.value, v.reference, v.change, p, v.seeds) for v, p in zip(found, adjusted, strict=True)]


def _over(arms: Sequence[Arm], seed: int) -> list[float]:
    """Losses by group of rows, averaged over arms."""
    return [sum(column) / len(arms) for column in zip(*(arm.losses[seed] for arm in arms), strict=True)]


def findings(planned: Design, arms: Sequence[Arm], verdicts: Sequence[Verdict]) -> list[Finding]:
    """The sentences of a sweep."""
    found = [Finding("note", verdict.sentence()) for verdict in verdicts]
    if planned.together:
        keys = " and ".join(f.key for f in planned.factors)
        found.append(Finding("warning", f"{keys} changed together: no cause can be named", cure="vary one at a time (leave --together out), or give --grid"))
    found += [Finding("note", f"{arm.name} was given up after {len(arm.losses)} seeds: {arm.given_up}") for arm in arms if arm.given_up]
    return found


def told_as_json(planned: Design, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """The design and its verdicts, for sweep.json and --json."""
    measures: list[Measure] = [measured(f"sweep.{v.factor}", v.value, v.change.interval, "nats a token") for v in verdicts]
    return {
        "factors": [asdict(f) for f in planned.factors],
        "grid": planned.grid,
        "together": planned.together,
        "verdicts": [{**asdict(m), "reference": v.reference, "p": v.adjusted, "sentence": v.sentence()} for v, m in zip(verdicts, measures, strict=True)],
    }


def told(planned: Design, arms: Sequence[Arm], verdicts: Sequence[Verdict], out: Path) -> str:
    """A line an arm, and the sentences."""
    kept = json.loads((out / FILE).read_text(encoding="utf-8"))["arms"]
    width = max(len(arm.name) for arm in arms)
    lines = [f"{arm.name:{width}}  {sum(k['losses']) / len(k['losses']):.4f} nats a token, {len(k['losses'])} seeds" for arm, k in zip(arms, kept, strict=True)]
    lines += [
        f"{f.severity + ': ' if f.severity == 'warning' else ''}{f.what}" + f"\n  cure: {f.cure}" * bool(f.cure) for f in findings(planned, arms, verdicts)
    ]
    return "\n".join([*lines, f"written: {out / FILE}"])
