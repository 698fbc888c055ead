"""YAML that people write, read into a pydantic model, with errors that name the line and the nearest right key."""

import difflib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lorikeet.errors import RecipeError

Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, but a key that stands twice is an error instead of a silent loss."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, object]:
    """The mapping in a YAML file; RecipeError where there is no file, no YAML or no mapping."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist", "check the path; `lorikeet init NAME` makes a folder to start from") from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a folder", f"name the file in it, such as {path / 'recipe.yaml'}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "save it as UTF-8 text") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f":{place.line + 1}" if place else ""
        raise RecipeError(f"{path}{line}: this is not valid YAML: {_first_line(error)}", "mend the line; indent with spaces") from error
    if not isinstance(value, dict):
        raise RecipeError(f"{path} holds no keys", "write `key: value` lines; see docs/recipe.md")
    return value


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into `model`."""
    return validated(read_mapping(path), model, path)


def validated(value: Mapping[str, object], model: type[Model], path: Path, overrides: Sequence[str] = ()) -> Model:
    """Build `model` from a mapping that was read from `path`, `a.b=value` overrides applied; RecipeError for the first thing that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = next((e for e in error.errors() if e["type"] == "extra_forbidden"), error.errors()[0])
        where = [str(part) for part in first["loc"]]
        dotted = ".".join(where)
        override = next((o for o in reversed(overrides) if f"{dotted}.".startswith(f"{o.partition('=')[0]}.")), None)
        place = f"--set {override}" if override else f"{path}{_line_of(path, first['loc'])}"
        if first["type"] == "extra_forbidden":
            known = _keys_at(model, where[:-1])
            elsewhere = [key for key in _dotted_keys(model) if key.rpartition(".")[2] == where[-1]]
            near = elsewhere or difflib.get_close_matches(where[-1], known, n=1, cutoff=0.5)
            cure = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(sorted(known))}"
            raise RecipeError(f"{place}: unknown key {dotted!r}", cure) from None
        if first["type"] == "missing":
            raise RecipeError(f"{place}: {dotted!r} is missing", f"add {where[-1]!r}; see docs/recipe.md") from None
        if first["type"] in _SHAPES:
            raise RecipeError(
                f"{place}: {dotted} = {_short(first['input'])}: {_SHAPES[first['type']][0]} has to stand here", _SHAPES[first["type"]][1]
            ) from None
        raise RecipeError(
            f"{place}: {dotted} = {_short(first['input'])}: {first['msg'].removeprefix('Value error, ')}", "correct the value; see docs/recipe.md"
        ) from None


_SECTION = ("a section with keys of its own", "write its keys below it, each on a line that is indented")
_SHAPES = {"list_type": ("a list", "write it in brackets, such as [one, two]"), "model_type": _SECTION, "dict_type": _SECTION}
"""Pydantic's errors about the shape of a value: what has to stand there, and how it is written."""


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All keys in the sections of a model, as section.key."""
    keys = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += [f"{prefix}{name}.{key}" for key in field.annotation.model_fields] + _dotted_keys(field.annotation, f"{prefix}{name}.")
    return keys


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _keys_at(model: type[BaseModel], where: Sequence[str]) -> list[str]:
    for part in where:
        if part in model.model_fields:
            inner = model.model_fields[part].annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
                continue
            found = _inner_model(inner)
            if found is not None:
                model = found
    return list(model.model_fields)


def _inner_model(annotation: object) -> type[BaseModel] | None:
    """The pydantic model inside list[X] or dict[str, X], if there is one."""
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None


def _line_of(path: Path, where: Sequence[str | int]) -> str:
    """':LINE' of the key in the file, as near as the file allows; empty where the value came from elsewhere."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return ""
    line = None
    for part in where:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return f":{line}" if line else ""
