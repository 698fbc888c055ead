"""Two processes, as torchrun starts them, make the adapter that one makes; and fail with one voice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorikeet.cli import main

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


def command(recipe: Path, out: Path, *changes: str, processes: int = 2, until: str = "train") -> list[str]:
    launch = TORCHRUN if processes > 1 else [sys.executable]
    sets = [x for change in ("train.precision=fp32", *changes) for x in ("--set", change)]
    return [*launch, "-m", "lorikeet", until, str(recipe), "--out", str(out), *sets]


def train(recipe: Path, out: Path, *changes: str, processes: int = 2, until: str = "train") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(recipe, out, *changes, processes=processes, until=until), capture_output=True, text=True, timeout=400)


def folder_of(out: Path) -> Path:
    (folder,) = (path.parent for path in out.glob("train-*/manifest.json"))
    return folder


def assert_alike(one: Path, other: Path) -> None:
    """The same key, the same losses, rates and gradient norms, the same weights to rounding."""
    from safetensors.numpy import load_file

    first, second = folder_of(one), folder_of(other)
    assert first.name == second.name
    logs = [json.loads((folder / "training.json").read_text()) for folder in (first, second)]
    assert logs[0]["best_step"] == logs[1]["best_step"]
    assert len(logs[0]["log"]) == len(logs[1]["log"]) > 5
    for a, b in zip(logs[0]["log"], logs[1]["log"], strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    weights, others = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    moved = max(abs(w).max() for name, w in weights.items() if "lora_B" in name)
    assert moved > 1e-3
    for name, w in weights.items():
        assert abs(w - others[name]).max() < 1e-4 * max(1.0, abs(w).max()), name


def test_two_processes_make_the_adapter_that_one_makes_where_some_have_no_row(tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ["train.batch=1", "train.accumulate=3", "train.epochs=1"]
    assert main(command(tiny_recipe, tmp_path / "one", *changes, processes=1)[3:]) == 0
    done = train(tiny_recipe, tmp_path / "two", *changes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1
    assert done.stderr.count("done in") == 2
    assert_alike(tmp_path / "one", tmp_path / "two")


def test_two_processes_that_were_killed_and_go_on_make_the_adapter_that_one_makes(tiny_recipe: Path, tmp_path: Path) -> None:
    changes, killed = ("train.accumulate=2", "train.epochs=6", "train.checkpoint_steps=3"), tmp_path / "killed"
    assert main(command(tiny_recipe, tmp_path / "one", *changes, processes=1)[3:]) == 0
    process = subprocess.Popen(command(tiny_recipe, killed, *changes), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    while not list(killed.glob("train-*.part/notes/checkpoints/*/complete")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # the launcher
    for path in Path("/proc").glob("[0-9]*/cmdline"):  # and its workers, each of which it gave a session of its own
        if str(killed).encode() in path.read_bytes():
            os.kill(int(path.parent.name), signal.SIGKILL)
    process.wait()
    last = train(tiny_recipe, killed, *changes)
    assert last.returncode == 0, last.stderr
    assert last.stderr.count("going on from checkpoint-") == 1
    assert_alike(tmp_path / "one", killed)


def test_an_error_in_training_is_told_once_and_ends_all_processes(tiny_recipe: Path, tmp_path: Path) -> None:
    done, words = train(tiny_recipe, tmp_path / "run", "train.weight_decay=1e30"), "error: training went to nan at step"
    assert done.returncode == 1
    ours, _, launchers = done.stderr.partition("  cure: ")
    assert ours.splitlines()[-1].startswith(words)
    assert words not in launchers
    assert "Traceback" not in ours
    assert launchers.count("Traceback (most recent call last)") == 1  # torchrun's own
    assert "exitcode  : 2" in launchers
