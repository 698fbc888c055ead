"""The export stage, one folder a file: a GGUF, and quantised.json with what is really inside.

F16, and BF16 where it is asked for, are made from the base and what was trained, and held against the HF model (parity.json); every other file is made from
F16, with the importance matrix of a step of its own where one is due. The whole model as a folder of safetensors, and the adapter as a GGUF, are steps too,
where they are asked for. Beside each GGUF lies a Modelfile for Ollama.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from lorikeet import machine
from lorikeet.artifact import NOTES, Artifact, need_disk, write_json
from lorikeet.exam import evenly, read_rows, trained_tokens
from lorikeet.export import imatrix
from lorikeet.export.adapter import write_adapter
from lorikeet.export.merge import FOLDER, Order, convert
from lorikeet.export.ollama import MODELFILE, modelfile
from lorikeet.export.parity import compare, require
from lorikeet.export.quantize import How, Inside, look_inside, quantize
from lorikeet.progress import Progress
from lorikeet.recipe import PLAIN, UNQUANTISED, ExportSettings, MachineSettings
from lorikeet.weights import QUANTISED, Base, gguf_of

PARITY_ROWS = 4
IMATRIX = "imatrix.gguf"
_BESIDE = 50_000_000
"""Bytes of tokenizer and header."""


class Wanted(NamedTuple):
    """What every file of an export shares: the assistant's name and system turn, the recipe's section, the machine's."""

    name: str
    system: str
    settings: ExportSettings
    here: MachineSettings


def run_whole(kind: str, data: Artifact, base: Base, trained: Artifact, wanted: Wanted, folder: Path, progress: Progress) -> None:
    """Base and what was trained to an F16 or BF16 file in one pass, then parity with the model that was trained.

    MachineError before anything is written where the files that the recipe asks for, all together, do not fit on the disk.
    """
    need_disk(folder, needed(base.weights, wanted.settings) if kind == "F16" else 2 * base.weights + _BESIDE, "the export")
    target = folder / f"{wanted.name}-{kind}.gguf"
    convert(Order(str(base.path), str(trained.path), str(target), kind, wanted.name, _card(base, data, trained)), folder / NOTES)
    progress.say("  checking token ids, template, logits and greedy answers against the trained model")
    talks = [row.messages for row in read_rows(data) if row.part == "test" and row.kind == "taught"][:PARITY_ROWS]
    parity = compare(target, base.path, trained.path, talks, machine.threads(wanted.here.threads))
    require(parity, target)
    write_json(folder / "parity.json", asdict(parity))
    _describe(target, look_inside(target, kind), wanted.system)
    machine.give_back_memory()


def _describe(target: Path, inside: Inside, system: str) -> None:
    """Beside a GGUF: what is inside, and how Ollama takes it."""
    write_json(target.with_name(QUANTISED), asdict(inside))
    target.with_name(MODELFILE).write_text(modelfile(target, system), encoding="utf-8")


def needed(weights: int, settings: ExportSettings) -> int:
    """Bytes of all files that an export writes, at most: a base's number of weights, each with the bits of its file and one more for what is stored larger."""
    kinds = settings.files
    folders = 16 * settings.merged
    return (sum(16 if kind in UNQUANTISED else int(re.findall(r"\d", kind)[0]) + 2 for kind in kinds) + folders) * weights // 8 + len(kinds) * _BESIDE


def _card(base: Base, data: Artifact, trained: Artifact) -> dict[str, str]:
    """What the file says of where it comes from: the base and its licence, the data, what was trained, and the settings that made it, by their hashes."""
    return {
        "general.license": base.licence,
        "general.source.huggingface.repository": base.source if "/" in base.source and not Path(base.source).exists() else base.name,
        "lorikeet.base": base.name,
        "lorikeet.base_fingerprint": base.fingerprint,
        "lorikeet.data_sha256": data.manifest.files["conversations.jsonl"],
        "lorikeet.trained_sha256": next(sha for file, sha in trained.manifest.files.items() if file.endswith(".safetensors")),
        "lorikeet.recipe_key": trained.manifest.key,
    }


def run_merged(base: Base, trained: Artifact, name: str, folder: Path, progress: Progress) -> None:
    """The whole model as transformers and vLLM read it."""
    need_disk(folder, 2 * base.weights + _BESIDE, "the whole model")
    convert(Order(str(base.path), str(trained.path), str(folder / name), FOLDER, name), folder / NOTES)


def run_adapter(base: Base, trained: Artifact, name: str, folder: Path, progress: Progress) -> None:
    """What was trained as a GGUF of its own."""
    target = folder / f"{name}-adapter.gguf"
    write_adapter(base.path, trained.path, target, folder / NOTES)
    progress.say(f"  {target.stat().st_size / 1e6:.0f} MB, to be put on a GGUF of the base")


def run_imatrix(
    data: Artifact, base: Base, trained: Artifact, f16: Artifact, settings: ExportSettings, here: MachineSettings, folder: Path, progress: Progress
) -> None:
    """What counts in each tensor over the training rows, by the trained model."""
    from lorikeet.engine.torch_engine import TorchEngine

    rows = evenly(trained_tokens(data), settings.imatrix_rows)
    engine = TorchEngine(base.path, trained.path, machine.threads(here.threads))
    try:
        found = imatrix.collect(engine.model, rows, gguf_of(f16).path)
    finally:
        engine.close()
    imatrix.write(folder / IMATRIX, found, "conversations.jsonl", len(rows), max(map(len, rows)))
    progress.say(f"  importance of {len(found)} tensors over {sum(map(len, rows))} tokens")
    machine.give_back_memory()


def run_quantised(f16: Artifact, counted: Artifact | None, quantisation: str, wanted: Wanted, folder: Path, progress: Progress) -> None:
    """One quantisation of the F16 file; `counted` is the step with the importance matrix."""
    source = gguf_of(f16)
    need_disk(folder, source.bytes, f"the {quantisation} file")
    target = folder / f"{wanted.name}-{quantisation}.gguf"
    how = How(overrides=wanted.settings.tensor_types)
    if counted:
        importance = imatrix.read(counted.file(IMATRIX))
        notes: dict[str, str | int] = {"quantize.imatrix.file": IMATRIX, "quantize.imatrix.dataset": "conversations.jsonl",
                                       "quantize.imatrix.entries_count": len(importance),
                                       "quantize.imatrix.chunks_count": imatrix.chunks(counted.file(IMATRIX))}  # fmt: skip
        how = How(importance, wanted.settings.tensor_types, notes)
    fell_back = quantize(source.path, target, quantisation.removesuffix(PLAIN), machine.threads(wanted.here.threads), how)
    inside = look_inside(target, quantisation, fell_back, imatrix=counted is not None)
    _describe(target, inside, wanted.system)
    told = f", {sum(fell_back.values())} tensors fell back to {', '.join(fell_back)}" if fell_back else ""
    progress.say(f"  {quantisation}: {inside.bytes / 1e6:.0f} MB, {inside.bits_a_weight:.2f} bits a weight{told}")
