"""How a byte-level tokenizer splits a text into words before it merges bytes: found by what it does.

A GGUF names the splitting, and llama.cpp's converter knows the name by a hash over token ids, which any tokenizer that was trained anew or extended misses.
"""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorikeet.engine.llamacpp import LlamaCppEngine
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
    "lines\n   indented, and a lone surrogate's neighbour \U0001d54f, ﬁ ligature, ﷺ, \u0e01\u0e33 ไทย",
    "'s 't 're 'LL don't DON'T 1st 22nd 333 4444 55555 1,000.00 ١٢٣ ⅷ ²",
    "\n\n\n  \n\t\t\n \u2028 \u3000 x",
)
"""Texts on which tokenizers part ways. Special tokens in user text are tokenised as such by both sides here. None begins with a space: what SentencePiece puts
before a text is put before a prompt's first word, never before what a user wrote."""
SPLITTINGS = (
    "gpt-2", "llama-bpe", "qwen2", "smollm", "gpt-4o", "tekken", "deepseek-v3", "deepseek-llm", "qwen35", "command-r", "starcoder", "falcon", "stablelm2",
    "superbpe", "bloom",
)  # fmt: skip
"""Names of ways to split that llama.cpp has, those of many models first."""


def composed(tokenizer: Any, text: str) -> str:
    """The text with composed letters (NFC) where the HF tokenizer composes them itself, as Qwen's do: llama.cpp does not, and people type them composed."""
    return unicodedata.normalize("NFC", text) if "NFC" in repr(tokenizer.backend_tokenizer.normalizer) else text


def splitting_of(tokenizer: Any, write: Callable[[str, Path], None], folder: Path) -> str:
    """The name under which llama.cpp splits texts as an HF tokenizer does; ModelError where it has none.

    `write` makes a GGUF of the vocabulary alone, as if it split in the way that is named.
    """
    probe, fewest = folder / "vocabulary.gguf", (len(NASTY), "")
    texts = [composed(tokenizer, text) for text in NASTY]
    theirs = [list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    for name in SPLITTINGS:
        write(name, probe)
        engine = LlamaCppEngine(probe, 1, vocabulary_alone=True)
        differing = sum(engine.tokenize(text) != ids for text, ids in zip(texts, theirs, strict=True))
        engine.close()
        probe.unlink()
        if not differing:
            return name
        fewest = min(fewest, (differing, name))
    near = f"{fewest[1]}, the nearest of its ways, differs on {fewest[0]} of {len(NASTY)} texts"
    raise ModelError(f"llama.cpp splits no text as this base's tokenizer does: {near}", "tune a base whose tokenizer llama.cpp knows")
