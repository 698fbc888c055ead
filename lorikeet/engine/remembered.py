"""An engine whose answers are kept in a file as they come, so that asking again after an interruption asks only what is left."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorikeet.engine import Engine, Prompt, Reply, Sampling

REPLIES = "replies.jsonl"
"""The file's usual name."""


class Remembered:
    """`engine` with its answers in `file`, by what was asked and how. identity: what tells the model from others, whose answers may stand in the same file.

    A line that was cut off when the file was last written counts for nothing.
    """

    def __init__(self, engine: Engine, identity: str, file: Path) -> None:
        self._engine, self._identity, self._file = engine, identity, file
        self._kept: dict[str, Reply] = {}
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                row = json.loads(line)
                self._kept[row["asked"]] = Reply(row["text"], row["tokens"], row["ended"])
            except (ValueError, KeyError, TypeError):
                continue
        self.known = 0
        """Answers that were not asked for again."""

    def close(self) -> None:
        self._engine.close()

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        return self._engine.stream(prompt, sampling)

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        keys = [self._key(prompt, sampling) for prompt in prompts]
        for n, key in enumerate(keys):
            if key in self._kept:
                self.known += 1
                yield n, self._kept[key]
        left = [n for n, key in enumerate(keys) if key not in self._kept]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            for at, reply in self._engine.replies([prompts[n] for n in left], sampling):
                row = {"asked": keys[left[at]], "text": reply.text, "tokens": reply.tokens, "ended": reply.ended}
                file.write("\n" * self._torn + json.dumps(row) + "\n")
                file.flush()
                self._torn = False
                yield left[at], reply

    def _key(self, prompt: Prompt, sampling: Sampling) -> str:
        how = [sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed]
        return hashlib.sha256(json.dumps([self._identity, [m.as_dict() for m in prompt], how]).encode()).hexdigest()
