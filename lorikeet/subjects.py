"""What can be asked: a base, an adapter or a whole model that was trained, a GGUF, a run's files, an endpoint. One name opens any of them as an engine."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorikeet import bases, released
from lorikeet.artifact import RUN, Artifact, load
from lorikeet.engine import Engine
from lorikeet.errors import ModelError, RecipeError
from lorikeet.exam import read_rows, trained_questions
from lorikeet.progress import Progress
from lorikeet.weights import ADAPTER_CONFIG, NAMED, gguf_file, require_base_of

TORCH = ("base", "tuned")
"""What stands behind the colon of a run for its models before export."""


@dataclass(frozen=True)
class Subject:
    """Something that answers: a short name, and how it is opened. prompt: the system turn in a mode, of an assistant that has one; trained_on: questions that
    it learned, folded, and where each stands, as far as that is known.
    """

    name: str
    what: str
    open: Callable[[], Engine]
    prompt: Callable[[str], str] | None = None
    trained_on: Mapping[str, str] = field(default_factory=dict)


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
    if (path / ADAPTER_CONFIG).is_file():
        on = base or str(json.loads((path / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
        if not base and on not in NAMED and not Path(on).exists():
            raise RecipeError(f"{path} is an adapter, and its base {on!r} is not here", "name its base: --base FOLDER, GGUF file or name")
        prepared = bases.prepare(on, progress)
        require_base_of(path, prepared)
        return Subject(path.resolve().name, f"adapter on {prepared.name}", lambda: _torch(prepared.path, path, threads))
    prepared = bases.prepare(spec, progress)
    return Subject(prepared.name, f"{prepared.name}, as it comes", lambda: _torch(prepared.path, None, threads))


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
        trained = steps.get("train") if part == "tuned" else None
        if part == "tuned" and (trained is None or not trained.is_dir()):
            raise ModelError(f"{run} has no trained model yet", "let the run go on: lorikeet train RECIPE")
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

    return Subject(model or url.split("//", 1)[1].split("/")[0], url, opened)


def _gguf(path: Path, threads: int) -> Engine:
    from lorikeet.engine.llamacpp import LlamaCppEngine

    return LlamaCppEngine(path, threads)


def _torch(base: Path, trained: Path | None, threads: int) -> Engine:
    from lorikeet.engine.torch_engine import TorchEngine

    return TorchEngine(base, trained, threads)
