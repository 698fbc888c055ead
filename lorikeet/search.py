"""A search for better settings of training: Optuna proposes, each proposal is trained with one seed, and the best is held against the recipe's own with others.

The further seeds alone judge, since the best of many with one seed is partly the luckiest. Proposals come in batches of one size, whoever trains them, so that
a search gives the same on any number of nodes.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorikeet import statistics
from lorikeet.crew import Crew
from lorikeet.errors import RecipeError
from lorikeet.progress import Progress
from lorikeet.recipe import load_recipe
from lorikeet.sweep import Arm, Design, Factor, Settings, Verdict, factor_of, learn, mean, own_value, write

if TYPE_CHECKING:
    import optuna

AT_ONCE = 4
"""Proposals that are made together, before any of them is trained: a larger batch keeps more nodes busy, and learns less from the ones before."""
_RANGE = re.compile(r"([\d.eE+-]+)\.\.([\d.eE+-]+)")
_DECADE = 10
"""A range over such a factor or more is searched by orders of magnitude."""


@dataclass(frozen=True)
class Room:
    """A key, and where its values are looked for: from `low` to `high`, in whole numbers or not, or among `values`."""

    key: str
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    values: tuple[str, ...] = ()

    def proposed(self, trial: "optuna.Trial") -> str:
        """A value, as a recipe writes it."""
        far = self.low > 0 and self.high / self.low >= _DECADE
        if self.values:
            return str(trial.suggest_categorical(self.key, self.values))
        if self.whole:
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), log=far))
        return f"{trial.suggest_float(self.key, self.low, self.high, log=far):.4g}"


def rooms(path: Path, vary: Sequence[str], overrides: Sequence[str]) -> list[Room]:
    """Where is searched: KEY=LOW..HIGH, or KEY=V1,V2,.... RecipeError for what is neither, or what the recipe does not take."""
    found = []
    for text in vary:
        key, _, wide = text.partition("=")
        if not (ends := _RANGE.fullmatch(wide.strip())):
            factor = factor_of(text, path, overrides)
            found.append(Room(factor.key, values=factor.values))
            continue
        try:
            low, high = float(ends[1]), float(ends[2])
        except ValueError:
            low = high = 0.0
        if low >= high:
            raise RecipeError(f"--vary {text}: {wide} is no range", "write the lower end first, for example --vary train.learning_rate=0.0003..0.01")
        factor_of(f"{key}={ends[1]},{ends[2]}", path, overrides)
        found.append(Room(key, low, high, whole=not re.search(r"[.eE]", ends[1] + ends[2])))
    if len({room.key for room in found}) < len(found):
        raise RecipeError("a key is varied twice", "give all its values in one --vary")
    for room in found:
        for value in room.values or (str(int(room.low)) if room.whole else str(room.low), str(int(room.high)) if room.whole else str(room.high)):
            load_recipe(path, [*overrides, f"{room.key}={value}"])
    return found


def run(
    path: Path, where: Sequence[Room], number: int, seeds: int, overrides: Sequence[str], out: Path, progress: Progress, crew: Crew | None = None
) -> tuple[Design, list[Arm], list[Verdict]]:
    """Train `number` proposals in `out`, as far as they are not done already, and judge the best of them with so many further seeds.

    The recipe's own settings are trained beside the first ones. Without further seeds, or where nothing was better, there is no verdict.
    """
    recipe = load_recipe(path, overrides).recipe
    own = Arm(tuple((room.key, _told(own_value(path, room.key, overrides))) for room in where))
    arms, first = {own.settings: own}, recipe.training_seed

    def train(some: Sequence[Arm], seed: int) -> list[float]:
        return learn(some, seed, path, overrides, out, progress, crew)

    weights = _propose(arms, where, number, recipe.seed, lambda some: train(some, first))
    best = min(arms.values(), key=lambda arm: mean(arm, weights))
    verdicts = []
    if best is not own and seeds:
        for further in range(1, seeds + 1):
            train([own, best], first + further)
        verdicts = [_judged(own, best, weights)]
    planned = Design(tuple(Factor(room.key, tuple(dict(arm.settings)[room.key] for arm in arms.values())) for room in where), tuple(arms), False, False)
    write(out, planned, list(arms.values()), verdicts, weights)
    return planned, list(arms.values()), verdicts


def _propose(arms: dict[Settings, Arm], where: Sequence[Room], number: int, seed: int, train: Callable[[Sequence[Arm]], list[float]]) -> list[float]:
    """Have proposals trained, batch by batch, and add them to the arms; the weights of the groups of rows."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(AT_ONCE, number // 3), constant_liar=True)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    (own,) = arms.values()
    weights: list[float] = []
    while (left := number - len(study.trials)) > 0:
        trials = [study.ask() for _ in range(min(AT_ONCE, left))]
        asked = [tuple((room.key, room.proposed(trial)) for room in where) for trial in trials]
        fresh = [arms.setdefault(settings, Arm(settings)) for settings in dict.fromkeys(asked) if settings not in arms]
        if waiting := ([own] if not own.losses else []) + fresh:
            weights = train(waiting)
        for trial, settings in zip(trials, asked, strict=True):
            study.tell(trial, mean(arms[settings], weights))
    return weights


def _judged(own: Arm, best: Arm, weights: Sequence[float]) -> Verdict:
    change = statistics.crossed_change(own.losses[1:], best.losses[1:], weights)
    one = len(own.settings) == 1
    factor, reference, value = (own.settings[0][0], own.settings[0][1], best.settings[0][1]) if one else ("settings:", own.name, best.name)
    return Verdict(factor, value, reference, change, change.p, len(own.losses) - 1)


def _told(value: object) -> str:
    """A value as --set takes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
