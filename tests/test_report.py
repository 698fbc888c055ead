"""The report, from small runs made with the real dataclasses."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from lorikeet import artifact, report, statistics
from lorikeet.artifact import Json, write_json
from lorikeet.data.figures import lengths
from lorikeet.errors import ModelError
from lorikeet.evidence import Evidence, FileVerdict, Finding, Measure, Quoted, Verdict, decide, measured, read_release
from lorikeet.exam import Answer, Set, measures, write_answers
from lorikeet.export.quantize import Inside
from lorikeet.weights import QUANTISED

SUITE = "small-safety"
HOSTILE = '<script>alert(1)</script><img src="http://evil.example/x.png" onerror=x>'


def answer(number: int, subject: str, outcome: str, reply: str = "Press hard.", which: Set = "taught", detail: str = "") -> Answer:
    return Answer(
        f"rows.jsonl:{number}", subject, which, "bleeding", f"Question {number}?", "Press hard.", reply, 12, subject != "base", outcome, detail, "", ""
    )


class FakeRun:
    """A run folder that is filled step by step."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.steps: list[dict[str, object]] = []

    def part(self, name: str) -> Path:
        return artifact.begin(self.directory / f"{name}-00000000")

    def finish(self, part: Path, name: str, settings: dict[str, Json] | None = None) -> None:
        made = artifact.finish(part, step=name, key="0" * 16, inputs={}, settings=settings or {}, versions={})
        self.steps.append({"name": name, "key": "0" * 16, "status": "done", "seconds": 61.0, "peak_rss_mb": 500, "folder": made.path.name})

    def data(self) -> None:
        part = self.part("data")
        figures = {"rows": 30, "split": "wordings", "parts": {"taught/train": 20, "taught/test": 10}, "answers": 5, "tokens": 900}
        shape = {"lengths": lengths(np.array([*range(20, 60), 60])), "padding": {"random": 0.4, "by_length": 0.1, "packed": 0.0}, "openings": 4}
        write_json(part / "data.json", {**figures, **shape, "supervised_tokens": 300, "longest": 60, "files": ["rows.jsonl"], "system": "Be brief."})
        write_json(part / "findings.json", [asdict(Finding("warning", "only 20 rows to train on", code="data.few"))])
        write_json(
            part / "preview.json",
            [{"source": "taught.jsonl:1", "cut": False, "runs": [["<|im_start|>user\nQuestion?", False], ["Press hard.<|im_end|>", True]]}],
        )
        self.finish(part, "data")

    def train(self, settings: dict[str, Json] | None = None) -> None:
        part = self.part("train")
        log = [{"step": s, "epoch": s / 20, "loss": 3 / s} for s in range(1, 21)] + [{"step": 20, "epoch": 1.0, "eval_loss": 0.2}]
        write_json(part / "training.json", {"steps": 20, "best_step": 20, "trainable_parameters": 4000, "precision": "fp32", "log": log})
        self.finish(part, "train", {"learning_rate": 0.002, **(settings or {"rank": 4})})

    def evaluate(self) -> None:
        part = self.part("evaluate")
        given = [answer(n, "base", "miss", detail="press* / pressure") for n in range(30)] + [answer(n, "tuned", "pass", HOSTILE) for n in range(30)]
        given += [answer(n, subject, "declined", which=which) for subject in ("base", "tuned") for which in ("outside", "never") for n in range(4)]
        found = [m for subject in ("base", "tuned") for m in measures([a for a in given if a.subject == subject], subject)]
        found += [measured(name, "tuned", statistics.share(3, 9)) for name in ("benchmark.arc_challenge.acc", "holdout.plants.loss", "own.measure")]
        found.append(replace(measured("benchmark.arc_challenge.acc_change", "tuned", statistics.share(1, 9)), p=0.5))
        Evidence(found, [Finding("note", "training lowered the held-out loss")]).write(part)
        write_answers(part / "answers.jsonl", given)
        self.finish(part, "evaluate")

    def file(self, quantisation: str, size: int, tensors: str, broken: int) -> None:
        part = self.part(f"export-{quantisation}")
        inside = Inside(quantisation, size, 1000, 8.0, {"Q8_0": 900, "F32": 100}, {"Q8_0": 3}, tensors)
        write_json(part / QUANTISED, asdict(inside))
        if quantisation == "F16":
            parity = {
                "texts": 16,
                "token_differences": 0,
                "template_differences": 0,
                "positions": 90,
                "top1": 1.0,
                "kl": 1e-6,
                "largest_logit_difference": 0.01,
            }
            write_json(part / "parity.json", parity)
        self.finish(part, f"export-{quantisation}")
        part = self.part(f"audit-{quantisation}")
        given = [answer(n, quantisation, "violation" if n < broken else "pass", f"Lift it {n}. {HOSTILE}", detail="lift it") for n in range(30)]
        named = [Measure(**{**asdict(m), "name": m.name.replace("taught.", f"suite.{SUITE}.")}) for m in measures(given, quantisation)]
        Evidence(named).write(part)
        write_answers(part / "answers.jsonl", given)
        self.finish(part, f"audit-{quantisation}")

    def release(self, verdicts: dict[str, tuple[int, Verdict]]) -> None:
        part = self.part("release")
        files = [FileVerdict(q, f"export-{q}/x.gguf", "ab" * 32, size, word, ["30 of 30 probes passed"]) for q, (size, word) in verdicts.items()]
        decide(files).write(part)
        self.finish(part, "release", {"pass_rate_at_least": 0.85})

    def page(self) -> str:
        base = {"name": "smollm2-135m", "source": "base.gguf", "fingerprint": "f" * 16, "licence": "apache-2.0"}
        words = {"title": "Small assistant", "notice": "Not a doctor.", "system": "Be brief.", "suite": SUITE}
        places = {"recipe": str(self.directory / "recipe.yaml"), "run_dir": str(self.directory), "report": None, "release": None}
        run = {"name": "small", "versions": {"lorikeet": "0.1.0"}, "steps": self.steps, "base": base, **words, **places}
        write_json(self.directory / "run.json", run)
        return report.write(self.directory).read_text(encoding="utf-8")


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "small")


def whole(fake: FakeRun, verdict: Verdict) -> str:
    fake.data()
    fake.train()
    fake.evaluate()
    fake.file("F16", 270_000_000, "aa", broken=0)
    fake.file("Q8_0", 140_000_000, "bb", broken=2)
    fake.file("Q2_K", 90_000_000, "bb", broken=2)
    fake.release({"F16": (270_000_000, verdict), "Q8_0": (140_000_000, "blocked"), "Q2_K": (90_000_000, "blocked")})
    return fake.page()


def test_the_report_asks_nothing_from_outside(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    tags = re.findall(r"<[a-zA-Z][^>]*>", page)
    assert not [tag for tag in tags if re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", tag)]
    assert not re.search(r"<(script|link|iframe|object|img)\b|@import|url\(", page)
    assert "default-src 'none'" in page


def test_model_text_is_escaped(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page


def test_the_verdict_is_a_sentence_with_the_way_to_chat(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    assert "F16, 270 MB, is approved: 30 of 30 probes passed." in page
    assert "lorikeet chat runs/small" in page
    assert "--unreleased" not in page


def test_without_an_approved_file_the_report_says_why_and_how_to_look_all_the_same(fake: FakeRun) -> None:
    page = whole(fake, "not-enough-evidence")
    assert "No file earned approval." in page
    assert "The nearest was F16: 30 of 30 probes passed." in page
    assert "lorikeet serve runs/small --unreleased" in page
    assert "lorikeet chat" not in page


def test_a_stopped_run_shows_what_is_done_and_leaves_out_the_rest(fake: FakeRun) -> None:
    fake.data()
    fake.steps.append({"name": "train", "key": "1" * 16, "status": "failed", "seconds": 0.0, "peak_rss_mb": 0.0, "folder": "train-11111111.part"})
    page = fake.page()
    assert "it failed at train" in page
    assert 'id="data"' in page
    assert not re.search(r'id="(training|comparison|files|parity)"', page)


def test_a_run_that_made_nothing_still_has_a_report(fake: FakeRun) -> None:
    fake.directory.mkdir()
    assert "nothing is done" in fake.page()


def test_a_taught_set_is_called_one(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    assert "This is a taught set." in page
    assert "Unseen wordings of taught situations" in page


def test_files_of_equal_tensors_are_named_as_one(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    assert "The same tensors as Q8_0: one model under two names." in page


def test_a_blocked_file_is_quoted_with_the_rule_it_breaks(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    assert "breaks a must-never rule: “lift it”" in page


def test_a_measure_without_a_human_name_is_shown_by_its_own(fake: FakeRun) -> None:
    assert "own.measure" in whole(fake, "approved")


def test_benchmarks_and_categories_are_called_by_their_names_and_differences_stand_with_them(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    assert "ARC-Challenge: Accuracy" in page
    assert "+11.1 points" in page
    assert "p 0.5: no difference shown" in page
    assert "Held-out loss by category" in page
    assert "acc_change" not in page


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 4}, "LoRA of rank 4: 4,000 weights were trained"),
        ({"rank": 4, "method": "lora", "embeddings": True}, "LoRA of rank 4 and whole embeddings: 4,000"),
        ({"method": "full", "first_layer": 0}, "Full training, without adapter: 4,000"),
        ({"method": "full", "first_layer": 7}, "Full training from layer 7 on, without adapter: 4,000"),
    ],
)
def test_the_page_says_what_was_trained(fake: FakeRun, settings: dict[str, Json], words: str) -> None:
    fake.train(settings)
    assert words in fake.page()


def test_the_diagnosis_of_the_training_is_shown(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    assert "no token gets loss" not in page
    path = next(fake.directory.rglob("training.json"))
    told = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**told, "log": [e | {"loss": 0.0} if "loss" in e else e for e in told["log"]]})
    assert "no token gets loss" in fake.page()


def test_no_path_of_the_machine_is_told(fake: FakeRun) -> None:
    assert str(fake.directory.parent) not in whole(fake, "approved")


def test_a_third_of_the_answers_shown_are_failures_where_there_are_enough() -> None:
    given = [answer(n, "base", "miss") for n in range(40)] + [answer(n, "tuned", "miss" if n < 10 else "pass") for n in range(40)]
    shown, rest = report._pairs(given, "taught", 12)
    assert (len(shown), len(rest)) == (12, 28)
    assert sum(p.tuned.outcome == "miss" for p in shown) == 4


def test_a_folder_without_a_run_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no run\.json"):
        report.write(tmp_path)


def test_what_each_file_costs_and_gives_is_shown_once_a_model(fake: FakeRun) -> None:
    page = whole(fake, "approved")
    table = page[page.index('<table class="weighed">') :]
    table = table[: table.index("</table>")]
    names = re.findall(r'<th scope="row">(\w+)', table)
    assert len(names) == 2 and "F16" in names  # Q2_K and Q8_0 are one model
    assert 'class="chosen"' in table and "recommended" in table
    widths = [float(width) for width in re.findall(r'class="fill" width="([\d.]+)%"', table)]
    assert max(widths) == 100 and min(widths) > 0


def test_the_worst_answers_of_a_release_are_read_back(tmp_path: Path) -> None:
    file = FileVerdict("Q2_K", "x.gguf", "ab" * 32, 9, "blocked", ["why"], [Quoted("Q?", "A.", "breaks a rule")])
    decide([file]).write(tmp_path)
    assert read_release(tmp_path / "release.json").files == [file]
