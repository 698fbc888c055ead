"""Benchmarks asked the way people ask: the choices lettered, in the model's own chat format, and a letter for an answer.

Constrained, the likeliest letter is the answer, so that none is unreadable. Parsed, the model writes and the letter is read out of its words; how many
held none is told. Choices come in random order: in TruthfulQA the right one always stands first.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from lorikeet.comparison import Column
from lorikeet.conversation import Message
from lorikeet.engine import Choices, Sampling, Weighing
from lorikeet.errors import RecipeError
from lorikeet.evaluate.benchmarks import Benchmark, Result
from lorikeet.scoring import LETTERS, chosen, lettered

WRITTEN = 24
"""Tokens in which a letter has to come."""


class Lettered(NamedTuple):
    """A row of a benchmark as a question with lettered choices."""

    number: int
    question: str
    choices: list[str]
    right: int

    @property
    def prompt(self) -> list[Message]:
        return [Message("user", lettered(self.question, self.choices))]


def _lettered(benchmark: Benchmark, number: int, seed: int) -> Lettered:
    row = benchmark.task.eval_docs[number]
    if benchmark.task.OUTPUT_TYPE != "multiple_choice" or "question" not in row:
        raise RecipeError(f"evaluate.letters: {benchmark.name} is not a set of questions with choices", "leave evaluate.letters out, or the benchmark")
    choices, right = list(benchmark.task.doc_to_choice(row)), int(benchmark.task.doc_to_target(row))
    order = list(range(len(choices)))
    Random(f"{seed}/{benchmark.name}/{number}").shuffle(order)
    return Lettered(number, benchmark.question(number), [choices[n] for n in order], order.index(right))


def ask(engine: Weighing, subject: str, benchmarks: Sequence[Benchmark], seed: int, told: Callable[[int, int], None]) -> tuple[list[Column], list[Result]]:
    """benchmark.NAME.letter_acc (constrained), benchmark.NAME.parsed_acc and benchmark.NAME.parsed_unreadable.

    A benchmark that has a score of its own over all choices, such as TruthfulQA mc2 with its several right ones, has no letter for an answer and is left out.
    """
    columns, results = [], []
    for benchmark in (b for b in benchmarks if not b.task.config.process_results):
        asked = [_lettered(benchmark, number, seed) for number in benchmark.asked]
        letters = [engine.encode(letter, special=False) for letter in LETTERS]
        weighed = {}
        questions = [Choices(engine.encode(engine.prompt_text(q.prompt), special=False), letters[: len(q.choices)]) for q in asked]
        for done, (position, found) in enumerate(engine.likelihoods(questions), 1):
            weighed[position] = max(range(len(found)), key=lambda n: found[n].nats)
            told(done, len(asked))
        written = {position: reply.text for position, reply in engine.replies([q.prompt for q in asked], Sampling(max_tokens=WRITTEN))}
        values: dict[str, dict[str, float]] = {"letter_acc": {}, "parsed_acc": {}, "parsed_unreadable": {}}
        for position, q in enumerate(asked):
            read = chosen(written[position], q.choices)
            metrics = {"letter_acc": weighed[position] == q.right, "parsed_acc": read == q.right, "parsed_unreadable": read is None}
            for name, value in metrics.items():
                values[name][str(q.number)] = float(value)
            results.append(Result(f"{benchmark.name}.letters", subject, q.number, q.question, [LETTERS[weighed[position]], written[position]],
                                  {name: float(value) for name, value in metrics.items()}))  # fmt: skip
        for name, title in (("letter_acc", "by letter"), ("parsed_acc", "by a letter read from its words"), ("parsed_unreadable", "answers without a letter")):
            columns.append(
                Column(f"benchmark.{benchmark.name}.{name}", f"{benchmark.title}, {title}", values[name], more_is_better=name != "parsed_unreadable")
            )
    return columns, results
