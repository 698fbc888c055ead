"""What can be asked: a base, an adapter or a whole model that was trained, a GGUF, a run's files, an endpoint. One name opens any of them as an engine."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lorikeet import bases, released
from lorikeet.artifact import RUN, Artifact, load
from lorikeet.conversation import Message
from lorikeet.engine import Engine
from lorikeet.errors import ModelError, RecipeError
from lorikeet.exam import read_rows, trained_questions
from lorikeet.progress import Progress
from lorikeet.weights import ADAPTER_CONFIG, NAMED, Base, gguf_file, require_base_of

TORCH = ("base", "tuned")
"""What stands behind the colon of a run for its models before export."""


@dataclass(frozen=True)
class Subject:
    """Something that answers: a short name, and how it is opened. prompt: the system turn in a mode, of an assistant that has one; trained_on: questions that
    it learned, folded, and where each stands, as far as that is known. identity: what its answers are kept by, where asking again would cost; else empty.
    """

    name: str
    what: str
    open: Callable[[], Engine]
    prompt: Callable[[str], str] | None = None
    trained_on: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""


def subject(spec: str, base: str, threads: int, progress: Progress) -> Subject:
    """The subject that `spec` names.

    spec: a run folder, alone (the file it recommends) or with a quantisation, `base` or `tuned` behind a colon; a .gguf file; a folder of safetensors; an
    adapter's folder, on `base`; the name of a base; or http://HOST/v1#MODEL. Raises RecipeError for a name that means nothing.
    """
    if spec.startswith(("http://", "https://")):
        return _endpoint(spec)
    place, colon, part = spec.rpartition(":")
    run = Path(place if colon and (Path(place) / RUN).is_file() else spec)
    if (run / RUN).is_file():
        return _of_run(run, part if str(run) == place else "", threads, progress)
    path = Path(spec)
    if path.suffix == ".gguf":
        gguf = gguf_file(path)
        return Subject(path.stem, f"{path.name}, sha256 {gguf.sha256[:12]}", lambda: _gguf(path, threads))
    prepared, adapter = _weights(path, base, progress) if (path / ADAPTER_CONFIG).is_file() else (bases.prepare(spec, progress), None)
    name, what = (path.resolve().name, f"adapter on {prepared.name}") if adapter else (prepared.name, f"{prepared.name}, as it comes")
    return Subject(name, what, lambda: _torch(prepared.path, adapter, threads))


def _weights(adapter: Path, base: str, progress: Progress) -> tuple[Base, Path]:
    """An adapter's base, which is `base` or else the one that the adapter names, and the adapter."""
    on = base or str(json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
    if not base and on not in NAMED and not Path(on).exists():
        raise RecipeError(f"{adapter} is an adapter, and its base {on!r} is not here", "name its base: --base FOLDER, GGUF file or name")
    prepared = bases.prepare(on, progress)
    require_base_of(adapter, prepared)
    return prepared, adapter


class Held(NamedTuple):
    """An HF model that a GGUF is held against: the folder of its base, what was trained, and conversations that it was not trained on, if there are any."""

    base: Path
    trained: Path | None
    conversations: list[tuple[Message, ...]]


def held_against(spec: str, base: str, progress: Progress) -> Held:
    """The HF model that `spec` names: a run, an adapter's folder on `base`, a folder of safetensors as it is, or the name of a base."""
    path = Path(spec)
    if (path / RUN).is_file():
        document = json.loads((path / RUN).read_text(encoding="utf-8"))
        steps = {step["name"]: path / step["folder"] for step in document["steps"] if step["status"] != "failed"}
        data = load(steps["data"]) if "data" in steps else None
        talks = [row.messages for row in read_rows(data) if row.part == "test" and row.kind == "taught"] if data else []
        return Held(bases.prepare(_base_of(path, document), progress).path, _trained(path, steps), talks)
    if (path / ADAPTER_CONFIG).is_file():
        prepared, adapter = _weights(path, base, progress)
        return Held(prepared.path, adapter, [])
    return Held(path if (path / "config.json").is_file() else bases.prepare(spec, progress).path, None, [])


def _trained(run: Path, steps: Mapping[str, Path]) -> Path:
    trained = steps.get("train")
    if trained is None or not trained.is_dir():
        raise ModelError(f"{run} has no trained model yet", "let the run go on: lorikeet train RECIPE")
    return trained


def _of_run(run: Path, part: str, threads: int, progress: Progress) -> Subject:
    document = json.loads((run / RUN).read_text(encoding="utf-8"))
    steps = {step["name"]: run / step["folder"] for step in document["steps"] if step["status"] != "failed"}
    learned = _learned(load(steps["data"]) if "data" in steps else None)
    modes = {str(name): str(text) for name, text in document["modes"].items()}

    def prompt(mode: str) -> str:
        if mode and mode not in modes:
            raise RecipeError(f"a probe asks for the mode {mode!r}, which {run} does not have", f"its modes: {', '.join(modes) or 'none'}")
        return modes[mode] if mode else str(document["system"])

    name = f"{run.resolve().name}:{part}" if part else run.resolve().name
    if part in TORCH:
        trained = _trained(run, steps) if part == "tuned" else None
        based = bases.prepare(_base_of(run, document), progress)
        return Subject(name, f"{based.name}{', tuned' if trained else ', as it comes'}, before export", lambda: _torch(based.path, trained, threads),
                       prompt, learned if trained else {})  # fmt: skip
    served = released.find(run, unreleased=True, quantisation=part or None)
    about = f"{served.quantisation}, {served.verdict}, sha256 {served.sha256[:12]}"
    return Subject(name, about, lambda: _gguf(served.path, threads), prompt, learned)


def _base_of(run: Path, document: Mapping[str, Mapping[str, str]]) -> str:
    """What the run's base was named by."""
    import yaml

    resolved = yaml.safe_load((run / "recipe.resolved.yaml").read_text(encoding="utf-8"))
    return str(resolved["base"])


def _learned(data: Artifact | None) -> dict[str, str]:
    return trained_questions(read_rows(data)) if data else {}


def _endpoint(spec: str) -> Subject:
    url, _, model = spec.partition("#")

    def opened() -> Engine:
        from lorikeet.engine.endpoint import endpoint

        return endpoint(spec)

    return Subject(model or url.split("//", 1)[1].split("/")[0], url, opened, identity=spec)


def _gguf(path: Path, threads: int) -> Engine:
    from lorikeet.engine.llamacpp import LlamaCppEngine

    return LlamaCppEngine(path, threads)


def _torch(base: Path, trained: Path | None, threads: int) -> Engine:
    from lorikeet.engine.torch_engine import TorchEngine

    return TorchEngine(base, trained, threads)
