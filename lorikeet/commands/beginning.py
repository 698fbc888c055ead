"""What comes before a run: a folder to edit, a look at rows, the bases, the machine."""

import argparse
import re
from pathlib import Path

from lorikeet.commands import tell
from lorikeet.errors import RecipeError, RefusedError

ALSO_CALLED = {"tutor": "ml-tutor", "quiz": "ml-tutor"}
"""What `init --like` calls a recipe by its use: the tutor's folder holds the quiz."""


def bundled(name: str) -> Path:
    """The folder of a recipe that ships with Lorikeet; RecipeError with the names there are."""
    import importlib.util

    spec = importlib.util.find_spec("lorikeet_recipes")
    places = [Path(__file__).parents[2] / "recipes", *(Path(p) for p in (spec.submodule_search_locations or [] if spec else []))]
    found = {p.parent.name: p.parent for place in reversed(places) for p in place.glob("*/recipe.yaml")}
    name = ALSO_CALLED.get(name, name)
    if name not in found:
        raise RecipeError(f"no recipe {name!r} ships with Lorikeet", f"use one of: {', '.join(sorted(found))}")
    return found[name]


def init(arguments: argparse.Namespace) -> int:
    """`lorikeet init`."""
    import shutil

    from lorikeet.recipe import NAME

    source, target = bundled(arguments.like), Path(arguments.name)
    if not re.fullmatch(NAME, target.name):
        raise RecipeError(f"{target.name!r} cannot be an assistant's name", "use lower-case letters, digits and hyphens, such as my-assistant")
    if target.exists():
        raise RecipeError(f"{target} exists already", "choose another name, or remove the folder")
    try:
        shutil.copytree(source, target)
    except OSError as error:
        raise RecipeError(f"{target} cannot be made: {error.strerror or error}", "choose a folder that you may write to") from error
    recipe = target / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8").replace(f"\nname: {source.name}\n", f"\nname: {target.name}\n", 1)
    recipe.write_text(text, encoding="utf-8")
    tell(arguments, {"folder": str(target), "recipe": str(recipe)}, f"{target}: edit data/, suite.yaml and persona.yaml, then run: lorikeet run {recipe}")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """`lorikeet check`."""
    from lorikeet.data import fix, inspect
    from lorikeet.progress import Terminal

    recipes = [Path(name) for name in arguments.what if Path(name).suffix in (".yaml", ".yml")]
    if recipes and len(arguments.what) > 1:
        raise RecipeError(f"{recipes[0]} is a recipe, which names its own files of rows", "check one recipe at a time, or files of rows alone")
    if recipes and (arguments.base or arguments.rows):
        raise RecipeError("--base and --rows are for files of rows", "the recipe names its own: base, data.rows")
    if arguments.show and not recipes and not arguments.base:
        raise RecipeError("--show needs the base whose chat template is used", "run: lorikeet check FILE --show N --base smollm2-135m; or check a recipe")
    if recipes:
        inspection = inspect.recipe(recipes[0], Terminal(), arguments.show)
    else:
        inspection = inspect.files(arguments.what, Terminal(), arguments.base or "", arguments.rows, arguments.show)
    text, document = inspect.told(inspection), inspection.document()
    refused, errors = inspection.refused, inspection.errors
    if arguments.fix and (usable := inspection.usable(Terminal())):
        fixed = fix.fix(inspection.files, usable, inspection.long, arguments.fix, Terminal())
        text, document = f"{text}\n{fix.told(fixed)}", {**document, "fixed": fixed.document()}
        refused, errors = 0, fixed.errors
    tell(arguments, document, text)
    if refused or errors:
        raise RefusedError(
            f"rows refused: {refused}, errors: {errors}; this must not be trained on", "mend what is listed above, or let --fix FOLDER write a cleaned copy"
        )
    if not any(file.read for file in inspection.files):
        raise RefusedError("there is no row to train on", "add rows: one JSON object a line")
    return 0


def bases(arguments: argparse.Namespace) -> int:
    """`lorikeet bases`."""
    from lorikeet import bases

    rows = bases.listed()
    lines = [f"{r['name']:14} {r['parameters'] / 1e6:5.0f}M  {r['licence']:12} {r['from']:28} {r['here']:14} {r['tuning']}" for r in rows]
    tell(arguments, {"bases": rows}, "\n".join(lines) + "\nalso: a .gguf file, a folder with safetensors, or a Hub id (owner/name[@revision])")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """`lorikeet doctor`."""
    from dataclasses import asdict

    from lorikeet import doctor

    checks = doctor.examine(Path.cwd())
    tell(arguments, {"checks": [asdict(check) for check in checks]}, doctor.told(checks))
    return RefusedError.exit_code if any(check.severity == "missing" for check in checks) else 0
