"""The train stage: tokens in, adapter out.

Writes adapter_model.safetensors, adapter_config.json, the tokenizer, and training.json (settings, steps, losses).
Checkpoints and plots are notes.
"""

import json
import shutil
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet
import torch
from datasets import Dataset
from peft import PeftModel
from transformers.trainer_callback import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from trl import SFTConfig

from lorikeet import machine, memory
from lorikeet.artifact import NOTES, Artifact, need_disk, write_json
from lorikeet.bases import copy_tokenizer, load_tokenizer, template_hash
from lorikeet.diagnosis import diagnose, read_log
from lorikeet.progress import Progress
from lorikeet.recipe import MachineSettings, TrainSettings
from lorikeet.train.fit import measured, predicted
from lorikeet.train.lora import with_adapter
from lorikeet.train.plots import draw
from lorikeet.train.schedule import Deadline, Schedule
from lorikeet.train.sft import COMPLETE, Batches, SupervisedTrainer, Watch, collate
from lorikeet.weights import Base

CHECKPOINT = 20_000_000
"""Bytes of a checkpoint beside adapter and optimiser: tokenizer, states, log."""


def run(data: Artifact, base: Base, settings: TrainSettings, seed: int, here: MachineSettings, folder: Path, progress: Progress) -> None:
    """Train in `folder`, going on from the last whole checkpoint in its notes."""
    notes = folder / NOTES
    _need_disk(notes, base, settings)
    torch.set_num_threads(machine.threads(here.threads))
    machine.keep_freed_memory()
    torch.manual_seed(seed)
    bf16 = machine.precision(settings.precision) == "bf16"
    optimiser = machine.optimiser(settings.optimiser)
    if optimiser != settings.optimiser:
        progress.say(f"  warning: train.optimiser is {settings.optimiser}, which needs a CUDA GPU: {optimiser} is taken")
    rows, held_out = _rows(data, "train"), _rows(data, "validation")
    fit = predicted(base, settings, [*rows["length"], *held_out["length"]], here, progress)
    model = with_adapter(base, settings, torch.bfloat16 if bf16 else torch.float32)
    trainer = SupervisedTrainer(
        batches=Batches(rows["length"], settings.rows, settings.row_tokens, seed),
        schedule=partial(Schedule, settings.schedule, settings.warmup),
        model=model,
        args=arguments(settings, seed, bf16, optimiser, notes / "checkpoints"),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=load_tokenizer(base),
        data_collator=collate,
        callbacks=_callbacks(settings, progress),
    )
    trainer.remove_callback(PrinterCallback)
    fit = measured(model, rows, fit, settings, progress) if settings.batch == "auto" else fit
    trainer.at_once = fit.tokens(settings)
    resume = _last_whole_checkpoint(notes / "checkpoints")
    if resume:
        progress.say(f"  going on from {resume.name}")
    _compare_versions(notes / "versions.json", progress)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    log = [_kept(entry) for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    _save(trainer.model, folder)
    copy_tokenizer(base, folder)
    best = str(trainer.state.best_model_checkpoint or "")
    write_json(folder / "training.json", {
        "steps": trainer.state.global_step,
        "best_step": int(best.rsplit("-", 1)[-1]) if best else trainer.state.global_step,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "scale": settings.scale,
        "precision": "bf16" if bf16 else "fp32",
        "template": template_hash(base),
        "log": log,
    })  # fmt: skip
    draw(log, settings.max_grad_norm, notes)
    for finding in diagnose(read_log(folder)):
        if finding.severity != "note":
            progress.say(f"  {finding.severity}: {finding.what}; {finding.cure}")
    shutil.rmtree(notes / "checkpoints", ignore_errors=True)
    del trainer, model
    machine.give_back_memory()


def _need_disk(notes: Path, base: Base, settings: TrainSettings) -> None:
    """Room for the checkpoints that are kept and the one being written (adapter and AdamW's two means, in float32), and for the adapter."""
    shape = memory.shape_of(base)
    adapter = 4 * memory.adapter_weights(shape, settings) if shape else base.weights // 8
    whole = settings.keep_checkpoints + 1
    need_disk(notes, whole * (3 * adapter + CHECKPOINT) + adapter + CHECKPOINT,
              f"training with train.keep_checkpoints {settings.keep_checkpoints}, {whole} checkpoints of {(3 * adapter + CHECKPOINT) / 1e6:.0f} MB at a time,",
              "lower train.keep_checkpoints, free some space, or choose another place with --out")  # fmt: skip


def _save(model: PeftModel, folder: Path) -> None:
    """Adapter and config, byte for byte the same each time: PEFT writes its set of target modules in any order."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    write_json(path, dict(sorted(config.items())))


def _callbacks(settings: TrainSettings, progress: Progress) -> list[TrainerCallback]:
    """The deadline comes before the watch, which tells how many steps it left."""
    deadline = [Deadline(settings.seconds)] if settings.seconds else []
    patience = [EarlyStoppingCallback(settings.patience)] if settings.patience else []
    return [*deadline, *patience, Watch(progress, settings.checkpoint_steps)]


def arguments(settings: TrainSettings, seed: int, bf16: bool, optimiser: str, checkpoints: Path) -> SFTConfig:
    """What TRL's trainer is told, for checkpoints in a folder."""
    return SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.rows,
        gradient_accumulation_steps=settings.batches,
        neftune_noise_alpha=settings.neftune,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused" if optimiser == "adamw" else optimiser,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        save_total_limit=settings.keep_checkpoints,
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="all",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        max_length=None,
    )


def _rows(data: Artifact, part: str) -> Dataset:
    """Rows of one part of the split as input_ids, labels and length."""
    table = pyarrow.parquet.read_table(data.file("tokens.parquet")).to_pylist()
    return Dataset.from_list([
        {
            "input_ids": row["ids"],
            "labels": [token if lossy else -100 for token, lossy in zip(row["ids"], row["supervised"], strict=True)],
            "length": len(row["ids"]),
        }
        for row in table
        if row["split"] == part
    ])  # fmt: skip


def _compare_versions(path: Path, progress: Progress) -> None:
    """Warn where training began with other packages than it goes on with: the weights may then differ from those of an undisturbed run."""
    here = {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}
    began: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else here
    if changed := [f"{name} {began.get(name)}, now {there}" for name, there in here.items() if began.get(name) != there]:
        progress.say(f"  warning: training began with {'; '.join(changed)}: the weights may differ from those of an undisturbed run")
    write_json(path, began)


def _kept(entry: Mapping[str, float]) -> dict[str, float]:
    """What of a log entry depends on the run alone, not on the clock."""
    return {k: entry[k] for k in ("step", "epoch", "loss", "grad_norm", "learning_rate", "eval_loss") if k in entry}


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; ones cut off in the middle are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda p: int(p.name.rsplit("-", 1)[-1]), default=None)
