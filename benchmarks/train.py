"""A training step: useful tokens a second against TRL's SFTTrainer as it comes, and against a loop written by hand.

Useful are the rows' own tokens, without padding. All sides tune LoRA of rank 16 on every linear layer with the same rows a step: ours as a recipe does by
default on this machine (number format, batches of like length, no checkpointing), TRL with its defaults (activation checkpointing, rows in random order), the
loop with ours' batches and head, and nothing else. All reckon in the format that is fast here: TRL's own bf16 is some 50 times slower on a CPU without units
for it, which would say nothing of either. Each run is a process of its own, in turn; ratios are of the medians.
With --curve ours and TRL take the same batches in fp32 for 50 steps, and the largest difference of the logged losses is told.

    .venv/bin/python benchmarks/train.py [--rows FILE] [--shape 135m|1b] [--steps 12] [--batch 16] [--repeats 3] [--curve] [--quick] [--json]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROWS = Path(__file__).parent.parent / "recipes" / "first-aid" / "data" / "taught.jsonl"
RANK, ALPHA, RATE, SEED = 16, 32, 1e-3, 7
WARM = 2
"""Steps before the clock starts."""
LLAMA_1B = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "vocab_size": 128256, "tie_word_embeddings": True, "max_position_embeddings": 131072,
}  # fmt: skip


def talks(path: Path) -> list[Any]:
    from lorikeet.data.sources import FileRows, read_file

    return list(read_file(FileRows(path)))


def base_folder(shape: str, folder: Path) -> Path:
    """The default base, or random weights in the shape of Llama 3.2 1B with the default base's tokenizer."""
    from lorikeet import bases
    from lorikeet.progress import Silent

    real = bases.prepare("smollm2-135m", Silent())
    if shape == "135m":
        return real.path
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    made = folder / "base"
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**LLAMA_1B, bos_token_id=1, eos_token_id=2, pad_token_id=2)).to(torch.bfloat16).save_pretrained(made)
    bases.copy_tokenizer(real, made)
    return made


class Clock:
    """Seconds and useful tokens from the end of step WARM on."""

    def __init__(self) -> None:
        self.steps, self.tokens, self.begun = 0, 0, 0.0
        self.losses: list[float] = []

    def step(self, tokens: int) -> None:
        self.steps += 1
        if self.steps == WARM:
            self.begun = time.perf_counter()
        elif self.steps > WARM:
            self.tokens += tokens

    def told(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        return {"seconds": seconds, "tokens": self.tokens, "rate": self.tokens / seconds, "peak_rss_mb": peak, "losses": self.losses}


def settings(batch: int, **changes: Any) -> Any:
    from lorikeet.recipe import TrainSettings

    return TrainSettings(method="lora", learning_rate=RATE, batch=batch, rank=RANK, alpha=ALPHA, first_layer=0, **changes)


def rendered(base: Path, path: Path) -> list[dict[str, list[int]]]:
    """The rows as training sees them: ids, and labels with -100 where no loss."""
    from transformers import AutoTokenizer

    from lorikeet.data.template import render_all

    tokenizer = AutoTokenizer.from_pretrained(base)
    made = render_all(tokenizer, talks(path))
    return [{"input_ids": t.ids, "labels": [i if s else -100 for i, s in zip(t.ids, t.supervised, strict=True)]} for t in made]


def ours(base: Path, path: Path, steps: int, precision: str, batch: int) -> dict[str, Any]:
    return _ours(base, path, steps, precision, batch, own_loss=True)


def reference(base: Path, path: Path, steps: int, precision: str, batch: int) -> dict[str, Any]:
    """TRL's own loss over the very batches of ours."""
    return _ours(base, path, steps, precision, batch, own_loss=False)


def _ours(base: Path, path: Path, steps: int, precision: str, batch: int, *, own_loss: bool) -> dict[str, Any]:
    from functools import partial

    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTTrainer

    from lorikeet import machine
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.schedule import Schedule
    from lorikeet.train.sft import Batches, SupervisedTrainer, collate
    from lorikeet.train.stage import arguments
    from lorikeet.weights import Base

    machine.keep_freed_memory()
    torch.manual_seed(SEED)
    wanted, clock = settings(batch, epochs=100), Clock()
    bf16 = machine.precision(precision) == "bf16"
    rows = Dataset.from_list([{**row, "length": len(row["input_ids"])} for row in rendered(base, path)])

    class Counting(SupervisedTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            self.useful = int((inputs["input_ids"] != 0).sum())
            if own_loss:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            inputs["attention_mask"] = (inputs["input_ids"] != 0).long()
            return SFTTrainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            clock.step(trainer.useful)
            control.should_training_stop = state.global_step >= steps

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            clock.losses += [logs["loss"]] if "loss" in logs else []

    with tempfile.TemporaryDirectory() as out:
        made = arguments(wanted, SEED, "bf16" if bf16 else "fp32", "adamw", Path(out), dataset_kwargs={"skip_prepare_dataset": True})
        made.eval_strategy, made.save_strategy, made.load_best_model_at_end = "no", "no", False
        trainer = Counting(
            batches=Batches(rows["length"], batch, wanted.batch_tokens, SEED), schedule=partial(Schedule, "cosine", wanted.warmup),
            model=with_adapter(Base(base, "bench", "", "", ""), wanted, torch.bfloat16 if bf16 else torch.float32), args=made, train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(base), data_collator=collate, callbacks=[Watch()],
        )  # fmt: skip
        trainer.train()
    return clock.told()


def trl(base: Path, path: Path, steps: int, precision: str, batch: int) -> dict[str, Any]:
    """SFTTrainer as it comes, given the rows as prompt and completion; bf16, its default, where the machine has units for it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from lorikeet import machine

    clock, counted = Clock(), [0]
    bf16 = machine.precision(precision) == "bf16"

    class Counting(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            counted[0] = int(inputs["attention_mask"].sum())
            return super().compute_loss(model, inputs, *rest, **more)

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            clock.step(counted[0])

    rows = [{"prompt": [m.as_dict() for m in t.messages[:-1]], "completion": [t.messages[-1].as_dict()]} for t in talks(path)]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if bf16 else torch.float32)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as out:
        made = SFTConfig(
            output_dir=out, per_device_train_batch_size=batch, max_steps=steps, learning_rate=RATE, report_to=[], save_strategy="no", seed=SEED,
            use_cpu=not torch.cuda.is_available(), disable_tqdm=True, bf16=bf16,
        )  # fmt: skip
        Counting(model, args=made, train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(base), peft_config=lora,
                 callbacks=[Watch()]).train()  # fmt: skip
    return clock.told()


def loop(base: Path, path: Path, steps: int, precision: str, batch: int) -> dict[str, Any]:
    """A plain loop with the same tricks: PEFT's model, fused layers, batches of like length, the head on supervised positions, fused AdamW."""
    import torch

    from lorikeet import machine
    from lorikeet.train.lora import with_adapter
    from lorikeet.train.sft import Batches, collate, supervised_loss
    from lorikeet.weights import Base

    machine.keep_freed_memory()
    torch.manual_seed(SEED)
    rows, clock = rendered(base, path), Clock()
    bf16 = machine.precision(precision) == "bf16"
    model = with_adapter(Base(base, "bench", "", "", ""), settings(batch), torch.bfloat16 if bf16 else torch.float32)
    model.train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=RATE, fused=True)
    batches = iter(Batches([len(row["input_ids"]) for row in rows], batch, settings(batch).batch_tokens, SEED))
    for _ in range(steps):
        given = collate([rows[n] for n in next(batches)])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = supervised_loss(model, given["input_ids"], given["labels"]) / (given["labels"][:, 1:] != -100).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        clock.step(int((given["input_ids"] != 0).sum()))
    return clock.told()


SIDES: dict[str, Callable[[Path, Path, int, str, int], dict[str, Any]]] = {"ours": ours, "trl": trl, "loop": loop, "reference": reference}


def run(side: str, base: Path, rows: Path, steps: int, batch: int, precision: str = "auto") -> dict[str, Any]:
    """One side in a process of its own: its figures."""
    command = [sys.executable, __file__, "--side", side, "--base", str(base), "--rows", str(rows), "--steps", str(steps)]
    command += ["--batch", str(batch), "--precision", precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--shape", choices=["135m", "1b"], default="135m")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16, help="rows a step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--quick", action="store_true", help="4 steps, one run a side, no loop by hand")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="auto", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.base, arguments.rows, arguments.steps, arguments.precision, arguments.batch)))
        return
    steps, repeats = (4, 1) if arguments.quick else (arguments.steps, arguments.repeats)
    samples: dict[str, list[dict[str, Any]]] = {side: [] for side in (("ours", "trl") if arguments.quick else ("ours", "trl", "loop"))}
    curve: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = base_folder(arguments.shape, Path(folder))
        for _ in range(repeats):
            for side, found in samples.items():
                found.append(run(side, base, arguments.rows, steps, arguments.batch))
        if arguments.curve:
            mine, theirs = (run(side, base, arguments.rows, 50, arguments.batch, "fp32")["losses"] for side in ("ours", "reference"))
            curve = {"steps": len(mine), "largest_difference": max(abs(a - b) for a, b in zip(mine, theirs, strict=True)), "first": mine[0], "last": mine[-1]}
    rate = {side: statistics.median(s["rate"] for s in found) for side, found in samples.items()}
    peaks = {side: max(s["peak_rss_mb"] for s in found) for side, found in samples.items()}
    told = {
        "ratio": rate["ours"] / rate["trl"],
        "ratios": {side: rate["ours"] / rate[side] for side in rate if side != "ours"},
        "tokens_per_second": rate,
        "peak_rss_mb": peaks,
        "curve": curve,
        "peer": "TRL SFTTrainer with its defaults",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "samples": samples,
    }
    if arguments.json:
        print(json.dumps(told))
        return
    for side, found in rate.items():
        against = f": ours has {rate['ours'] / found:.2f} times as many" if side != "ours" else ""
        print(f"{side:6} {found:6.0f} useful tokens a second, peak {peaks[side]:.0f} MB{against}")
    if curve:
        print(f"loss over {curve['steps']:.0f} steps: {curve['first']:.3f} -> {curve['last']:.3f}, at most {curve['largest_difference']:.1e} from TRL's own")


if __name__ == "__main__":
    main()
