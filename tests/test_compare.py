"""Two models side by side: the same questions, what was trained on left out, who won, and a page that says so."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from fake_endpoint import served

from lorikeet import compare
from lorikeet.compare import Asked, Comparison, parted
from lorikeet.engine import Sampling
from lorikeet.engine.scripted import ScriptedEngine
from lorikeet.errors import DataError, ModelError, RecipeError
from lorikeet.progress import Silent
from lorikeet.subjects import Subject, subject

SUITE = """\
name: burns
not_taught: [not taught]
rules:
  burn: {hazard: h, source: s, must_say: [[cool*]], must_never: [butter]}
  cut: {hazard: h, source: s, must_say: [[press*]]}
probes:
"""
SUITE += "".join(
    f"- {{id: {kind}{n}, topic: {topic}, question: '{topic.title()} number {n}?'}}\n" for n in range(8) for kind, topic in (("b", "burn"), ("c", "cut"))
)
GOOD = {f"{kind} number {n}?": answer for n in range(8) for kind, answer in (("Burn", "Cool it with water."), ("Cut", "Press on it."))}


def one(name: str, answers: Mapping[str, str], trained_on: Mapping[str, str] | None = None) -> Subject:
    return Subject(name, "a table", lambda: ScriptedEngine(answers, "Put butter on it."), trained_on=trained_on or {})


def suite_of(folder: Path) -> Path:
    path = folder / "suite.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def compared(folder: Path, first: Subject, second: Subject, asked: Asked | None = None, **more: object) -> Comparison:
    asked = asked or compare.asked(suite_of(folder), None, (first, second), None, None)
    return compare.compare(first, second, asked, Sampling(), folder / "out", Silent(), **more)  # type: ignore[arg-type]


def test_the_better_one_is_called_better_and_everything_is_written(tmp_path: Path) -> None:
    found = compared(tmp_path, one("poor", {}), one("good", GOOD))
    said = [f.what for f in found.evidence.findings]
    assert any(text.startswith("Suite burns, passes: good is better, 100.0 points above poor") for text in said)
    assert compare.document(found)["won"] == {"first": 0, "second": 16, "both": 0, "neither": 0, "same": 0, "open": 0}
    out = tmp_path / "out"
    assert len((out / "answers.jsonl").read_text().splitlines()) == 32
    names = {m["name"] for m in json.loads((out / "evidence.json").read_text())["measures"]}
    assert {"suite.burns.pass_rate", "suite.burns.pass_rate_change", "suite.burns.violation_rate", "generation.stop_rate"} <= names
    page = found.page.read_text(encoding="utf-8")
    assert "good alone 16" in page
    assert "<script" not in page
    assert "<mark>Cool it" in page


def test_one_against_itself_shows_no_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, one("same", GOOD), one("same", GOOD))
    assert all("no difference shown" in f.what for f in found.evidence.findings)
    assert compare.document(found)["won"] == {"first": 0, "second": 0, "both": 0, "neither": 0, "same": 16, "open": 0}
    assert {c.first for c in found.compared} == {"same (first)"}


def test_what_either_was_trained_on_is_left_out_and_counted(tmp_path: Path) -> None:
    found = compared(tmp_path, one("a", GOOD), one("b", GOOD, {"burn number 3": "taught.jsonl:7"}))
    assert len(found.pairs) == 15
    assert "1 questions stand in the training rows and were left out" in found.evidence.findings[-1].what
    assert found.evidence.findings[-1].excerpt == "b3: taught.jsonl:7"


def test_where_all_was_trained_on_nothing_is_asked(tmp_path: Path) -> None:
    all_of_it = {question.lower().strip("?"): "rows" for question in GOOD}
    with pytest.raises(DataError, match="all 16 questions"):
        compared(tmp_path, one("a", GOOD), one("b", GOOD, all_of_it))


def test_rows_with_answers_are_held_against_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in GOOD.items()), encoding="utf-8")
    first, second = one("poor", {}), one("good", GOOD)
    found = compared(tmp_path, first, second, compare.asked(None, path, (first, second), "You help.", 10))
    assert len(found.pairs) == 10
    by_name = {c.column.name: c for c in found.compared}
    assert by_name["taught.chrf"].shown
    assert by_name["taught.exact_match"].change.interval.value == 1.0
    assert {p.won for p in found.pairs} == {"open"}


def test_plain_questions_are_asked_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("Burn number 1?\n\nCut number 2?\n", encoding="utf-8")
    asked = compare.asked(None, path, (), "You help.", None)
    assert [q.text for q in asked.questions] == ["Burn number 1?", "Cut number 2?"]
    assert asked.questions[0].messages[0].content == "You help."


def test_without_questions_there_is_nothing_to_ask(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing to ask"):
        compare.asked(None, None, (), None, None)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no question"):
        compare.asked(None, tmp_path / "empty.txt", (), None, None)


def test_answers_are_cut_where_they_part_and_joined_they_are_whole() -> None:
    first, second = parted("Cool the burn\nfor ten minutes.", "Cool the burn\nfor twenty minutes.")
    assert [s.text for s in first if s.differs] == ["ten "]
    assert [s.text for s in second if s.differs] == ["twenty "]
    assert "".join(s.text for s in first) == "Cool the burn\nfor ten minutes."
    assert parted("", "x")[0] == []


def test_a_judge_decides_where_no_rules_do(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": f"{a} ({q})"}) + "\n" for q, a in GOOD.items()), encoding="utf-8")
    first, second = one("poor", {}), one("good", {q: f"{a} ({q})" for q, a in GOOD.items()})

    def likes(text: str) -> str:
        asked, one_answer, other = (text.partition(f"{head}:\n")[2].partition("\n\n")[0] for head in ("Question", "First answer", "Second answer"))
        marks = [f"({asked})" in answer for answer in (one_answer, other)]
        return '{"better": "%s"}' % ("neither" if marks[0] == marks[1] else "first" if marks[0] else "second")

    with served(likes) as (url, _):
        found = compared(tmp_path, first, second, compare.asked(None, path, (first, second), "", None), judge=f"{url}#fake")
    assert {p.won for p in found.pairs} == {"second"}
    assert any("the judge finds better: good is better" in f.what for f in found.evidence.findings)
    with served(lambda text: '{"better": "first"}') as (url, _):
        found = compared(tmp_path / "x", first, second, compare.asked(None, path, (first, second), "", None), judge=f"{url}#other")
    assert {p.won for p in found.pairs} == {"open"}
    assert any("cannot be believed" in f.what for f in found.evidence.findings)


def test_an_endpoint_is_a_subject(tmp_path: Path) -> None:
    with served(lambda text: GOOD[text]) as (url, _):
        found = compared(tmp_path, one("poor", {}), subject(f"{url}#fake", "", 1, Silent()))
    assert compare.document(found)["won"]["second"] == 16  # type: ignore[index]


@pytest.mark.parametrize("spec", ["no-such-thing", "runs/none:Q8_0", "missing.gguf"])
def test_what_is_no_model_is_refused(spec: str) -> None:
    from lorikeet.errors import LorikeetError

    with pytest.raises(LorikeetError):
        subject(spec, "", 1, Silent())


@pytest.mark.slow
def test_a_benchmark_is_put_to_a_model_and_to_its_file(tiny_base: Path, tmp_path: Path) -> None:
    from lorikeet import bases
    from lorikeet.export.merge import Order, convert

    none = tmp_path / "nothing-trained"
    none.mkdir()
    (none / "adapter_config.json").write_text("{}")
    convert(Order(str(bases.prepare(str(tiny_base), Silent()).path), str(none), str(tmp_path / "tiny.gguf"), "F16", "tiny"), tmp_path)
    rows = [
        {"id": str(n), "question": f"Is it number {n}?", "choices": {"label": ["A", "B"], "text": ["yes", f"no, {n}"]}, "answerKey": "AB"[n % 2]}
        for n in range(8)
    ]
    arc = tmp_path / "arc.jsonl"
    arc.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    both = [subject(str(spec), "", 2, Silent()) for spec in (tiny_base, tmp_path / "tiny.gguf")]
    found = compare.compare(*both, compare.asked(None, None, both, wanted={"arc_challenge": arc}), Sampling(), tmp_path / "out", Silent())
    names = {m.name for m in found.evidence.measures}
    assert {"benchmark.arc_challenge.acc", "benchmark.arc_challenge.acc_norm", "benchmark.arc_challenge.acc_change"} <= names
    assert all("no difference shown" in f.what for f in found.evidence.findings)
    with served(lambda text: "x") as (url, _), pytest.raises(ModelError, match="does not tell how likely"):
        far = subject(f"{url}#fake", "", 1, Silent())
        compare.compare(both[0], far, compare.asked(None, None, (both[0], far), wanted={"arc_challenge": arc}), Sampling(), tmp_path / "far", Silent())
