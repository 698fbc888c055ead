"""Texts that the base writes by itself, learned beside the rows so that less of its language is forgotten (pseudo-rehearsal, Robins 1995).

Each begins with a token drawn from all of the vocabulary, and goes on as the base would have it (Liu et al. 2023, LLM-QAT, section 3.1): no text of anybody
else is needed. What is written is kept beside the checkpoints, so that a training that goes on learns from the same texts.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lorikeet import machine, processes
from lorikeet.progress import Progress

TOKENS = 64
"""Tokens of a text, with those that it begins with."""
BEGUN = 2
"""Tokens that it is made to begin with: the one before any text, and the drawn one."""
AT_ONCE = 32
"""Texts that are written together."""
KEPT = "rehearsal.json"


def texts(model: PeftModel | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, seed: int, notes: Path, progress: Progress) -> list[list[int]]:
    """Token ids of `count` texts of at most TOKENS tokens, by the model without its adapter: the same for a seed, and in every process.

    Behind the making of the trainer's arguments, which join the processes: the first one writes, the others are told.
    """
    path, found = notes / KEPT, None
    if not processes.rank():
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
        if found is None or len(found) != count:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                found = list(_written(model, tokenizer, count, progress))
            path.write_text(json.dumps(found), encoding="utf-8")
    return processes.agree(found) or []


def labels(text: list[int]) -> list[int]:
    """What of a text is learned: all but what it was made to begin with (-100)."""
    return [-100] * BEGUN + text[BEGUN:]


def _written(model: PeftModel | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, progress: Progress) -> Iterator[list[int]]:
    before: AbstractContextManager[None] = model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()
    special = set(tokenizer.all_special_ids)
    plain = torch.tensor([token for token in range(len(tokenizer)) if token not in special])
    first = plain[torch.randint(len(plain), (count, 1))]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    begun = torch.cat([torch.full_like(first, start), first], 1).to(model.device)
    was, was_cached = model.training, model.config.use_cache
    model.eval()
    with before, torch.inference_mode():
        for at in range(0, count, AT_ONCE):
            ids = begun[at : at + AT_ONCE]
            rows = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0, use_cache=True,
                                  max_length=TOKENS, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)  # fmt: skip
            for row in rows.tolist():
                end = row.index(tokenizer.eos_token_id, BEGUN) if tokenizer.eos_token_id in row[BEGUN:] else len(row)
                yield row[:end]
            progress.step("texts of the base's own", min(at + AT_ONCE, count), count)
    model.train(was)
    model.config.use_cache = was_cached
    machine.give_back_memory()  # caches that grew token by token
