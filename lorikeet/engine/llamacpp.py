"""A GGUF answering an exam: many answers in lock step on one thread of control, so that a run can be repeated exactly.

A server that takes requests as they come batches them differently each time, and greedy answers can part where two
tokens are nearly alike. Here the batches depend on the questions alone.
"""

from collections.abc import Iterator, Sequence
from ctypes import c_char_p, c_int32, create_string_buffer
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorikeet.chat_template import render
from lorikeet.engine import Prompt, Reply, Sampling
from lorikeet.engine.binding import Batch, library
from lorikeet.errors import ModelError

Floats = NDArray[np.float32]
BATCH_TOKENS = 512
"""Tokens decoded in one call."""


@dataclass
class _Slot:
    """One answer being written."""

    position: int
    tokens: list[int]
    past: int = 0
    written: list[int] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=np.random.default_rng)


class LlamaCppEngine:
    """A loaded GGUF. threads: for decoding; slots: answers written at the same time."""

    def __init__(self, path: Path, threads: int, slots: int = 16) -> None:
        self._lib = library()
        self._context: int | None = None
        self._context_size = (0, 0)
        self._threads = threads
        self._slots = slots
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ModelError(f"llama.cpp cannot load {path}", "the file is damaged or of an architecture this build does not know; make it again")
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.vocabulary: int = self._lib.llama_vocab_n_tokens(self._vocab)
        template = self._lib.llama_model_chat_template(self._model, None)
        self.template = template.decode() if template else ""
        self.bos, self.eos = self._lib.llama_vocab_bos(self._vocab), self._lib.llama_vocab_eos(self._vocab)

    def close(self) -> None:
        if self._context:
            self._lib.llama_free(self._context)
            self._context = None
        if self._model:
            self._lib.llama_model_free(self._model)
            self._model = None

    def tokenize(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Token ids of `text`; special tokens written in it count as such."""
        raw = text.encode()
        room = len(raw) + 8
        buffer = (c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, c_char_p(raw), len(raw), buffer, room, add_bos, True)
        return list(buffer[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; special tokens are empty unless asked for."""
        buffer = create_string_buffer(256)
        count = self._lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count] if count > 0 else b""

    def is_end(self, token: int) -> bool:
        """Whether llama.cpp stops at this token."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def prompt_text(self, prompt: Prompt, *, add_generation_prompt: bool = True) -> str:
        """The prompt as the file's own chat template writes it."""
        if not self.template:
            raise ModelError("this GGUF carries no chat template", "export it again from a model whose tokenizer has one")
        bos, eos = (self.piece(t, special=True).decode() if t >= 0 else "" for t in (self.bos, self.eos))
        return render(self.template, prompt, bos=bos, eos=eos, add_generation_prompt=add_generation_prompt)

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        tokens = [self.tokenize(self.prompt_text(p)) for p in prompts]
        longest = max((len(t) for t in tokens), default=0) + sampling.max_tokens
        self._open(self._slots, longest)
        prefix = self._read_prefix(tokens)
        waiting = [_Slot(i, t, random=np.random.default_rng((sampling.seed, i))) for i, t in enumerate(tokens)][::-1]
        running: list[_Slot | None] = [None] * self._slots
        while waiting or any(running):
            self._admit(waiting, running, prefix)
            for slot in self._advance(running, sampling):
                running[running.index(slot)] = None
                ended = self.is_end(slot.written[-1])
                yield slot.position, Reply(self._text(slot.written), len(slot.written) - ended, ended)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        for _, reply in self.replies([prompt], sampling):
            yield reply.text

    def logits(self, tokens: Sequence[int], wanted: Sequence[bool] | None = None) -> Floats:
        """Next-token logits after the wanted tokens of one sequence, or after all: shape (wanted tokens, vocabulary)."""
        self._open(self._slots, max(len(tokens), 16))
        self._clear(0)
        wanted = [True] * len(tokens) if wanted is None else wanted
        rows = []
        for start in range(0, len(tokens), BATCH_TOKENS):
            entries = [(token, start + i, 0, wanted[start + i]) for i, token in enumerate(tokens[start : start + BATCH_TOKENS])]
            self._decode(entries)
            rows += [self._logits(i).copy() for i, (_, _, _, asked) in enumerate(entries) if asked]
        return np.stack(rows)

    def _text(self, tokens: Sequence[int]) -> str:
        return b"".join(self.piece(t) for t in tokens).decode("utf-8", "replace").strip()

    def _open(self, slots: int, length: int) -> None:
        """Make sure that the context has room for `slots` sequences of `length` tokens, and one for what they all begin with."""
        length = -(-length // 256) * 256
        if self._context and self._context_size[0] == slots and self._context_size[1] >= length:
            return
        if self._context:
            self._lib.llama_free(self._context)
        params = self._lib.llama_context_default_params()
        params.n_seq_max, params.n_ctx = slots + 1, (slots + 1) * length
        params.n_batch, params.n_ubatch = BATCH_TOKENS, BATCH_TOKENS
        params.n_threads = params.n_threads_batch = self._threads
        self._context = self._lib.llama_init_from_model(self._model, params)
        if not self._context:
            raise ModelError(f"llama.cpp cannot open a context of {slots} times {length} tokens", "lower machine.slots or max_new_tokens")
        self._context_size = (slots, length)
        self._memory = self._lib.llama_get_memory(self._context)

    def _clear(self, sequence: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _read_prefix(self, prompts: list[list[int]]) -> int:
        """Read what all prompts begin with (the system turn) once, in the sequence kept for it, and return its length."""
        if len(prompts) < 2:
            return 0
        first, last = min(prompts), max(prompts)
        most = min(len(p) for p in prompts) - 1
        prefix = next((i for i in range(most) if first[i] != last[i]), most)
        self._clear(self._slots)
        for start in range(0, prefix, BATCH_TOKENS):
            self._decode([(first[i], i, self._slots, False) for i in range(start, min(start + BATCH_TOKENS, prefix))])
        return prefix

    def _admit(self, waiting: list[_Slot], running: list[_Slot | None], prefix: int) -> None:
        """Give free slots to waiting prompts, of which the first `prefix` tokens are read already."""
        for number, slot in enumerate(running):
            if slot is None and waiting:
                self._clear(number)
                if prefix:
                    self._lib.llama_memory_seq_cp(self._memory, self._slots, number, -1, -1)
                running[number] = replace(waiting.pop(), past=prefix)

    def _advance(self, running: list[_Slot | None], sampling: Sampling) -> list[_Slot]:
        """Decode once: the next token of every answer under way, and as much of new prompts as fits. Returns the finished."""
        entries: list[tuple[int, int, int, bool]] = []
        wanted: list[tuple[int, _Slot]] = []
        for number, slot in enumerate(running):
            if slot is None:
                continue
            room = BATCH_TOKENS - len(entries) - (len(running) - number - 1)
            chunk = slot.tokens[slot.past : slot.past + max(room, 1)]
            for token in chunk:
                slot.past += 1
                entries.append((token, slot.past - 1, number, slot.past == len(slot.tokens)))
            if slot.past == len(slot.tokens):
                wanted.append((len(entries) - 1, slot))
        self._decode(entries)
        finished = []
        for row, slot in wanted:
            token = _choose(self._logits(row), sampling, slot.random)
            slot.written.append(token)
            slot.tokens.append(token)
            if self.is_end(token) or len(slot.written) >= sampling.max_tokens:
                finished.append(slot)
        return finished

    def _decode(self, entries: Sequence[tuple[int, int, int, bool]]) -> None:
        """Decode (token, position, sequence, wants logits) entries."""
        batch: Batch = self._lib.llama_batch_init(len(entries), 0, 1)
        try:
            batch.n_tokens = len(entries)
            for i, (token, position, sequence, wanted) in enumerate(entries):
                batch.token[i], batch.pos[i] = token, position
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
                batch.logits[i] = int(wanted)
            status = self._lib.llama_decode(self._context, batch)
        finally:
            self._lib.llama_batch_free(batch)
        if status != 0:
            raise ModelError(f"llama.cpp could not decode (status {status})", "lower machine.slots, or shorten the prompts")

    def _logits(self, row: int) -> Floats:
        return np.ctypeslib.as_array(self._lib.llama_get_logits_ith(self._context, row), shape=(self.vocabulary,))


def _choose(logits: Floats, sampling: Sampling, random: np.random.Generator) -> int:
    """The next token: the likeliest at temperature 0, else drawn from the smallest set of mass top_p (Holtzman 2019)."""
    if sampling.temperature <= 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    chances = np.exp(scaled - scaled.max())
    chances /= chances.sum()
    order = np.argsort(-chances)
    kept = order[: int(np.searchsorted(np.cumsum(chances[order]), sampling.top_p)) + 1]
    return int(random.choice(kept, p=chances[kept] / chances[kept].sum()))
