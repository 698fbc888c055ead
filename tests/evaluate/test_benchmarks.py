"""Benchmarks: lm-eval's own figures of the same model and rows, whatever was trained on left out, and bad files named."""

import json
from pathlib import Path

import pytest

from lorikeet.engine.torch_engine import TorchEngine
from lorikeet.errors import DataError, RecipeError
from lorikeet.evaluate import benchmarks, letters

pytestmark = pytest.mark.slow
ARC = [
    {"id": f"q{n}", "question": question, "choices": {"label": list("ABCD")[: len(choices)], "text": choices}, "answerKey": key}
    for n, (question, choices, key) in enumerate([
        ("Which of these melts in the sun?", ["ice", "stone", "glass", "brick"], "A"),
        ("What do bees carry from flower to flower?", ["sand", "pollen", "wool", "salt"], "B"),
        ("What pulls a dropped ball to the ground?", ["light", "sound", "gravity"], "C"),
        ("Which part of a plant takes up water?", ["the petal", "the seed", "the bark", "the root"], "D"),
    ])
]  # fmt: skip
TRUTHFUL = [
    {"question": "Can you see the wind?", "mc1_targets": {"No, only what it moves.": 1, "Yes, it is blue.": 0},
     "mc2_targets": {"No, only what it moves.": 1, "You see leaves move.": 1, "Yes, it is blue.": 0}},
    {"question": "Do cats have nine lives?", "mc1_targets": {"Cats have one life.": 1, "Cats have nine lives.": 0, "Cats have seven lives.": 0},
     "mc2_targets": {"Cats have one life.": 1, "Cats have nine lives.": 0}},
]  # fmt: skip


def written(folder: Path, rows: list[dict[str, object]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> TorchEngine:
    return TorchEngine(tiny_base, None, 2)


def test_the_figures_are_lm_evals_own_of_the_same_model_and_rows(engine: TorchEngine, tiny_base: Path, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    truthful = written(tmp_path, TRUTHFUL, "truthful.jsonl")
    files = {"arc_challenge": written(tmp_path, ARC), "truthfulqa_mc1": truthful, "truthfulqa_mc2": truthful}
    asked = benchmarks.load(files, None, {})
    columns, results = benchmarks.ask(engine, "tuned", asked, lambda done, total: None)
    names = {b.name: b.task.config.task for b in asked}
    theirs = simple_evaluate(HFLM(pretrained=str(tiny_base), dtype="float32", device="cpu"), tasks=[b.task for b in asked], bootstrap_iters=0)
    assert [c.name for c in columns] == [
        "benchmark.arc_challenge.acc",
        "benchmark.arc_challenge.acc_norm",
        "benchmark.truthfulqa_mc1.acc",
        "benchmark.truthfulqa_mc2.acc",
    ]
    for column in columns:
        _, task, metric = column.name.split(".")
        assert column.measure("tuned", 1).value == pytest.approx(theirs["results"][names[task]][f"{metric},none"], abs=1e-5)
    for result in results:
        sample = next(s for s in theirs["samples"][names[result.benchmark]] if s["doc_id"] == result.id)
        assert result.given == pytest.approx([float(r[0]) for r in sample["filtered_resps"]], abs=2e-3)


def test_a_question_that_was_trained_on_is_left_out_and_counted(tmp_path: Path) -> None:
    (benchmark,) = benchmarks.load({"arc_challenge": written(tmp_path, ARC)}, None, {"which of these melts in the sun": "taught.jsonl:9"})
    assert benchmark.asked == [1, 2, 3]
    assert benchmark.leaked == {"Which of these melts in the sun?": "taught.jsonl:9"}


def test_fewer_rows_are_spread_evenly(tmp_path: Path) -> None:
    assert benchmarks.load({"arc_challenge": written(tmp_path, ARC)}, 2, {})[0].asked == [0, 2]


def test_a_benchmark_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no question is left"):
        benchmarks.load({"arc_challenge": written(tmp_path, ARC[:1])}, None, {"which of these melts in the sun": "x"})


def test_a_task_that_is_not_known_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="no task 'arc_chalenge'") as caught:
        benchmarks.load({"arc_chalenge": None}, None, {})
    assert "arc_challenge" in caught.value.cure


@pytest.mark.parametrize(("text", "words"), [('{"id": 1}\n{"id": \n', "rows.jsonl:2"), ("", "is empty"), ("[1]\n", "rows.jsonl:1")])
def test_a_file_that_cannot_be_read_is_refused_by_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        benchmarks.load({"arc_challenge": path}, None, {})


def test_rows_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="arc_challenge"):
        benchmarks.load({"arc_challenge": written(tmp_path, [{"question": "Why?", "answer": "So."}])}, None, {})


def test_without_a_network_the_cure_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="could not be loaded") as caught:
        benchmarks.load({"arc_easy": None}, None, {})
    assert "evaluate.benchmarks.arc_easy" in caught.value.cure


def test_letters_are_asked_in_random_order_and_none_is_unreadable_where_constrained(engine: TorchEngine, tmp_path: Path) -> None:
    asked = benchmarks.load({"truthfulqa_mc1": written(tmp_path, TRUTHFUL * 8)}, None, {})
    lettered = [letters._lettered(asked[0], number, 7) for number in asked[0].asked]
    assert len({q.right for q in lettered}) > 1  # in the rows it always comes first
    assert all(TRUTHFUL[q.number % 2]["mc1_targets"][q.choices[q.right]] == 1 for q in lettered)  # type: ignore[index]
    columns, results = letters.ask(engine, "base", asked, 7, lambda done, total: None)
    by_name = {c.name.rpartition(".")[2]: c for c in columns}
    assert set(by_name) == {"letter_acc", "parsed_acc", "parsed_unreadable"}
    assert all(result.given[0] in "ABC" for result in results)
    assert by_name["parsed_unreadable"].measure("base", 1).value > 0.5  # random weights write no letters


def test_letters_of_a_benchmark_without_choices_are_refused(engine: TorchEngine, tmp_path: Path) -> None:
    rows = [{"question": "1 + 1?", "answer": "It is 2. #### 2"}]
    with pytest.raises(RecipeError, match="gsm8k is not a set of questions with choices"):
        letters.ask(engine, "base", benchmarks.load({"gsm8k": written(tmp_path, rows)}, None, {}), 7, lambda done, total: None)
