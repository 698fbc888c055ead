"""The evaluate stage on a tiny model: everything that a recipe may ask for is measured, of both models, and what was trained on is left out."""

import json
from pathlib import Path

import pytest
from fake_endpoint import served

from lorikeet import pipeline
from lorikeet.errors import RecipeError
from lorikeet.evidence import Evidence, read_evidence
from lorikeet.progress import Silent
from lorikeet.recipe import load_recipe
from lorikeet.report import write

pytestmark = pytest.mark.slow
ARC = [
    {"id": f"q{n}", "question": f"Which of these is number {n}?", "choices": {"label": ["A", "B"], "text": ["moss", "rain"]}, "answerKey": "AB"[n % 2]}
    for n in range(6)
] + [{"id": "q9", "question": "nosebleed first aid", "choices": {"label": ["A", "B"], "text": ["moss", "rain"]}, "answerKey": "A"}]  # fmt: skip
SUITE = """\
name: tiny
not_taught: [not been taught]
rules:
  nosebleed: {hazard: tilting, source: none, must_say: [[pinch*]], must_never: [tilt* .. back]}
probes:
- {id: n1, topic: nosebleed, question: Blood drips from her nose}
- {id: n2, topic: nosebleed, question: Her nose bleeds and bleeds, rephrases: n1}
- {id: n3, topic: nosebleed, question: nosebleed first aid}
- {id: m1, topic: nosebleed, question: "What pinches?", choices: [a crab, a cloud], answer: a crab}
"""


def evaluated(recipe: Path, out: Path, *overrides: str) -> tuple[Evidence, Path]:
    made = pipeline.run(load_recipe(recipe, overrides), out, Silent(), until="evaluate").artifacts["evaluate"]
    return read_evidence(made.path), made.path


def test_what_a_recipe_asks_for_is_measured_of_both(tiny_recipe: Path, tmp_path: Path) -> None:
    (tiny_recipe.parent / "arc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ARC), encoding="utf-8")
    asked = ["evaluate.benchmarks.arc_challenge=arc.jsonl", "evaluate.letters=true", "evaluate.samples=2", "evaluate.temperature=0.7"]

    def judges(text: str) -> str:
        good = any(text.partition("Answer to grade:\n")[2].startswith(topic) for topic in ("Nosebleed:", "Burn:", "Choking:", "Fainting:", "Bee", "Cramp:"))
        about = text.partition("Question:\n")[2].partition("\n\n")[0].lower()
        right = any(word in about for word in text.partition("Answer to grade:\n")[2].partition(":")[0].lower().replace("fainting", "faint").split())
        return f'{{"grade": {5 if good and right else 1}}}'

    with served(judges) as (url, asked_of_judge):
        evidence, folder = evaluated(tiny_recipe, tmp_path / "run", *asked, f"evaluate.judge.endpoint={url}#fake")
    names = {(m.name, m.subject) for m in evidence.measures}
    for name in (
        "holdout.loss", "holdout.perplexity", "holdout.token_accuracy", "taught.chrf", "taught.rouge_l", "taught.exact_match", "suite.tiny.pass_rate",
        "general.acc", "general.loss", "benchmark.arc_challenge.acc", "benchmark.arc_challenge.letter_acc", "benchmark.arc_challenge.parsed_unreadable",
    ):  # fmt: skip
        assert {(name, "base"), (name, "tuned")} <= names, name
        assert (f"{name}_change", "tuned") in names or name == "holdout.perplexity"
    assert evidence.measure("benchmark.arc_challenge.acc", "base").n == 6  # type: ignore[union-attr]
    assert any("1 questions of ARC-Challenge stand in the training rows" in f.what and "nosebleed first aid" in f.excerpt for f in evidence.findings)
    assert len([line for line in (folder / "benchmarks.jsonl").read_text().splitlines() if json.loads(line)["benchmark"] == "arc_challenge"]) == 12
    probes = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines() if json.loads(line)["set"] == "suite"]
    assert {(a["subject"], a["id"]) for a in probes} == {(s, f"n1#{n}") for s in ("base", "tuned") for n in (1, 2)}
    assert any(f.code == "judge" for f in evidence.findings)
    assert asked_of_judge
    page = write(tmp_path / "run").read_text(encoding="utf-8")
    assert "ARC-Challenge: Accuracy" in page
    assert "General questions answered rightly" in page
    assert "no difference shown" in page


def test_a_probe_that_was_trained_on_is_left_out_and_wordings_count_as_one(tiny_recipe: Path, tmp_path: Path) -> None:
    pipeline.run(load_recipe(tiny_recipe), tmp_path / "run", Silent(), until="train")  # a suite that leaks from the first is refused with the data
    (tiny_recipe.parent / "suite.yaml").write_text(SUITE, encoding="utf-8")
    evidence, folder = evaluated(tiny_recipe, tmp_path / "run", "evaluate.panel=false")
    asked = {json.loads(line)["id"] for line in (folder / "answers.jsonl").read_text().splitlines() if json.loads(line)["set"] == "suite"}
    assert asked == {"n1", "n2", "m1"}
    (leak,) = [f for f in evidence.findings if f.code == "suite.leak"]
    assert leak.what == "1 probes of tiny stand in the training rows and were left out"
    assert leak.excerpt.startswith("n3: taught.jsonl:")
    assert evidence.measure("suite.tiny.pass_rate", "tuned").n == 2  # type: ignore[union-attr]
    assert evidence.measure("general.acc", "base") is None


def test_a_benchmark_that_is_not_there_is_told_before_the_training(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no task 'arc_chalenge'"):
        evaluated(tiny_recipe, tmp_path / "run", "evaluate.benchmarks.arc_chalenge=")
    assert not list((tmp_path / "run").glob("train-????????"))
