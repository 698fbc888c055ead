"""An engine that answers from a table: for tests of everything that asks a model, without one."""

import re
from collections.abc import Iterator, Mapping, Sequence

from lorikeet.engine import Prompt, Reply, Sampling


class ScriptedEngine:
    """Answers the last user turn from `answers`, else with `otherwise`. Ends by itself unless cut at max_tokens words."""

    def __init__(self, answers: Mapping[str, str], otherwise: str = "I do not know.") -> None:
        self._answers = dict(answers)
        self._otherwise = otherwise
        self.asked: list[str] = []

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        for position, prompt in enumerate(prompts):
            words = re.findall(r"\s*\S+", "".join(self.stream(prompt, sampling)))
            kept = words[: sampling.max_tokens]
            yield position, Reply("".join(kept).strip(), len(kept), len(kept) == len(words))

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        question = prompt[-1].content
        self.asked.append(question)
        for number, word in enumerate(self._answers.get(question, self._otherwise).split(" ")):
            yield word if number == 0 else " " + word

    def close(self) -> None:
        return None
