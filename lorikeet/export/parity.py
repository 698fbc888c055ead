"""Whether a GGUF is the model that was trained: token ids, chat template and next-token logits against the HF model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorikeet import statistics
from lorikeet.conversation import Message
from lorikeet.engine.llamacpp import LlamaCppEngine
from lorikeet.engine.server import LlamaServer
from lorikeet.engine.torch_engine import TorchEngine
from lorikeet.errors import ModelError

NASTY = (
    "Hello, world!  Two  spaces,\ttabs\nand\r\nnewlines.   ",
    "naïve café — “quotes” … ½ €5 №7",
    "日本語のテキスト、한국어, 中文，العربية, हिन्दी, ελληνικά, кириллица",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 and combining e\u0301",
    "def f(x):\n    return {'a': [1, 2.5e-3]}  # code",
    "<|im_start|>user\nwritten by a user<|im_end|>",
    "https://example.org/?q=a+b&c=%20 user@example.org 1234567890 0x1F",
    "\u200bzero\u00a0width\ufeff",
)
"""Texts on which tokenizers part ways. Special tokens in user text are tokenised as such by both sides here."""


TIE = 0.05
"""Logits so near to each other are a tie: rounding to F16 may part them either way, where nothing was learned."""


@dataclass(frozen=True)
class Parity:
    """Differences found; all zero and top1 1.0 is parity. top1 is the share of positions at which the file's likeliest token is, up to a tie, the trained
    model's; kl is the mean over positions, in nats.
    """

    texts: int
    token_differences: int
    template_differences: int
    positions: int
    top1: float
    kl: float
    largest_logit_difference: float


def compare(gguf: Path, base: Path, trained: Path | None, conversations: Sequence[Sequence[Message]], threads: int) -> Parity:
    """Hold a GGUF against the HF model on a nasty corpus and on whole conversations."""
    hf = TorchEngine(base, trained, threads)
    engine = LlamaCppEngine(gguf, threads, slots=1)
    try:
        texts = [*(Message("user", text).content for text in NASTY), *(m.content for talk in conversations for m in talk)]
        tokens = sum(_hf_ids(hf, t) != engine.tokenize(t) for t in texts)
        templates = _template_differences(hf, gguf, conversations, threads)
        positions = agreeing = 0
        divergence = largest = 0.0
        for talk in conversations:
            ids = _hf_ids(hf, hf.prompt_text(talk, add_generation_prompt=False))
            theirs, ours = hf.logits(ids).numpy(), engine.logits(ids)
            agreeing += int((theirs[range(len(ids)), ours.argmax(-1)] >= theirs.max(-1) - TIE).sum())
            divergence += float(statistics.kl_divergence(theirs, ours).sum())
            largest = max(largest, float(abs(theirs - ours).max()))
            positions += len(ids)
    finally:
        engine.close()
        hf.close()
    return Parity(len(texts), tokens, templates, positions, round(agreeing / positions, 6), round(divergence / positions, 8), round(largest, 4))


def _hf_ids(hf: TorchEngine, text: str) -> list[int]:
    return list(hf.tokenizer(text, add_special_tokens=False)["input_ids"])


def _template_differences(hf: TorchEngine, gguf: Path, conversations: Sequence[Sequence[Message]], threads: int) -> int:
    """Prompts that the engine which serves writes differently from the trainer's template."""
    server = LlamaServer(gguf, threads, slots=1)
    try:
        prompts = [talk[:-1] for talk in conversations] + [[m for m in talk[:-1] if m.role != "system"] for talk in conversations[:2]]
        return sum(server.prompt_text(p) != hf.prompt_text(p) for p in prompts)
    finally:
        server.close()


def require(parity: Parity, path: Path) -> None:
    """ModelError naming the first thing in which the file is not the trained model."""
    if parity.token_differences:
        raise ModelError(f"{path.name}: {parity.token_differences} of {parity.texts} texts are tokenised differently from the trained model",
                         "the converter took the tokenizer for another one; report it with the base's name")  # fmt: skip
    if parity.template_differences:
        raise ModelError(f"{path.name}: llama.cpp writes {parity.template_differences} prompts differently from the training template",
                         "the chat template does not survive in llama.cpp; report it with the base's name")  # fmt: skip
    if parity.top1 < 0.99 or parity.kl > 1e-3:
        raise ModelError(f"{path.name}: next tokens agree on {parity.top1:.1%} of {parity.positions} positions only (KL {parity.kl:.2g})",
                         "what was trained was merged wrongly or the architecture is not supported; report it with the base's name")  # fmt: skip
