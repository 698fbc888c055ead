"""The train stage: tokens in, an adapter or a whole model out.

Writes adapter_model.safetensors and adapter_config.json, or model*.safetensors and config.json; the tokenizer, and training.json (settings, steps, losses).
Checkpoints and plots are notes.
"""

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from peft import PeftModel, get_peft_model_state_dict
from transformers import PreTrainedModel, Trainer
from transformers.trainer_callback import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from trl import DPOConfig, KTOConfig, SFTConfig

from lorikeet import machine, memory, processes
from lorikeet.artifact import COMPLETE, NOTES, Artifact, need_disk, write_json
from lorikeet.bases import copy_tokenizer, load_tokenizer, template_hash
from lorikeet.diagnosis import diagnose, read_log
from lorikeet.progress import Progress
from lorikeet.recipe import MachineSettings, TrainSettings
from lorikeet.train import preference, rehearsal, trackers
from lorikeet.train.fit import Fit, measured, predicted
from lorikeet.train.full import whole_model
from lorikeet.train.lora import with_adapter
from lorikeet.train.plots import draw
from lorikeet.train.schedule import Deadline, Schedule
from lorikeet.train.sft import MARGIN, Batches, SupervisedTrainer, Watch, collate
from lorikeet.weights import ADAPTER_CONFIG, Base

Kind = type[SFTConfig] | type[KTOConfig] | type[DPOConfig]

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
OFFLINE = "HF_HUB_OFFLINE"
CHECKPOINT = 20_000_000
"""Bytes of a checkpoint beside adapter and optimiser: tokenizer, states, log."""


def run(data: Artifact, base: Base, settings: TrainSettings, seed: int, here: MachineSettings, folder: Path, progress: Progress) -> None:
    """Train in `folder`, going on from the last whole checkpoint in its notes."""
    notes = folder / NOTES
    torch.set_num_threads(max(1, machine.threads(here.threads) // processes.local_world()))
    machine.keep_freed_memory()
    torch.manual_seed(seed)
    precision = machine.precision(settings.precision)
    optimiser = machine.optimiser(settings.optimiser)
    if optimiser != settings.optimiser:
        progress.say(f"  warning: train.optimiser is {settings.optimiser}, which needs a CUDA GPU: {optimiser} is taken")
    longest = max(memory.longest_row(data.file("tokens.parquet")), rehearsal.TOKENS if settings.rehearsal else 0)
    fit = predicted(base, settings, longest, here, progress) if settings.objective == "sft" else None
    model = whole_model(base, settings) if settings.method == "full" else with_adapter(base, settings, FORMATS[precision])
    _need_disk(notes, model, settings)
    told = partial(arguments, settings, seed, precision, optimiser, notes / "checkpoints")
    callbacks = [*_callbacks(settings, progress), *trackers.callbacks(here.report_to, notes)]
    rest: dict[str, Any] = {"model": model, "processing_class": load_tokenizer(base), "callbacks": callbacks}
    if fit:
        trainer: Trainer = _supervised(data, settings, seed, told, rest, fit, notes, progress)
    else:
        progress.say("  reckoning what the model says before training")
        trainer = preference.trainer(data, settings, seed, told, rest)
    trainer.remove_callback(PrinterCallback)
    resume = _begin(notes, seed, progress)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr), _asking_no_hub():  # trackers print
        warnings.filterwarnings("ignore", message=".*pin_memory.*|Could not find a config file in")
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if _end_of_sharing():
            return
        _write(trainer, base, settings, precision, folder)
    for finding in diagnose(read_log(folder)):
        if finding.severity != "note":
            progress.say(f"  {finding.severity}: {finding.what}; {finding.cure}")
    shutil.rmtree(notes / "checkpoints", ignore_errors=True)
    del trainer, model, rest
    machine.give_back_memory()


@contextmanager
def _asking_no_hub() -> Iterator[None]:
    """PEFT would look the base up on the Hub by its folder's name, whenever it saves; the base lies here, and its name is nobody else's business."""
    before = os.environ.get(OFFLINE)
    os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        os.environ.pop(OFFLINE)
        if before is not None:
            os.environ[OFFLINE] = before


def _write(trainer: Trainer, base: Base, settings: TrainSettings, precision: str, folder: Path) -> None:
    """What was trained, how it went, and the plots."""
    log = [_kept(entry) for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    keep(trainer.model, folder)
    copy_tokenizer(base, folder)
    best = str(trainer.state.best_model_checkpoint or "")
    write_json(folder / "training.json", {
        "steps": trainer.state.global_step,
        "best_step": int(best.rsplit("-", 1)[-1]) if best else trainer.state.global_step,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "scale": None if settings.method == "full" else settings.scale,
        "objective": settings.objective,
        "precision": precision,
        "template": template_hash(base),
        "log": log,
    })  # fmt: skip
    draw(log, settings.max_grad_norm, folder / NOTES)


def _supervised(
    data: Artifact, settings: TrainSettings, seed: int, told: Callable[..., SFTConfig], rest: Mapping[str, Any], fit: Fit, notes: Path, progress: Progress
) -> SupervisedTrainer:
    """The trainer over answers to learn; `told` makes its arguments, `rest` is what every trainer takes."""
    args, rows = told(SFTConfig, dataset_kwargs={"skip_prepare_dataset": True}), _rows(data, "train")
    if settings.rehearsal:
        own = rehearsal.texts(rest["model"], rest["processing_class"], settings.rehearsal, seed, notes, progress)
        rows = concatenate_datasets([rows, _dataset((ids, rehearsal.labels(ids)) for ids in own if len(ids) > rehearsal.BEGUN)])
    if settings.batch == "auto":
        fit = measured(rest["model"], rows, fit, settings, progress)
    trainer = SupervisedTrainer(
        batches=Batches(rows["length"], settings.rows, settings.row_tokens, seed),
        schedule=partial(Schedule, settings.schedule, settings.warmup),
        args=args,
        train_dataset=rows,
        eval_dataset=_rows(data, "validation"),
        data_collator=collate,
        **rest,
    )
    trainer.at_once = fit.tokens(settings)
    return trainer


def _begin(notes: Path, seed: int, progress: Progress) -> Path | None:
    """The checkpoint to go on from; the same in every process, which each draws chance of its own."""
    if processes.rank():
        torch.manual_seed(seed + processes.rank())
        return processes.agree(None)
    if (gpus := torch.cuda.device_count()) > processes.local_world():
        progress.say(f"  {gpus} GPUs are here, each process trains on one: torchrun --nproc-per-node {gpus} -m lorikeet uses them all (docs/train.md)")
    resume = _last_whole_checkpoint(notes / "checkpoints")
    if resume:
        progress.say(f"  going on from {resume.name}")
    _compare_versions(notes / "versions.json", progress)
    return processes.agree(resume)


def _end_of_sharing() -> bool:
    """Part from the other processes; whether this one has nothing more to do."""
    if processes.world() > 1:
        PartialState().wait_for_everyone()
        PartialState().destroy_process_group()
    return processes.rank() > 0


def disk_needed(model: PeftModel | PreTrainedModel, settings: TrainSettings) -> tuple[int, int]:
    """Bytes of a checkpoint (what is saved, and two moments of every trained weight, all float32), and of all of them with the result.

    One checkpoint more than are kept: a new one is written before an old one goes.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    kept = get_peft_model_state_dict(model, save_embedding_layers=False).values() if isinstance(model, PeftModel) else model.parameters()
    saved = 4 * sum(tensor.numel() for tensor in kept) + CHECKPOINT
    return saved + 8 * trained, (saved + 8 * trained) * (settings.keep_checkpoints + 1) + saved


def _need_disk(notes: Path, model: PeftModel | PreTrainedModel, settings: TrainSettings) -> None:
    (each, needed), kept = disk_needed(model, settings), settings.keep_checkpoints
    need_disk(notes, needed, f"training with train.keep_checkpoints {kept}, {kept + 1} checkpoints of {each / 1e6:.0f} MB at a time,",
              "lower train.keep_checkpoints, free some space, or choose another place with --out")  # fmt: skip


def keep(model: PeftModel | PreTrainedModel, folder: Path) -> None:
    """Weights and config, byte for byte the same each time: PEFT writes its set of target modules in any order."""
    if not isinstance(model, PeftModel):
        model.config.use_cache = True  # the trainer switches it off, and would leave a model that answers slowly
        model.save_pretrained(folder)
        return
    # KTO and DPO have the adapter that they began with too; asked for embeddings PEFT would ask the Hub for the base, and writes trained ones all the same
    model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    write_json(path, dict(sorted(config.items())))


def _callbacks(settings: TrainSettings, progress: Progress) -> list[TrainerCallback]:
    """The deadline comes before the watch, which tells how many steps it left."""
    deadline = [Deadline(settings.seconds)] if settings.seconds else []
    patience = [EarlyStoppingCallback(settings.patience)] if settings.patience else []
    return [*deadline, *patience, Watch(progress, settings.checkpoint_steps)]


def arguments(settings: TrainSettings, seed: int, precision: str, optimiser: str, checkpoints: Path, kind: Kind = SFTConfig, **own: Any) -> Any:
    """What TRL's trainer is told, for checkpoints in a folder: what all of ours are, and its `own`."""
    return kind(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        per_device_train_batch_size=settings.rows,
        gradient_accumulation_steps=settings.batches,
        neftune_noise_alpha=settings.neftune,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused" if optimiser == "adamw" else optimiser,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
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
        project="lorikeet",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        max_length=None,
        **own,
    )


def _rows(data: Artifact, part: str) -> Dataset:
    """Rows of one part of the split as input_ids, labels and length."""
    table = pyarrow.parquet.read_table(data.file("tokens.parquet")).to_pylist()
    masked = ((row["ids"], [token if lossy else -100 for token, lossy in zip(row["ids"], row["supervised"], strict=True)])
              for row in table if row["split"] == part)  # fmt: skip
    return _dataset(masked)


def _dataset(rows: Iterable[tuple[list[int], list[int]]]) -> Dataset:
    """Ids with labels as the trainer takes them."""
    return Dataset.from_list([{"input_ids": ids, "labels": labels, "length": len(ids)} for ids, labels in rows])


def _compare_versions(path: Path, progress: Progress) -> None:
    """Warn where training began with other packages than it goes on with: the weights may then differ from those of an undisturbed run."""
    here = {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}
    began: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else here
    if changed := [f"{name} {began.get(name)}, now {there}" for name, there in here.items() if began.get(name) != there]:
        progress.say(f"  warning: training began with {'; '.join(changed)}: the weights may differ from those of an undisturbed run")
    write_json(path, began)


def _kept(entry: Mapping[str, float]) -> dict[str, float]:
    """What of a log entry depends on the run alone, not on the clock."""
    return {k: entry[k] for k in ("step", "epoch", "loss", "grad_norm", "learning_rate", "eval_loss", "rewards/margins", MARGIN) if k in entry}


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; ones cut off in the middle are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda p: int(p.name.rsplit("-", 1)[-1]), default=None)
