"""Rows into tokens: rows a second and memory, against `datasets` with TRL's own preparation of the same rows.

Ours reads, validates, renders, masks and writes tokens.parquet; the peer is what an SFTTrainer does with the same conversations on its way to its first step,
in as many processes as there are cores. The conversations are the recipes' own rows, or those of --rows, numbered so that no two are the same. Each run is a
process of its own, ours and the peer's in turn; ratios are of the medians. With --memory the whole of `lorikeet check FILE --base` (reading, split, near
duplicates, every check, figures, tokens) is run over the rows and over ten times as many.

    .venv/bin/python benchmarks/data.py [--conversations 100000] [--rows FILE ...] [--repeats 3] [--memory] [--quick] [--json]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

RECIPES = Path(__file__).parent.parent / "recipes"
WRITTEN = [RECIPES / name / "data" / "taught.jsonl" for name in ("first-aid", "emergency", "ml-tutor")]


def conversations(count: int, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Rows of the files as prompt and completion, over and over, with a number in each question."""
    from lorikeet.data.sources import FileRows, read_file

    talks = [[m.as_dict() for m in talk.messages] for path in files for talk in read_file(FileRows(path))]
    for number, (*before, asked, answered) in enumerate(islice(cycle(talks), count)):
        yield {"prompt": [*before, {**asked, "content": f"{asked['content']} ({number})"}], "completion": [answered]}


def peak() -> float:
    """Peak RSS of this process or of the largest of its children, in MB."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1000


def ours(path: Path, folder: Path) -> None:
    from lorikeet import bases
    from lorikeet.data.rows import TRAIN, Rows
    from lorikeet.data.shelf import Shelf
    from lorikeet.data.sources import FileRows, read_file
    from lorikeet.data.tokens import tokenise
    from lorikeet.progress import Silent

    tokenizer = bases.load_tokenizer(bases.prepare("smollm2-135m", Silent()))
    begin = time.perf_counter()
    file = FileRows(path)
    talks = Shelf(read_file(file))
    assert not file.refused
    rows = Rows(talks, "taught", np.full(len(talks), TRAIN), np.full(len(talks), b""))
    seen = tokenise(tokenizer, rows, folder / "tokens.parquet", Silent(), limit=1024)
    print(json.dumps({"seconds": time.perf_counter() - begin, "rows": len(rows), "tokens": int(seen.lengths.sum()), "peak_rss_mb": peak()}))


def check(path: Path, folder: Path) -> None:
    """All that is done to rows before training."""
    from lorikeet.data import inspect
    from lorikeet.progress import Silent

    begin = time.perf_counter()
    seen = inspect.files([str(path)], Silent(), "smollm2-135m").seen
    print(json.dumps({"seconds": time.perf_counter() - begin, "rows": len(seen.rows) if seen else 0, "peak_rss_mb": peak()}))


def peer(path: Path, folder: Path) -> None:
    """An SFTTrainer made over the rows as prompt and completion, less one made over no more than two rows."""
    import datasets
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from lorikeet import bases
    from lorikeet.progress import Silent

    base = bases.prepare("smollm2-135m", Silent())
    tokenizer = bases.load_tokenizer(base)
    datasets.disable_progress_bars()
    config = AutoConfig.from_pretrained(base.path)
    config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_attention_heads, config.num_key_value_heads = 1, 8, 8, 1, 1
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    seconds, tokens = [], 0
    for rows in (2, None):
        settings = SFTConfig(
            output_dir=str(folder / f"run{rows}"),
            dataset_num_proc=os.cpu_count(),
            completion_only_loss=True,
            report_to=[],
            max_length=None,
            bf16=False,
            use_cpu=True,
        )
        begin = time.perf_counter()
        loaded = datasets.load_dataset("json", data_files=str(path), split=f"train[:{rows}]" if rows else "train", cache_dir=str(folder / f"cache{rows}"))
        made = SFTTrainer(model, args=settings, train_dataset=loaded, processing_class=tokenizer)
        seconds.append(time.perf_counter() - begin)
        tokens = sum(map(len, made.train_dataset["input_ids"]))
    print(json.dumps({"seconds": seconds[1] - seconds[0], "rows": len(made.train_dataset), "tokens": tokens, "peak_rss_mb": peak()}))


SIDES = {"ours": ours, "peer": peer, "check": check}


def run(which: str, path: Path) -> dict[str, Any]:
    """One side in a process of its own: its figures."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, __file__, "--side", which, "--file", str(path), "--folder", folder], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=Path, nargs="+", default=WRITTEN, metavar="FILE")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--quick", action="store_true", help="3,000 conversations, one run a side")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        SIDES[arguments.side](arguments.file, arguments.folder)
        return
    count, repeats = (3000, 1) if arguments.quick else (arguments.conversations, arguments.repeats)
    samples: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    memory = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {n: Path(folder) / f"rows-{n}.jsonl" for n in ((count, 10 * count) if arguments.memory else (count,))}
        for n, path in files.items():
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in conversations(n, arguments.rows))
        for _ in range(repeats):
            for side, found in samples.items():
                found.append(run(side, files[count]))
        if arguments.memory:
            memory = {n: run("check", path) for n, path in files.items()}
    assert samples["ours"][0]["tokens"] == samples["peer"][0]["tokens"], "both sides make the same tokens"
    rate = {side: statistics.median(s["rows"] / s["seconds"] for s in found) for side, found in samples.items()}
    told = {
        "ratio": rate["ours"] / rate["peer"],
        "rows_per_second": rate,
        "check": memory,
        "peak_rss_ratio": memory[10 * count]["peak_rss_mb"] / memory[count]["peak_rss_mb"] if memory else None,
        "peer": "SFTTrainer's preparation of prompt and completion, datasets.map in a process a core",
        "versions": {name: version(name) for name in ("trl", "datasets", "transformers", "tokenizers")},
        "samples": samples,
    }
    if arguments.json:
        print(json.dumps(told))
        return
    print(f"{count} conversations: ours {rate['ours']:.0f} rows a second, TRL {rate['peer']:.0f}: {told['ratio']:.2f} times as many")
    for n, checked in memory.items():
        print(f"check over {n} conversations: {checked['seconds']:.0f} s, peak RSS {checked['peak_rss_mb']:.0f} MB")


if __name__ == "__main__":
    main()
