"""The export stage, one folder a quantisation: a GGUF, and quantised.json with what is really inside.

F16 is made from the base and what was trained, and held against the HF model (parity.json); every other file is made from F16.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from lorikeet import machine, process
from lorikeet.artifact import NOTES, Artifact, need_disk, write_json
from lorikeet.exam import read_rows
from lorikeet.export.parity import compare, require
from lorikeet.export.quantize import look_inside, quantize
from lorikeet.progress import Progress
from lorikeet.recipe import MachineSettings
from lorikeet.weights import QUANTISED, Base, gguf_of

PARITY_ROWS = 4


def run_f16(data: Artifact, base: Base, trained: Artifact, name: str, here: MachineSettings, folder: Path, progress: Progress) -> None:
    """Base and what was trained to F16 in one pass, then parity with the model that was trained."""
    need_disk(folder, 2 * base.weights + 50_000_000, "the F16 file")
    target = folder / f"{name}-F16.gguf"
    process.run(
        [sys.executable, "-m", "lorikeet.export.merge", str(base.path), str(trained.path), str(target), name],
        folder / NOTES / "converter.log",
        "read the converter's log in the folder's notes; the base's architecture may be unknown to it",
    )
    progress.say("  checking token ids, template and logits against the trained model")
    talks = [row.messages for row in read_rows(data) if row.part == "test" and row.kind == "taught"][:PARITY_ROWS]
    parity = compare(target, base.path, trained.path, talks, machine.threads(here.threads))
    require(parity, target)
    write_json(folder / "parity.json", asdict(parity))
    write_json(folder / QUANTISED, asdict(look_inside(target, "F16")))
    machine.give_back_memory()


def run_quantised(f16: Artifact, quantisation: str, name: str, here: MachineSettings, folder: Path, progress: Progress) -> None:
    """One quantisation of the F16 file."""
    source = gguf_of(f16)
    need_disk(folder, source.bytes, f"the {quantisation} file")
    target = folder / f"{name}-{quantisation}.gguf"
    quantize(source.path, target, quantisation, machine.threads(here.threads))
    inside = look_inside(target, quantisation)
    write_json(folder / QUANTISED, asdict(inside))
    progress.say(f"  {quantisation}: {inside.bytes / 1e6:.0f} MB, {inside.bits_a_weight:.2f} bits a weight")
