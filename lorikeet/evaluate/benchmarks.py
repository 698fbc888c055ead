"""The field's benchmarks by lm-eval, the library itself, over a model of ours: what it reports of the same model and files is what is reported here.

lm-eval knows the tasks, writes the prompts and scores the answers; the engine does the reading. Rows come from files where the recipe names
them, else from the Hub.
"""

import difflib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from datasets import Dataset
from lm_eval import evaluator, simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from lorikeet.comparison import Column
from lorikeet.engine import Choices, Sampling, Weighing
from lorikeet.errors import DataError, RecipeError, first_line
from lorikeet.exam import evenly
from lorikeet.scoring import fold

logging.getLogger("lm_eval").setLevel(logging.ERROR)
evaluator.get_git_commit_hash = str  # else it asks git of the folder that it is run in, which is not told, and git complains where there is none
SPLITS = ("test", "validation")
TITLES = {"arc_challenge": "ARC-Challenge", "truthfulqa_mc1": "TruthfulQA mc1", "truthfulqa_mc2": "TruthfulQA mc2"}
METRICS = {"acc": "accuracy", "acc_norm": "accuracy by length", "exact_match": "exact match"}


class Benchmark(NamedTuple):
    """A task of lm-eval with its rows at hand: which of them are asked, and those left out since they were trained on, with the place of each there."""

    name: str
    task: Task
    asked: list[int]
    leaked: dict[str, str]

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)

    def question(self, number: int) -> str:
        """What is asked in a row: its question where it has such a key, else the whole prompt."""
        row = self.task.eval_docs[number]
        return str(row["question"]) if "question" in row else str(self.task.doc_to_text(row))


def load(wanted: Mapping[str, str | Path | None], rows: int | None, trained_on: Mapping[str, str]) -> list[Benchmark]:
    """The benchmarks by name, each from the file given or from the Hub.

    rows: at most so many of each, evenly spread. trained_on: folded questions of the training rows, and where they stand; a benchmark's question among
    them is left out. RecipeError for a name that lm-eval does not know, DataError for rows that are not there or not of the task's form.
    """
    found = []
    for name, path in wanted.items():
        task = _task(name, Path(path) if path else None)
        bare = Benchmark(name, task, [], {})
        questions = {n: bare.question(n) for n in range(len(task.eval_docs))}
        leaked = {question: trained_on[fold(question)] for question in questions.values() if fold(question) in trained_on}
        kept = [n for n, question in questions.items() if question not in leaked]
        found.append(Benchmark(name, task, evenly(kept, rows or len(kept)), leaked))
        if not kept:
            raise DataError(f"evaluate.benchmarks.{name}: no question is left to ask", "its rows stand in the training rows, or there are none")
    return found


@cache
def _manager() -> TaskManager:
    return TaskManager()


def _task(name: str, path: Path | None) -> Task:
    known = _manager().all_subtasks
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        raise RecipeError(f"evaluate.benchmarks: lm-eval has no task {name!r}", f"did you mean {', '.join(near)}?" if near else "see `lm-eval ls tasks`")
    asked: Any = name
    if path:
        made = Dataset.from_list(_rows(name, path))
        changes = {"custom_dataset": lambda **_: dict.fromkeys(SPLITS, made), "training_split": None, "fewshot_split": None}
        asked = {"group": "files", "task": [{"task": name, **changes}]}  # a task of the registry takes changes as a member of a group alone
    try:
        loaded = _manager().load([asked])["tasks"]
    except (OSError, ValueError, KeyError, jinja2.UndefinedError) as error:
        cure = (
            f"its rows have to have the keys of the data set on the Hub; {path} has others" if path else f"give a file of its rows: evaluate.benchmarks.{name}"
        )
        raise DataError(f"evaluate.benchmarks.{name}: its rows could not be loaded: {first_line(error)}", cure) from error
    return next(iter(loaded.values()))


def _rows(name: str, path: Path) -> list[dict[str, Any]]:
    """Rows of JSON lines; TruthfulQA's own file, which keeps choices as keys, is given the Hub's form."""
    found, number = [], 0
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):  # noqa: B007  # told where a line cannot be read
            if line.strip():
                found.append({key: _choices(value) if key.endswith("_targets") else value for key, value in json.loads(line).items()})
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"evaluate.benchmarks.{name}: {path}:{number} cannot be read: {error}",
                        "name a file of JSON lines, one row of the benchmark a line") from error  # fmt: skip
    if not found:
        raise DataError(f"evaluate.benchmarks.{name}: {path} is empty", "name a file of JSON lines, one row of the benchmark a line")
    return found


def _choices(value: Any) -> Any:
    if isinstance(value, dict) and "choices" not in value:
        return {"choices": list(value), "labels": list(value.values())}
    return value


class Asked(TemplateLM):  # type: ignore[misc]  # lm-eval ships no types
    """An engine as lm-eval sees a model."""

    def __init__(self, engine: Weighing, told: Callable[[int, int], None]) -> None:
        super().__init__()
        self._engine, self._told = engine, told

    @property
    def eot_token_id(self) -> int:
        return self._engine.prefix_token

    @property
    def tokenizer_name(self) -> str:
        return "lorikeet"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self._engine.encode(string, special=add_special_tokens is not False)

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any) -> list[tuple[float, bool]]:
        """Requests with one context are options of one question."""
        grouped: dict[tuple[int, ...], list[int]] = {}
        for n, (_text, context, _option) in enumerate(requests):
            grouped.setdefault(tuple(context), []).append(n)
        places = list(grouped.values())
        questions = [Choices(context, [requests[n][2] for n in numbers]) for context, numbers in grouped.items()]
        found: dict[int, tuple[float, bool]] = {}
        for done, (position, weighed) in enumerate(self._engine.likelihoods(questions), 1):
            found.update(zip(places[position], ((w.nats, w.greedy) for w in weighed), strict=True))
            self._told(done, len(questions))
        return [found[n] for n in range(len(requests))]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        asked = [Choices([self.prefix_token_id], [self._engine.encode(request.args[0], special=False)]) for request in requests]
        return [weighed[0].nats for _, weighed in sorted(self._engine.likelihoods(asked))]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers; requests are taken together where they end alike."""
        grouped: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for n, request in enumerate(requests):
            how = request.args[1]
            stops = how.get("until") or []
            kind = (tuple([stops] if isinstance(stops, str) else stops), int(how.get("max_gen_toks", 256)))
            grouped.setdefault(kind, []).append(n)
        found = {}
        for (stops, most), numbers in grouped.items():
            for position, text in self._engine.complete([requests[n].args[0] for n in numbers], Sampling(max_tokens=most), stops):
                found[numbers[position]] = text
                self._told(len(found), len(requests))
        return [found[n] for n in range(len(requests))]


class Result(NamedTuple):
    """One question of a benchmark as a model answered it: the log-likelihoods of its choices or the text, and what each metric makes of it."""

    benchmark: str
    subject: str
    id: int
    question: str
    given: list[Any]
    metrics: dict[str, float]


def ask(engine: Weighing, subject: str, benchmarks: Sequence[Benchmark], told: Callable[[int, int], None]) -> tuple[list[Column], list[Result]]:
    """A column for every metric of every benchmark whose average is the benchmark's figure, and what it rests on."""
    model, columns, results = Asked(engine, told), [], []
    for benchmark in benchmarks:
        name = benchmark.task.config.task
        chosen = {name: benchmark.asked}
        found = simple_evaluate(model, tasks=[benchmark.task], samples=chosen, bootstrap_iters=0, log_samples=True, task_manager=_manager())
        samples = found["samples"][name]
        averaged = [metric for metric, how in benchmark.task.aggregation().items() if how.__name__ == "mean" and metric in samples[0]]
        for sample in samples:
            number, values = int(sample["doc_id"]), {metric: float(sample[metric]) for metric in averaged}
            results.append(Result(benchmark.name, subject, number, benchmark.question(number), _given(sample["filtered_resps"]), values))
        mine = [r for r in results if r.benchmark == benchmark.name]
        for metric in averaged:
            title = f"{benchmark.title} {METRICS.get(metric, metric)}"
            columns.append(Column(f"benchmark.{benchmark.name}.{metric}", title, {str(r.id): r.metrics[metric] for r in mine}))
    return columns, results


def _given(responses: Sequence[Any]) -> list[Any]:
    """The log-likelihoods, or the texts, that lm-eval kept of an answer."""
    return [round(float(r[0]), 4) if isinstance(r, tuple | list) else r for r in responses]
