"""A run once more with one thing changed, so that a difference has one cause: which change, and whether all else is as it was."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lorikeet import bases, diff, processes
from lorikeet.diagnosis import Remedy, diagnose, read_log, remedies
from lorikeet.errors import RecipeError
from lorikeet.progress import Progress
from lorikeet.recipe import LoadedRecipe, recipe_of
from lorikeet.yaml_file import read_mapping


@dataclass(frozen=True)
class Rerun:
    """What is to be run, where and how far; the change as KEY=VALUE, and the finding that advises it."""

    recipe: LoadedRecipe
    directory: Path
    until: str
    change: str
    why: str


def plan(run: Path, changes: Sequence[str], out: Path | None, progress: Progress) -> Rerun:
    """The recipe that `run` was made from, one thing changed: what is asked for, or what the diagnosis of its training advises.

    Raises RecipeError where more than one thing would change, nothing would, nothing is advised, or a file is not what it was.
    """
    if len(changes) > 1:
        raise RecipeError(f"{len(changes)} changes are asked for: no cause could be named", "make one change at a time: one --change a run")
    told = diff.run_of(run)
    before = as_it_was(run, Path(told["recipe"]), progress)
    change, why = (changes[0], "") if changes else _advised(run, before)
    try:
        after = recipe_of(settings_of(run), before.path, [change])
    except RecipeError as error:
        raise RecipeError(error.message.replace("--set ", "--change ", 1), error.cure) from error
    _one_change(change, before, after)
    directory = out or run.with_name(f"{run.resolve().name}-{_file_name(change)}")
    if directory.resolve() == run.resolve():
        raise RecipeError(f"{run} is the run that this one is compared with", "choose another folder with --out")
    if not told["steps"]:
        raise RecipeError(f"{run} did not reach its first step", f"run its recipe first: lorikeet run {before.path}")
    return Rerun(after, directory, str(told["steps"][-1]["name"]).partition("-")[0], change, why)


def settings_of(run: Path) -> dict[str, object]:
    tree = read_mapping(run / diff.RESOLVED)
    tree.pop("pinned", None)
    return tree


def as_it_was(run: Path, path: Path, progress: Progress, why: str = "no cause could be named") -> LoadedRecipe:
    """The recipe as it was resolved; RecipeError where a file that it names, or the base, has changed since. why: what then could not be done."""
    pinned = read_mapping(run / diff.RESOLVED).get("pinned")
    if not isinstance(pinned, dict):
        raise RecipeError(f"{run / diff.RESOLVED} does not say which files it was made from", f"make the run anew: lorikeet run {path}")
    recipe = recipe_of(settings_of(run), path)
    base = pinned["base"] if processes.rank() else bases.prepare(recipe.recipe.base, progress).fingerprint
    now = {**recipe.hashes, "base": base}
    if changed := sorted(key for key in pinned.keys() | now.keys() if pinned.get(key) != now.get(key)):
        raise RecipeError(f"{', '.join(changed)}: not what {run} was made from, so that {why}",
                          f"put it back, or make the first run anew: lorikeet run {path}")  # fmt: skip
    return recipe


def _advised(run: Path, recipe: LoadedRecipe) -> tuple[str, str]:
    """The first change that a finding names and that would change something, with the finding."""
    log = read_log(run)
    for finding in diagnose(log):
        for remedy in remedies(log, finding):
            if change := _as_change(remedy, recipe):
                return change, f"{finding.code}: {finding.what}"
    raise RecipeError(f"nothing is advised: the training of {run} shows no fault that one setting would mend",
                      "name the change: --change train.learning_rate=0.001")  # fmt: skip


def _as_change(remedy: Remedy, recipe: LoadedRecipe) -> str:
    now = dict(_leaves(recipe.recipe)).get(remedy.key)
    value = remedy.value
    if remedy.factor is not None and isinstance(now, int | float):
        value = float(f"{now * remedy.factor:.2g}")
    return "" if value is None or value == now else f"{remedy.key}={value:g}" if isinstance(value, float) else f"{remedy.key}={value}"


def _leaves(model: BaseModel, before: str = "") -> Iterator[tuple[str, object]]:
    """Every setting by its dotted key."""
    for name in type(model).model_fields:
        value: Any = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


def _one_change(change: str, before: LoadedRecipe, after: LoadedRecipe) -> None:
    old, new = dict(_leaves(before.recipe)), dict(_leaves(after.recipe))
    changed = [key for key in old if old[key] != new[key]]
    if not changed:
        raise RecipeError(f"--change {change}: it is so already", "choose another value")
    if len(changed) > 1:
        raise RecipeError(f"--change {change}: this changes {', '.join(changed)}: no cause could be named", "name one key, such as train.epochs=2")


def _file_name(change: str) -> str:
    key, _, value = change.partition("=")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", f"{key}-{Path(value).name}").strip("_")


def held_out(first: Path, second: Path) -> tuple[float, float] | None:
    """The best held-out losses of two runs, where both were measured on the same rows."""
    trained = [diff.made_in(run).get("train") for run in (first, second)]
    if not trained[0] or not trained[1] or trained[0].manifest.inputs["data"] != trained[1].manifest.inputs["data"]:
        return None
    best = [min((point.loss for point in read_log(made.path).held_out), default=None) for made in trained if made]
    return (best[0], best[1]) if best[0] is not None and best[1] is not None else None
