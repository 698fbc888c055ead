"""Peak memory of training: what `lorikeet.memory` predicts from a base's config against what the train stage took.

Each measurement is a process of its own that runs the train stage whole (loading, steps, a held-out look, a checkpoint) on rows of random tokens; measured is
its VmHWM. The shapes: the default base, a Llama of 316 million random weights, and one of few layers under a vocabulary as wide as Qwen's.

    .venv/bin/python benchmarks/memory.py [--shape NAME ...] [--precision fp32|bf16] [--json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

LLAMA = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "tie_word_embeddings": True, "max_position_embeddings": 4096}
CONFIGS: dict[str, dict[str, int]] = {
    "llama-316m": {
        "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32000,
    },
    "wide-420m": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 4, "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
    },
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {"length": 128, "shared": 0, "train": {"batch": 4, "first_layer": 0}},
    "llama-316m": {"length": 128, "shared": 0, "train": {"batch": 4}},
    "wide-420m": {"length": 128, "shared": 0, "train": {"batch": 4, "rank": 32, "targets": "mlp"}},
}
"""A shape's rows: their length in tokens, and how many of those all of them begin with."""


def base_of(shape: str, folder: Path) -> Path:
    """The default base, or random weights in a shape, with the default base's tokenizer."""
    from lorikeet import bases
    from lorikeet.progress import Silent

    real = bases.prepare("smollm2-135m", Silent())
    made = folder / shape
    if shape not in CONFIGS:
        return real.path
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**CONFIGS[shape], **LLAMA))
    model = model.to_empty(device="cpu").to(torch.bfloat16)
    model.tie_weights()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.02)
    model.save_pretrained(made)
    bases.copy_tokenizer(real, made)
    return made


def write_rows(path: Path, rows: int, length: int, shared: int) -> None:
    """tokens.parquet of rows of one length, of random tokens, with loss on all but what they share; one more to look at."""
    import pyarrow
    import pyarrow.parquet

    random = Random(7)
    begin = [random.randrange(100, 30000) for _ in range(shared)]
    ids = [begin + [random.randrange(100, 30000) for _ in range(length - shared)] for _ in range(rows + 1)]
    supervised = [[n > shared for n in range(length)]] * (rows + 1)
    table = {"ids": ids, "supervised": supervised, "split": ["train"] * rows + ["validation"], "kind": ["taught"] * (rows + 1)}
    pyarrow.parquet.write_table(pyarrow.table(table), path)


def measure(base: Path, folder: Path, length: int, shared: int, train: dict[str, Any]) -> dict[str, Any]:
    """Run the train stage here, two steps; its peak, in bytes."""
    from lorikeet import bases, machine
    from lorikeet.artifact import Artifact, Manifest, begin
    from lorikeet.progress import Silent
    from lorikeet.recipe import MachineSettings, TrainSettings
    from lorikeet.train import stage

    found = bases.prepare(str(base), Silent())
    settings = TrainSettings(epochs=1, **train).for_base(found)
    write_rows(folder / "tokens.parquet", 2 * settings.batch, length, shared)
    data = Artifact(folder, Manifest("data", "", "", {"tokens.parquet": ""}, {}, {}, {}))
    machine.reset_peak_memory()
    stage.run(data, found, settings, 7, MachineSettings(), begin(folder / "train"), Silent())
    return {"measured": machine.peak_memory_mb() * 1e6}


def predicted(base: Path, length: int, shared: int, train: dict[str, Any]) -> dict[str, int]:
    from lorikeet import bases, memory
    from lorikeet.progress import Silent
    from lorikeet.recipe import TrainSettings

    found = bases.prepare(str(base), Silent())
    settings, shape = TrainSettings(**train).for_base(found), memory.shape_of(found)
    assert shape is not None
    return memory.predict(shape, settings, memory.largest_batch(settings, length), length, shared).document()


def compare(shape: str, folder: Path, precision: str) -> dict[str, Any]:
    """One shape: predicted here from its config, measured in a process of its own."""
    what = json.loads(json.dumps(SHAPES[shape]))
    what["train"]["precision"] = precision
    base = base_of(shape, folder)
    work = folder / f"{shape}-work"
    work.mkdir()
    command = [sys.executable, "-W", "ignore", __file__, "--measure", json.dumps({"base": str(base), "folder": str(work), **what})]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told = {**predicted(base, **what), **json.loads(done.stdout.strip().splitlines()[-1])}
    return {**told, "ratio": told["total"] / told["measured"], **what}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        wanted = json.loads(arguments.measure)
        print(json.dumps(measure(**{**wanted, "base": Path(wanted["base"]), "folder": Path(wanted["folder"])})))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {shape: compare(shape, Path(folder), arguments.precision) for shape in arguments.shape}
    if arguments.json:
        print(json.dumps(found))
        return
    for shape, told in found.items():
        print(f"{shape:14} predicted {told['total'] / 1e6:5.0f} MB, measured {told['measured'] / 1e6:5.0f} MB: {told['ratio']:.2f}")


if __name__ == "__main__":
    main()
