"""The whole road on a tiny random model: run, run again, change one thing, kill it anywhere."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def lorikeet(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lorikeet", *map(str, arguments)], capture_output=True, text=True, timeout=500)


def fingerprints(run: Path) -> dict[str, str]:
    """Fingerprint of every finished folder, by step."""
    manifests = [json.loads(p.read_text()) for p in run.glob("*/manifest.json")]
    return {m["step"]: m["fingerprint"] for m in manifests}


def test_a_run_makes_every_folder_and_a_second_one_does_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = lorikeet("run", tiny_recipe, "--out", out, "--json")
    assert first.returncode == 3, first.stderr  # a random model earns no approval
    run = json.loads((out / "run.json").read_text())
    assert [s["status"] for s in run["steps"]] == ["done"] * 8
    assert (out / "report.html").is_file()
    assert json.loads(Path(run["release"]).read_text())["recommended"] is None
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name not in ("run.json", "recipe.resolved.yaml", ".lock")}
    begun = time.monotonic()
    second = lorikeet("run", tiny_recipe, "--out", out, "--json")
    assert second.returncode == 3
    assert {s["status"] for s in json.loads(second.stdout.splitlines()[0])["steps"]} == {"reused"}
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert time.monotonic() - begun < 30


def test_another_quantisation_runs_its_export_its_audit_and_the_release_only(tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    lorikeet("run", tiny_recipe, "--out", out)
    again = lorikeet("run", tiny_recipe, "--out", out, "--json", "--set", "export.quantisations=[Q8_0, Q4_0]")
    done = [s["name"] for s in json.loads(again.stdout.splitlines()[0])["steps"] if s["status"] == "done"]
    assert done == ["export-Q4_0", "audit-Q4_0", "release"]


def test_killed_in_every_stage_it_ends_with_the_same_files(tiny_recipe: Path, tmp_path: Path) -> None:
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    lorikeet("run", tiny_recipe, "--out", plain)
    for stage in ("data", "train", "evaluate", "export-F16", "export-Q8_0", "audit-F16", "audit-Q8_0", "release"):
        process = subprocess.Popen(
            [sys.executable, "-m", "lorikeet", "run", str(tiny_recipe), "--out", str(killed)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while not list(killed.glob(f"{stage}-*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if stage == "train":
            while not list(killed.glob("train-*.part/notes/checkpoints/*/complete")) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not [p for p in killed.glob("*.part") if (p / "manifest.json").is_file() and not p.name.endswith(".part")]
    last = lorikeet("run", tiny_recipe, "--out", killed)
    assert last.returncode == 3, last.stderr
    assert fingerprints(killed) == fingerprints(plain)


def train(recipe: Path, *changes: str) -> list[str]:
    """The command that trains, with settings of the train section."""
    return [sys.executable, "-m", "lorikeet", "train", str(recipe), *(x for change in changes for x in ("--set", f"train.{change}"))]


def killed(command: list[str], plain: Path, killed: Path, times: int) -> None:
    """Train undisturbed into one folder, and into the other, killed at random moments between a checkpoint and the end."""

    def begun(out: Path) -> subprocess.Popen[bytes]:
        """Training in a process of its own, at its first new checkpoint."""
        before = set(out.glob("train-*.part/notes/checkpoints/*/complete"))
        process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not set(out.glob("train-*.part/notes/checkpoints/*/complete")) - before and process.poll() is None:
            time.sleep(0.01)
        return process

    undisturbed = begun(plain)
    since = time.monotonic()
    assert undisturbed.wait(timeout=500) == 0
    seconds, draw = time.monotonic() - since, random.Random(11)
    for _ in range(times):
        process = begun(killed)
        time.sleep(draw.uniform(0, seconds / 16))
        assert process.poll() is None, "training was over before it was killed so often"
        process.kill()
        process.wait()


def test_training_killed_at_ten_random_moments_ends_with_the_same_weights(tiny_recipe: Path, tmp_path: Path) -> None:
    """Dropout, NEFTune's noise and gradients of two batches a step included; a kill may fall into a checkpoint, a held-out look or the end."""
    command = train(tiny_recipe, "epochs=60", "rehearsal=8", "dropout=0.1", "neftune=5", "accumulate=2", "checkpoint_steps=7", "patience=40")
    plain, disturbed = tmp_path / "plain", tmp_path / "killed"
    killed(command, plain, disturbed, 10)
    (versions,) = disturbed.glob("train-*.part/notes/versions.json")
    versions.write_text(json.dumps({**json.loads(versions.read_text()), "trl": "0.1"}))
    last = subprocess.run([*command, "--out", str(disturbed)], check=True, capture_output=True, text=True, timeout=500)
    assert "going on from checkpoint-" in last.stderr
    assert "warning: training began with trl 0.1, now" in last.stderr
    assert fingerprints(disturbed) == fingerprints(plain)


def test_a_whole_model_too_is_the_same_after_two_kills(tiny_recipe: Path, tmp_path: Path) -> None:
    command = train(tiny_recipe, "method=full", "epochs=5", "neftune=5", "accumulate=2", "checkpoint_steps=5")
    plain, disturbed = tmp_path / "plain", tmp_path / "killed"
    killed(command, plain, disturbed, 2)
    last = subprocess.run([*command, "--out", str(disturbed)], check=True, capture_output=True, text=True, timeout=500)
    assert "going on from checkpoint-" in last.stderr
    assert fingerprints(disturbed) == fingerprints(plain)


@pytest.mark.parametrize("change", ["method=full", "embeddings=true"])
def test_what_is_trained_whole_is_what_others_read_and_what_is_exported(tiny_recipe: Path, tiny_base: Path, tmp_path: Path, change: str) -> None:
    """The best checkpoint, by its held-out loss; read by transformers or PEFT alone it has the logits of the evaluation, and the F16 file is held to them."""
    import pyarrow.parquet
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from lorikeet.engine.torch_engine import TorchEngine
    from lorikeet.weights import is_adapter

    out = tmp_path / "run"
    changes = ("--set", f"train.{change}", "--set", "train.epochs=4", "--set", "train.learning_rate=0.05", "--set", "train.schedule=constant")
    done = lorikeet("export", tiny_recipe, "--out", out, *changes, "--set", "export.quantisations=[]")
    assert done.returncode == 0, done.stderr
    (trained,), (exported,), (data,) = out.glob("train-*"), out.glob("export-F16-*"), out.glob("data-*")
    assert is_adapter(trained) == (change != "method=full")
    assert json.loads((exported / "parity.json").read_text())["kl"] < 1e-4

    fresh = AutoModelForCausalLM.from_pretrained(tiny_base if is_adapter(trained) else trained, dtype=torch.float32)
    plain = PeftModel.from_pretrained(fresh, trained).eval() if is_adapter(trained) else fresh.eval()
    engine, ids = TorchEngine(tiny_base, trained, 1), list(range(100, 130))
    with torch.inference_mode():
        theirs = plain(input_ids=torch.tensor([ids])).logits[0]
    torch.testing.assert_close(engine.logits(ids), theirs, rtol=1e-4, atol=1e-4)
    assert (theirs - TorchEngine(tiny_base, None, 1).logits(ids)).abs().max() > 0.1

    told = json.loads((trained / "training.json").read_text())
    held_out = {entry["step"]: entry["eval_loss"] for entry in told["log"] if "eval_loss" in entry}
    rows = [r for r in pyarrow.parquet.read_table(data / "tokens.parquet").to_pylist() if r["split"] == "validation"]
    losses = engine.losses([(row["ids"], row["supervised"]) for row in rows])
    assert told["best_step"] == min(held_out, key=lambda step: held_out[step])
    assert sum(loss for loss, *_ in losses) / sum(n for _, n, _ in losses) == pytest.approx(held_out[told["best_step"]], rel=1e-4)
    told_by = lorikeet("diagnose", out)
    assert told_by.returncode == 0, told_by.stderr
    assert ("alpha over rank" in told_by.stdout) == is_adapter(trained)


def test_two_runs_in_one_folder_are_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-m", "lorikeet", "run", str(tiny_recipe), "--out", str(out)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not list(out.glob("data-*")) and first.poll() is None:
        time.sleep(0.05)
    second = lorikeet("run", tiny_recipe, "--out", out)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert "another lorikeet run is working in" in second.stderr
