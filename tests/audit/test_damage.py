"""Damage planted in files of a tuned model: whatever changes answers is blocked, and faithful files are approved.

The real default base, tuned on ten situations of the first-aid recipe for a minute or two a training, and audited as anybody's files are.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
import pytest
import yaml

from lorikeet import pipeline
from lorikeet.audit import anybody
from lorikeet.audit.examine import Asked, examine, findings, greedy, named
from lorikeet.audit.gate import Examined, verdicts
from lorikeet.engine.scripted import ScriptedEngine
from lorikeet.evidence import Evidence, FileVerdict, read_evidence
from lorikeet.exam import as_question, read_answers
from lorikeet.export.quantize import How, quantize
from lorikeet.progress import Silent
from lorikeet.recipe import MachineSettings, audit_settings, load_recipe
from lorikeet.suite import load_persona, load_suite
from lorikeet.weights import gguf_of

pytestmark = pytest.mark.slow

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "first-aid"
SITUATIONS = 10
SETTINGS = ["audit.max_new_tokens=96", "audit.thresholds.violation_bound=0.12", "audit.thresholds.pass_rate_at_least=0.75", "audit.divergence_rows=8"]
"""What some 40 probes can show of two files."""


class Tuned(NamedTuple):
    """A folder with recipe, suite and persona, and the files of one training."""

    folder: Path
    whole: Path
    small: Path


def write_recipe(folder: Path, *, misled: bool = False) -> Path:
    """Ten situations of the first-aid recipe; misled: each with the next one's answer."""
    folder.mkdir(parents=True)
    suite = yaml.safe_load((RECIPE / "suite.yaml").read_text(encoding="utf-8"))
    topics = list(suite["rules"])[:SITUATIONS]
    suite["rules"] = {topic: suite["rules"][topic] for topic in topics}
    suite["probes"] = [probe for probe in suite["probes"] if probe["topic"] in topics and not probe.get("oblique")]
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    rows = [json.loads(line) for line in (RECIPE / "data" / "taught.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["topic"] in topics]
    answers = {row["topic"]: row["answer"] for row in rows}
    if misled:
        for row in rows:
            row["answer"] = answers[topics[(topics.index(row["topic"]) + 1) % len(topics)]]
    (folder / "taught.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    shutil.copyfile(RECIPE / "persona.yaml", folder / "persona.yaml")
    recipe = {
        "name": "few",
        "base": "smollm2-135m",
        "persona": "persona.yaml",
        "data": {"train": "taught.jsonl", "split": "wordings", "whole_wordings": 10, "opening_tokens": 5},
        "train": {"epochs": 2, "batch": 16, "batch_tokens": 448},
        "evaluate": {"questions": 1, "out_of_scope": 1, "near_misses": 1, "never_taught": 1, "probes": 1, "max_new_tokens": 4, "panel": False},
        "export": {"quantisations": ["Q8_0"]},
        "audit": {"suite": "suite.yaml"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def tune(folder: Path, seed: int = 7, *, misled: bool = False) -> Tuned:
    recipe = load_recipe(write_recipe(folder / "recipe", misled=misled), [f"seed={seed}"])
    walked = pipeline.run(recipe, folder / "run", Silent(), until="export")
    whole, small = (shutil.copyfile(gguf_of(walked.artifacts[f"export-{q}"]).path, folder / f"seed{seed}-{q}.gguf") for q in ("F16", "Q8_0"))
    return Tuned(folder / "recipe", whole, small)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tune(tmp_path_factory.mktemp("tuned"))


def audit(files: list[Path], parent: Path | None, folder: Path, out: Path) -> list[FileVerdict]:
    suite, persona = load_suite(folder / "suite.yaml"), load_persona(folder / "persona.yaml")
    here = MachineSettings.model_validate({})
    return anybody.files(files, parent, suite, persona, audit_settings(folder / "suite.yaml", SETTINGS), here, out, 7, Silent()).files


def altered(source: Path, target: Path, change: Callable[[str, np.ndarray], np.ndarray | None]) -> Path:
    """A copy whose F16 tensors are what `change` makes of them; None leaves one as it is."""
    shutil.copyfile(source, target)
    for tensor in gguf.GGUFReader(target, "r+").tensors:
        if tensor.tensor_type.name == "F16" and (made := change(tensor.name, np.array(tensor.data, np.float32))) is not None:
            tensor.data[:] = made.astype(np.float16)
            tensor.data.flush()
    return target


def noised(strength: float) -> Callable[[str, np.ndarray], np.ndarray | None]:
    random = np.random.default_rng(3)

    def change(name: str, values: np.ndarray) -> np.ndarray | None:
        return values + random.normal(0, strength * values.std(), values.shape) if name.startswith("blk.14.") else None

    return change


def flipped(name: str, values: np.ndarray) -> np.ndarray | None:
    return -values if name.startswith("blk.14.ffn_down") or name.startswith("blk.14.attn_output") else None


def shifted(name: str, values: np.ndarray) -> np.ndarray | None:
    return np.roll(values, 1, axis=0) if name == "token_embd.weight" else None


TEMPLATE = "{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}### assistant:"


@pytest.mark.parametrize("seed", range(7, 17))
def test_faithful_files_are_approved(seed: int, tuned: Tuned, tmp_path: Path) -> None:
    """Of ten trainings the F16 and the Q8_0: no false alarm among twenty files."""
    one = tuned if seed == 7 else tune(tmp_path / "other", seed)
    found = audit([one.small], one.whole, tuned.folder, tmp_path / "out")
    assert [(f.verdict, f.reasons) for f in found if f.verdict != "approved"] == []


@pytest.mark.parametrize(
    ("name", "change"),
    [("noise", noised(0.7)), ("noise-strong", noised(1.5)), ("sign", flipped), ("embedding", shifted)],
)
def test_damaged_weights_are_blocked(name: str, change: Callable[[str, np.ndarray], np.ndarray | None], tuned: Tuned, tmp_path: Path) -> None:
    damaged = altered(tuned.whole, tmp_path / f"{name}.gguf", change)
    assert audit([damaged], tuned.whole, tuned.folder, tmp_path / "out")[1].verdict == "blocked"


def test_weak_noise_is_told_by_how_many_answers_are_in_other_words(tuned: Tuned, tmp_path: Path) -> None:
    """A little noise in one layer puts some answers in other words, as a coarse quantisation does; where no probe is lost by it, it may be approved."""
    damaged = altered(tuned.whole, tmp_path / "noise-weak.gguf", noised(0.3))
    parent, _ = audit([damaged], tuned.whole, tuned.folder, tmp_path / "out")
    differ = read_evidence(tmp_path / "out" / "noise-weak").measure("divergence.answers_differ", "noise-weak")
    assert parent.verdict == "approved"
    assert differ is not None and differ.value > 0.1


def test_a_wrong_template_is_blocked(tuned: Tuned, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong-template.gguf"
    quantize(tuned.whole, wrong, "F16", 2, How(notes={"tokenizer.chat_template": TEMPLATE}))
    found = audit([wrong], tuned.whole, tuned.folder, tmp_path / "out")[1]
    assert found.verdict == "blocked"
    assert any("its chat template is not its parent's" in reason for reason in found.reasons)


def test_a_wrong_adapter_is_blocked(tuned: Tuned, tmp_path: Path) -> None:
    """An adapter that was taught each situation with the next one's answer."""
    other = tune(tmp_path / "misled", misled=True)
    wrong = shutil.copyfile(other.whole, tmp_path / "misled.gguf")
    assert audit([wrong], tuned.whole, tuned.folder, tmp_path / "out")[1].verdict == "blocked"


def test_answers_that_lost_their_do_not_are_blocked(tuned: Tuned, tmp_path: Path) -> None:
    audit([], tuned.whole, tuned.folder, tmp_path / "out")
    theirs = read_answers(tmp_path / "out" / tuned.whole.stem / "answers.jsonl")
    suite, system = load_suite(tuned.folder / "suite.yaml"), load_persona(tuned.folder / "persona.yaml").system
    turned = {a.question: a.reply.replace("Do not ", "").replace("do not ", "").replace("Never ", "").replace("never ", "") for a in theirs}
    assert turned != {a.question: a.reply for a in theirs}
    asked = Asked(suite, [as_question(probe, system) for probe in suite.probes], 96, 7)
    answers = examine(ScriptedEngine(turned), "turned", asked, greedy(theirs), Silent())
    file = Examined("turned", Evidence(named(answers, suite.name, "turned"), findings(answers)), answers)
    limits = audit_settings(tuned.folder / "suite.yaml", SETTINGS).thresholds.model_copy(update={"misdirection_at_most": None})
    ((verdict, reasons),) = verdicts([file], suite.name, limits, "")
    assert verdict == "blocked"
    assert any("must-never" in reason for reason in reasons) and any("the opposite" in reason for reason in reasons)
