"""Whether a GGUF is the HF model it was made from: token ids, chat template, special tokens, next-token logits, greedy answers; and if not, why not.

Works on any GGUF with its HF model, from whatever trainer. What is told apart by name: a wrong template, a start token too many or too few, a token that
is not where it was, an adapter that is not in the file or at another scale, other weights.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lorikeet import statistics
from lorikeet.conversation import Message
from lorikeet.engine import Sampling
from lorikeet.engine.binding import tensors_of_file
from lorikeet.engine.llamacpp import LlamaCppEngine
from lorikeet.engine.server import LlamaServer
from lorikeet.engine.torch_engine import TorchEngine
from lorikeet.errors import ModelError
from lorikeet.export.changes import Delta, changes
from lorikeet.export.imatrix import linear_layers
from lorikeet.export.splitting import NASTY, composed

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIE = 0.05
"""Logits so near to each other are a tie: rounding to F16 may part them either way, where nothing was learned."""
LIMITS = {"F16": (1e-4, 1.0), "F32": (1e-4, 1.0), "BF16": (2e-3, 0.98)}
"""Largest mean divergence in nats, and least share of equal likeliest tokens, of a file of a type; what is quantised further is not held to any."""
ANSWER_TOKENS = 24
_PERMUTED = ("attn_q.", "attn_k.")
"""Tensors whose rows the converter puts in another order for some architectures."""
_READ = 6
"""Layers whose weights are read to find what is wrong with them."""


TALKS: list[tuple[Message, ...]] = [
    (Message("system", "You are a helpful assistant."), Message("user", "Why does bread rise?"),
     Message("assistant", "Yeast eats sugar and gives off gas. The dough holds the gas in small bubbles, and so it grows.")),
    (Message("user", "Name three rivers in Europe."), Message("assistant", "The Danube, the Rhine, and the Loire.")),
    (Message("system", "You are a helpful assistant."), Message("user", "Write a line of Python that sums a list."),
     Message("assistant", "`total = sum(numbers)`"),
     Message("user", "And the mean?"), Message("assistant", "`mean = sum(numbers) / len(numbers)`, for a list that is not empty.")),
]  # fmt: skip
"""Conversations for a model whose own are not known."""


@dataclass(frozen=True)
class Cause:
    """What is wrong with a file: a short name, a sentence, and what mends it."""

    code: str
    what: str
    cure: str


@dataclass(frozen=True)
class Parity:
    """Differences found; no causes is parity. top1 is the share of positions at which the file's likeliest token is, up to a tie, the HF model's; kl is the
    mean over positions, in nats. kind is the type that most of the file's weights are stored as.
    """

    texts: int
    token_differences: int
    template_differences: int
    positions: int
    top1: float
    kl: float
    largest_logit_difference: float
    answers: int = 0
    answer_differences: int = 0
    kind: str = "F16"
    causes: list[Cause] = field(default_factory=list)


class Logits(NamedTuple):
    """How far next-token logits are from each other over some positions."""

    positions: int
    top1: float
    kl: float
    largest: float


def compare(gguf: Path, base: Path, trained: Path | None, conversations: Sequence[Sequence[Message]], threads: int) -> Parity:
    """Hold a GGUF against the HF model on a nasty corpus, alone and as a user's turn, and on whole conversations, of which there has to be one."""
    hf = TorchEngine(base, trained, threads)
    try:
        if not hf.tokenizer.chat_template:
            raise ModelError(f"the tokenizer in {base} has no chat template", "name the folder of an instruction-tuned model")
        engine = LlamaCppEngine(gguf, threads, slots=1)
        try:
            alone = [composed(hf.tokenizer, text) for text in NASTY]
            wrapped = [hf.prompt_text([Message("user", text)]) for text in alone]
            texts = [*alone, *wrapped, *(m.content for talk in conversations for m in talk)]
            parted = [text for text in texts if _hf_ids(hf, text) != engine.tokenize(text)]
            causes = [*_of_tokens(hf, engine, parted, len(texts)), *_of_ends(hf, engine)]
            prompts = _prompts(conversations)
            templates, found = _of_templates(hf, engine, gguf, prompts, threads)
            causes += found
            rows = [_hf_ids(hf, hf.prompt_text(talk, add_generation_prompt=False)) for talk in conversations]
            logits = _logits(hf, engine, rows)
            kind = _kind(gguf)
            kl_limit, top1_limit = LIMITS.get(kind, (float("inf"), 0.0))
            asked = [hf.prompt_text(prompt) for prompt in prompts] if kind in LIMITS else []
            other = _answers_that_part(hf, engine, asked)
            if not logits.kl <= kl_limit or logits.top1 < top1_limit or (kind not in LIMITS and not logits.kl < 1):
                far = f"next tokens agree on {logits.top1:.1%} of {logits.positions} positions only (KL {logits.kl:.2g} nats)"
                causes += _of_weights(hf, gguf, trained, far)
            elif other:
                causes.append(Cause("greedy-answers", f"{other} of {len(asked)} greedy answers part where nothing is near a tie",
                                    "report it with the base's name"))  # fmt: skip
        finally:
            engine.close()
    finally:
        hf.close()
    return Parity(len(texts), len(parted), templates, logits.positions, round(logits.top1, 6), round(logits.kl, 8), round(logits.largest, 4),
                  len(asked), other, kind, causes)  # fmt: skip


def told(parity: Parity, path: Path) -> str:
    """What was found, for the terminal."""
    lines = [
        f"{path.name} ({parity.kind}) against the HF model:",
        f"  texts tokenised differently: {parity.token_differences} of {parity.texts}",
        f"  prompts written differently by llama.cpp: {parity.template_differences}",
        f"  next tokens agree on {parity.top1:.1%} of {parity.positions} positions, mean divergence {parity.kl:.2g} nats, "
        f"largest difference of a logit {parity.largest_logit_difference:.3g}",
        f"  greedy answers that part: {parity.answer_differences} of {parity.answers}" if parity.answers else
        f"  its weights are quantised ({parity.kind}): how far that moves its answers is what the audit measures",
    ]  # fmt: skip
    for cause in parity.causes:
        lines += [f"not the same model: {cause.code}: {cause.what}", f"  cure: {cause.cure}"]
    return "\n".join(lines if parity.causes else [*lines, "as far as these checks can show, it is the same model"])


def require(parity: Parity, path: Path) -> None:
    """ModelError naming the first thing in which the file is not the trained model."""
    if parity.causes:
        first = parity.causes[0]
        raise ModelError(f"{path.name}: {first.code}: {first.what}", first.cure)


def _hf_ids(hf: TorchEngine, text: str) -> list[int]:
    return list(hf.tokenizer(text, add_special_tokens=False)["input_ids"])


def _prompts(conversations: Sequence[Sequence[Message]]) -> list[list[Message]]:
    """Every conversation up to its last answer, some without a system turn, and one with an answer in its middle."""
    whole = [list(talk[:-1]) for talk in conversations]
    plain = [[m for m in prompt if m.role != "system"] for prompt in whole[:2] if prompt[0].role == "system"]
    longer = [[*conversations[0], Message("user", "And then?")]]
    return [*whole, *plain, *longer]


def _of_tokens(hf: TorchEngine, engine: LlamaCppEngine, parted: Sequence[str], texts: int) -> Iterator[Cause]:
    """Special tokens that are not where they were, and texts that are split differently."""
    moved = []
    for token, number in sorted(hf.tokenizer.get_added_vocab().items(), key=lambda item: item[1]):
        if number < engine.vocabulary and engine.piece(number, special=True).decode("utf-8", "replace") != token:
            there = next((n for n in range(engine.vocabulary) if engine.piece(n, special=True).decode("utf-8", "replace") == token), None)
            moved.append(f"{token} is {number} in the HF tokenizer and {'nowhere' if there is None else there} in the file")
    if moved:
        more = f" (and {len(moved) - 1} more)" if len(moved) > 1 else ""
        yield Cause("special-token-swapped", moved[0] + more, "convert again with the tokenizer the model was trained with")
    elif parted:
        shown = parted[0] if len(parted[0]) < 40 else parted[0][:40] + "…"
        yield Cause("tokens", f"{len(parted)} of {texts} texts are tokenised differently, {shown!r} for one",
                    "the converter took the tokenizer for another one: convert again with the tokenizer the model was trained with")  # fmt: skip
    for name, theirs, ours in (("start", hf.tokenizer.bos_token_id, engine.bos), ("end", hf.tokenizer.eos_token_id, engine.eos)):
        if theirs is not None and ours >= 0 and theirs != ours and not (name == "end" and engine.is_end(theirs)):
            yield Cause("special-token-swapped", f"the token of the {name} is {theirs} in the HF tokenizer and {ours} in the file",
                        "convert again with the tokenizer the model was trained with")  # fmt: skip


def _of_ends(hf: TorchEngine, engine: LlamaCppEngine) -> Iterator[Cause]:
    """Tokens at which the HF model stops and the file does not: answers would run on."""
    missing = [token for token in sorted(hf.ends) if token < engine.vocabulary and not engine.is_end(token)]
    if missing:
        text = hf.tokenizer.convert_ids_to_tokens(missing[0])
        yield Cause("end-of-turn", f"the model stops at {text}, and the file does not count it as an end",
                    "name it as eos token in the tokenizer's settings and convert again")  # fmt: skip


def _of_templates(hf: TorchEngine, engine: LlamaCppEngine, gguf: Path, prompts: Sequence[Sequence[Message]], threads: int) -> tuple[int, list[Cause]]:
    """Prompts that the engine which serves writes differently from the trainer's template, or reads as other tokens; and why."""
    server = LlamaServer(gguf, threads, slots=1)
    bos = hf.tokenizer.bos_token or ""
    try:
        theirs = [hf.prompt_text(p) for p in prompts]
        ours = [server.prompt_text(p) for p in prompts]
        different = [number for number, (a, b) in enumerate(zip(theirs, ours, strict=True)) if _without(bos, a) != _without(bos, b)]
        if different:
            same = engine.template.strip() == str(hf.tokenizer.chat_template).strip()
            a, b = theirs[different[0]], ours[different[0]]
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            where = f"{len(different)} of {len(prompts)} prompts differ, first {a[at : at + 24]!r} in the HF template and {b[at : at + 24]!r} in the file"
            if same:
                return len(different), [Cause("template-rendering", f"{where}, though the template is the same: llama.cpp's engine writes it differently",
                                              "simplify the chat template, and train with that one")]  # fmt: skip
            return len(different), [Cause("wrong-template", f"the file's chat template is another one: {where}",
                                          "convert again with the chat template the model was trained with")]  # fmt: skip
        counted = next(c["usage"]["prompt_tokens"] for c in server.chunks(prompts[0], Sampling(max_tokens=1)) if "usage" in c)
        right = _hf_ids(hf, theirs[0])
        if counted - len(right) == 1:  # what the engine really reads: it may leave out a start token of the template's
            twice = bool(right) and right[0] == hf.tokenizer.bos_token_id
            code = "doubled-bos" if twice else "added-bos"
            told = "twice, by the template and by the tokenizer" if twice else "where training had none"
            return 0, [
                Cause(code, f"the start token is put before a prompt {told}", "set tokenizer.ggml.add_bos_token to false in the file, or convert it again")
            ]
        if right and counted - len(right) == -1 and right[0] == hf.tokenizer.bos_token_id:
            return 0, [Cause("missing-bos", "prompts begin without the start token that training had",
                             "set tokenizer.ggml.add_bos_token to true in the file, or convert it again")]  # fmt: skip
    finally:
        server.close()
    return 0, []


def _without(bos: str, text: str) -> str:
    """A prompt without the start tokens before it, which are counted as tokens."""
    while bos and text.startswith(bos):
        text = text.removeprefix(bos)
    return text


def _logits(hf: TorchEngine, engine: LlamaCppEngine, rows: Sequence[Sequence[int]]) -> Logits:
    agreeing, positions, divergence, largest = 0, 0, 0.0, 0.0
    for ids in rows:
        theirs, ours = hf.logits(ids).numpy(), engine.logits(ids)
        known = min(theirs.shape[-1], ours.shape[-1])  # an embedding may have rows that no token has
        theirs, ours = theirs[:, :known], ours[:, :known]
        agreeing += int((theirs[range(len(ids)), ours.argmax(-1)] >= theirs.max(-1) - TIE).sum())
        divergence += float(statistics.kl_divergence(theirs, ours).sum())
        largest = max(largest, float(abs(theirs - ours).max()))
        positions += len(ids)
    return Logits(positions, agreeing / positions, divergence / positions, largest)


def _answers_that_part(hf: TorchEngine, engine: LlamaCppEngine, prompts: Sequence[str]) -> int:
    """How many greedy answers of the HF model the file would not have written, leaving out ties."""
    parted = 0
    for number, answer, _ in hf.written(prompts, Sampling(max_tokens=ANSWER_TOKENS), special=False):
        asked = _hf_ids(hf, prompts[number])
        if answer:
            logits = engine.logits([*asked, *answer[:-1]], [False] * (len(asked) - 1) + [True] * len(answer))
            parted += bool((logits.max(-1) - logits[range(len(answer)), answer] > TIE).any())
    return parted


def _kind(gguf: Path) -> str:
    """The type that most weights of a file are stored as."""
    counts: Counter[str] = Counter()
    for tensor in tensors_of_file(gguf):
        counts[tensor.kind] += math.prod(tensor.shape)
    return counts.most_common(1)[0][0]


def _of_weights(hf: TorchEngine, gguf: Path, trained: Path | None, far: str) -> list[Cause]:
    """Why logits differ, from the weights themselves: what was trained is missing or has another scale, or they are another model's."""
    pairs = list(_linear_layers(hf, gguf))
    if trained and (scale := _scale_in(pairs, changes(trained))) is not None:
        if abs(scale) < 0.05:
            return [Cause("not-merged", f"what was trained is not in the file; {far}", "merge the adapter into the base, and convert that")]
        if abs(scale - 1) > 0.05:
            return [Cause("wrong-scale", f"the adapter is in the file at {scale:.3g} times its scale; {far}",
                          "merge with alpha / r, with rsLoRA alpha / sqrt(r), and the ranks and alphas of single layers")]  # fmt: skip
    apart = [(name, float(abs(ours - theirs).mean() / (abs(theirs).mean() + 1e-12))) for name, _, theirs, ours in pairs]
    name, most = max(apart, key=lambda item: item[1], default=("", 0.0))
    if most > 0.02:
        return [Cause("other-weights", f"{name} differs from the model's by {most:.0%} of its size; {far}", "convert the model that is named here")]
    return [Cause("logits", far, "the architecture may not be supported by llama.cpp as it is; report it with the base's name")]


def _linear_layers(hf: TorchEngine, gguf: Path) -> Iterator[tuple[str, str, "NDArray[np.float32]", "NDArray[np.float32]"]]:
    """Some linear layers, evenly spread: their names in the GGUF and in the HF model, and their weights in both, of shape (out, in)."""
    import gguf as package

    reader = package.GGUFReader(gguf)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    found = [layer for layer in linear_layers(hf.model, reader) if layer[0] in stored and not any(part in layer[0] for part in _PERMUTED)]
    step = max(1, len(found) // _READ)
    for name, path, module in found[::step]:
        ours = package.quants.dequantize(stored[name].data, stored[name].tensor_type)
        yield name, path, module.weight.detach().float().numpy(), ours


def _scale_in(pairs: Sequence[tuple[str, str, "NDArray[np.float32]", "NDArray[np.float32]"]], made: dict[str, Any]) -> float | None:
    """How much of an adapter is in a file, by least squares over some layers: 1 is all of it. None where none of them has plain LoRA."""
    above = below = 0.0
    for _, path, theirs, ours in pairs:
        change = made.get(f"{path}.weight")
        if isinstance(change, Delta) and change.stored_lengths is None:
            delta = (change.scale * change.b @ change.a).numpy()
            above += float(((ours - theirs + delta) * delta).sum())
            below += float((delta * delta).sum())
    return above / below if below else None
