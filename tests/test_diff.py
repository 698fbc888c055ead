"""Two runs side by side: what differs, in pairs of answers to the same questions, and a cause only where there is one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorikeet.diff import diff, told
from lorikeet.errors import RecipeError
from lorikeet.exam import Answer, write_answers


def answer(number: int, outcome: str, which: str = "taught") -> Answer:
    return Answer(f"{which}-{number}", "F16", which, "t", f"{which} question {number}", "", "reply", 5, True, outcome, "", "", "")  # type: ignore[arg-type]


def run(
    path: Path, passed: int, *, change: dict[str, Any] | None = None, pinned: dict[str, str] | None = None, torch: str = "2.13.0", questions: int = 40
) -> Path:
    """A run folder: `change` by dotted key, `passed` of the questions right."""
    tree: dict[str, Any] = {"name": path.name, "base": "smollm2-135m", "seed": 7, "persona": f"{path}/persona.yaml", "data": {"train": f"{path}/rows.jsonl"},
                            "train": {"rank": 16, "alpha": 32, "epochs": 1}, "audit": {"suite": "s", "probes": None}, "machine": {"threads": 0}}  # fmt: skip
    for key, value in (change or {}).items():
        section, _, name = key.rpartition(".")
        (tree[section] if section else tree)[name] = value
    tree["pinned"] = {"base": "b" * 64, "persona": "p" * 64, "audit.suite": "s" * 64, "data.train:rows.jsonl": "r" * 64} | (pinned or {})
    audit = path / "audit-F16-00000000"
    audit.mkdir(parents=True)
    (path / "recipe.resolved.yaml").write_text(yaml.safe_dump(tree))
    steps = [{"name": "audit-F16", "folder": audit.name}]
    (path / "run.json").write_text(json.dumps({"versions": {"torch": torch}, "steps": steps}))
    write_answers(audit / "answers.jsonl", [answer(n, "pass" if n < passed else "miss") for n in range(questions)])
    return path


def test_runs_that_are_made_alike_differ_in_nothing_whatever_they_are_called(tmp_path: Path) -> None:
    found = diff(run(tmp_path / "a", 30), run(tmp_path / "b", 30, change={"machine.threads": 2}))
    assert (found.model, found.exam, found.versions, found.causes) == ([], [], [], [])
    assert told(found, "a", "b").splitlines()[-1] == "one model, examined alike"


@pytest.mark.parametrize(
    ("change", "pinned", "torch", "cause"),
    [
        ({"train.rank": 64}, None, "2.13.0", "train.rank"),
        ({"train.rank": 64, "train.alpha": 128}, None, "2.13.0", "train.rank"),
        ({}, {"data.train:rows.jsonl": "q" * 64}, "2.13.0", "rows"),
        ({}, {"data.train:more.jsonl": "q" * 64}, "2.13.0", "rows"),
        ({}, {"persona": "q" * 64}, "2.13.0", "the persona"),
        ({"base": "other"}, {"base": "c" * 64}, "2.13.0", "the base"),
        ({"seed": 8}, None, "2.13.0", "seed"),
        ({}, None, "2.14.0", "package versions"),
    ],
)
def test_one_thing_that_differs_is_the_cause(tmp_path: Path, change: dict[str, Any], pinned: dict[str, str] | None, torch: str, cause: str) -> None:
    found = diff(run(tmp_path / "a", 20), run(tmp_path / "b", 38, change=change, pinned=pinned, torch=torch))
    assert found.causes == [cause]
    assert f"one cause: {cause}" in told(found, "a", "b")


def test_settings_that_one_method_alone_has_are_part_of_the_method(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a", 20, change={"train.method": "lora"}), run(tmp_path / "b", 38, change={"train.method": "full"})
    resolved = other / "recipe.resolved.yaml"
    tree = yaml.safe_load(resolved.read_text())
    del tree["train"]["rank"], tree["train"]["alpha"]
    resolved.write_text(yaml.safe_dump(tree))
    found = diff(one, other)
    assert found.causes == ["train.method"]
    assert "one cause: train.method" in told(found, "a", "b")


def test_of_two_things_neither_is_and_the_run_that_is_missing_is_named(tmp_path: Path) -> None:
    found = diff(run(tmp_path / "a", 20), run(tmp_path / "b", 38, change={"train.rank": 64, "train.epochs": 3}))
    assert found.causes == ["train.epochs", "train.rank"]
    assert "2 things differ (train.epochs, train.rank): no cause can be named" in told(found, "a", "b")
    assert "run a once more with one of them changed: --set train.epochs=3" in told(found, "a", "b")


def test_answers_are_compared_in_pairs_over_the_questions_asked_of_both(tmp_path: Path) -> None:
    found = diff(run(tmp_path / "a", 20), run(tmp_path / "b", 38, pinned={"audit.suite": "t" * 64}, questions=80))
    (row,) = found.compared
    assert (row.what, row.subject, row.first, row.second, row.difference.n) == ("probes that pass", "F16", 0.5, 0.95, 40)
    assert row.difference.value == pytest.approx(0.45)
    assert row.difference.low > 0.2
    assert [d.key for d in found.exam] == ["the suite"]
    assert "one model, examined in two ways" in told(found, "a", "b")
    same = diff(run(tmp_path / "c", 20), run(tmp_path / "d", 21))
    assert "no difference shown" in told(same, "c", "d")


def test_what_is_no_run_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"is not a run folder: it has no run\.json"):
        diff(run(tmp_path / "a", 20), tmp_path / "empty")
    broken = run(tmp_path / "b", 20)
    (broken / "run.json").write_text("{")
    with pytest.raises(RecipeError, match="cannot be read"):
        diff(tmp_path / "a", broken)
