"""A GGUF answering an exam: many answers in lock step on one thread of control, so that a run can be repeated exactly.

A server that takes requests as they come batches them differently each time, and greedy answers can part where two
tokens are nearly alike. Here the batches depend on the questions alone.
"""

from collections.abc import Iterator, Sequence
from ctypes import c_char_p, c_float, c_int32, c_void_p, create_string_buffer
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from lorikeet.chat_template import render
from lorikeet.engine import Choices, Likelihood, Prompt, Reply, Sampling, before_stop, shared_beginning
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
    """A loaded GGUF. threads: for decoding; slots: answers written at the same time; adapter: a GGUF of an adapter to put on it;
    vocabulary_alone: it can tokenise and no more.
    """

    def __init__(self, path: Path, threads: int, slots: int = 16, *, adapter: Path | None = None, vocabulary_alone: bool = False) -> None:
        self._lib = library()
        self._context: int | None = None
        self._context_size = (0, 0)
        self._threads = threads
        self._slots = slots
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.vocab_only = vocabulary_alone
        self._model = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ModelError(f"llama.cpp cannot load {path}", "the file is damaged or of an architecture this build does not know; make it again")
        self._adapter = self._lib.llama_adapter_lora_init(self._model, str(adapter).encode()) if adapter else None  # freed with the model
        if adapter and not self._adapter:
            self.close()
            raise ModelError(f"llama.cpp cannot put {adapter} on {path}", "name an adapter that was made for this base")
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.vocabulary: int = self._lib.llama_vocab_n_tokens(self._vocab)
        template = self._lib.llama_model_chat_template(self._model, None)
        self.template = template.decode() if template else ""
        self.bos: int
        self.eos: int
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
        for i, written, ended in self._written([self.tokenize(self.prompt_text(p)) for p in prompts], sampling):
            yield i, Reply(self._text(written).strip(), len(written), ended)

    def complete(self, texts: Sequence[str], sampling: Sampling, stops: Sequence[str]) -> Iterator[tuple[int, str]]:
        for i, written, _ in self._written([self.encode(text) for text in texts], sampling, stops):
            yield i, before_stop(self._text(written), stops)

    def _written(self, tokens: list[list[int]], sampling: Sampling, stops: Sequence[str] = ()) -> Iterator[tuple[int, list[int], bool]]:
        """What the model writes behind each prompt: (position, token ids without the end, whether it ended by itself)."""
        longest = max((len(t) for t in tokens), default=0) + sampling.max_tokens
        self._open(self._slots, longest)
        prefix = self._read_prefix(tokens)
        waiting = [_Slot(i, list(t), random=np.random.default_rng((sampling.seed, i))) for i, t in enumerate(tokens)][::-1]
        running: list[_Slot | None] = [None] * self._slots
        while waiting or any(running):
            self._admit(waiting, running, prefix)
            for number in self._advance(running, sampling, stops):
                slot = running[number]
                assert slot is not None
                running[number] = None
                ended = self.is_end(slot.written[-1])
                yield slot.position, slot.written[: len(slot.written) - ended], ended

    @property
    def prefix_token(self) -> int:
        return self.bos if self.bos >= 0 else self.eos

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        adds = bool(self._lib.llama_vocab_get_add_bos(self._vocab)) and special
        written = adds and text.startswith(self.piece(self.bos, special=True).decode())
        return self.tokenize(text, add_bos=adds and not written)

    def likelihoods(self, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
        """As many questions at a time as have slots for their options: their contexts are read once each, then all options side by side."""
        most = max((len(q.options) for q in questions), default=1)
        slots = max(self._slots, most)
        self._open(slots, max((len(q.context) + max(map(len, q.options)) for q in questions), default=1))
        prefix = self._read_prefix([list(q.context) for q in questions])
        waiting = sorted(range(len(questions)), key=lambda n: len(questions[n].context))
        while waiting:
            together: list[int] = []
            while waiting and sum(len(questions[n].options) for n in [*together, waiting[0]]) <= slots:
                together.append(waiting.pop(0))
            yield from zip(together, self._weigh([questions[n] for n in together], prefix, slots), strict=True)

    def _weigh(self, questions: Sequence[Choices], prefix: int, slots: int) -> list[list[Likelihood]]:
        """The options' likelihoods of questions that have a slot for each option."""
        firsts = list(accumulate((len(q.options) for q in questions), initial=0))
        reading = []
        for question, first in zip(questions, firsts, strict=False):
            self._clear(first)
            if prefix:
                self._lib.llama_memory_seq_cp(self._memory, slots, first, -1, -1)
            last = len(question.context) - 1
            reading += [(question.context[at], at, first, at == last) for at in range(prefix, last + 1)]
        beginnings = self._read(reading)
        going = []
        for question, first in zip(questions, firsts, strict=False):
            for number, option in enumerate(question.options):
                if number:
                    self._clear(first + number)
                    self._lib.llama_memory_seq_cp(self._memory, first, first + number, -1, -1)
                going += [(token, len(question.context) + at, first + number, True) for at, token in enumerate(option[:-1])]
        after, found, at = self._read(going), [], 0  # what comes behind each token read of the options, in their order
        for question, beginning in zip(questions, beginnings, strict=True):
            weighed = []
            for option in question.options:
                rows = np.stack([beginning, *after[at : at + len(option) - 1]])
                at += len(option) - 1
                nats = rows[np.arange(len(option)), list(option)] - logsumexp(rows, axis=-1)
                weighed.append(Likelihood(float(nats.sum(dtype=np.float64)), bool((rows.argmax(-1) == list(option)).all())))
            found.append(weighed)
        return found

    def _read(self, entries: Sequence[tuple[int, int, int, bool]]) -> list[Floats]:
        """Decode entries, as many at a time as a batch holds: the logits of those that want them."""
        found = []
        for start in range(0, len(entries), BATCH_TOKENS):
            part = entries[start : start + BATCH_TOKENS]
            self._decode(part)
            found += [self._logits(i).copy() for i, (*_, wanted) in enumerate(part) if wanted]
        return found

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        for _, reply in self.replies([prompt], sampling):
            yield reply.text

    def logits(self, tokens: Sequence[int], wanted: Sequence[bool] | None = None) -> Floats:
        """Next-token logits after the wanted tokens of one sequence, or after all: shape (wanted tokens, vocabulary)."""
        self._open(self._slots, max(len(tokens), 16))
        self._clear(0)
        wanted = [True] * len(tokens) if wanted is None else wanted
        return np.stack(self._read([(token, i, 0, asked) for i, (token, asked) in enumerate(zip(tokens, wanted, strict=True))]))

    def _text(self, tokens: Sequence[int]) -> str:
        return b"".join(self.piece(t) for t in tokens).decode("utf-8", "replace")

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
        if self._adapter:
            self._lib.llama_set_adapters_lora(self._context, (c_void_p * 1)(self._adapter), 1, (c_float * 1)(1.0))
        self._context_size = (slots, length)
        self._memory = self._lib.llama_get_memory(self._context)

    def _clear(self, sequence: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _read_prefix(self, prompts: list[list[int]]) -> int:
        """Read what all prompts begin with (the system turn) once, in the sequence kept for it, and return its length."""
        if prefix := shared_beginning(prompts):
            self._clear(self._slots)
            self._read([(token, at, self._slots, False) for at, token in enumerate(prompts[0][:prefix])])
        return prefix

    def _admit(self, waiting: list[_Slot], running: list[_Slot | None], prefix: int) -> None:
        """Give free slots to waiting prompts, of which the first `prefix` tokens are read already."""
        for number, slot in enumerate(running):
            if slot is None and waiting:
                self._clear(number)
                if prefix:
                    self._lib.llama_memory_seq_cp(self._memory, self._slots, number, -1, -1)
                running[number] = replace(waiting.pop(), past=prefix)

    def _advance(self, running: list[_Slot | None], sampling: Sampling, stops: Sequence[str]) -> list[int]:
        """Decode once: the next token of every answer under way, and as much of new prompts as fits. Returns the slots of the finished."""
        entries: list[tuple[int, int, int, bool]] = []
        wanted: list[tuple[int, int, _Slot]] = []
        for number, slot in enumerate(running):
            if slot is None:
                continue
            room = BATCH_TOKENS - len(entries) - (len(running) - number - 1)
            chunk = slot.tokens[slot.past : slot.past + max(room, 1)]
            for token in chunk:
                slot.past += 1
                entries.append((token, slot.past - 1, number, slot.past == len(slot.tokens)))
            if slot.past == len(slot.tokens):
                wanted.append((len(entries) - 1, number, slot))
        self._decode(entries)
        finished = []
        for row, number, slot in wanted:
            token = _choose(self._logits(row), sampling, slot.random)
            slot.written.append(token)
            slot.tokens.append(token)
            if self.is_end(token) or len(slot.written) >= sampling.max_tokens or (stops and any(stop in self._text(slot.written) for stop in stops)):
                finished.append(number)
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
