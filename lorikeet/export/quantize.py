"""llama.cpp's own quantiser, prebuilt in cyllama, and a look at what is really inside a GGUF."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}
"""llama.cpp's llama_ftype numbers (include/llama.h)."""
_BLOCK = 256
"""K-quants store rows in blocks of 256 weights; a row that does not divide is stored as another type."""


@dataclass(frozen=True)
class Inside:
    """What a GGUF holds. bits_a_weight is the whole file's; types counts weights; fell_back counts tensors by type."""

    quantisation: str
    bytes: int
    weights: int
    bits_a_weight: float
    types: dict[str, int]
    fell_back: dict[str, int]
    tensors_sha256: str


def quantize(source: Path, target: Path, quantisation: str, threads: int) -> None:
    """Quantise an F16 GGUF."""
    from cyllama.llama import llama_cpp

    llama_cpp.disable_logging()
    params = llama_cpp.LlamaModelQuantizeParams()
    params.ftype = FILE_TYPES[quantisation]
    params.nthread = threads
    llama_cpp.model_quantize(str(source), str(target), params)


def look_inside(path: Path, quantisation: str) -> Inside:
    """Read a GGUF's tensors: types, real bits a weight, fall-backs, and a hash over types and data alone.

    Two files of one tensors_sha256 are the same model, whatever they are called.
    """
    from gguf import GGUFReader

    reader = GGUFReader(path)
    types: Counter[str] = Counter()
    fell_back: Counter[str] = Counter()
    digest = hashlib.sha256()
    for tensor in reader.tensors:
        kind = tensor.tensor_type.name
        types[kind] += int(tensor.n_elements)
        wide = int(tensor.shape[0])
        if "_K" in quantisation and len(tensor.shape) > 1 and wide % _BLOCK and "_K" not in kind and kind != "F32":
            fell_back[kind] += 1
        digest.update(f"{tensor.name}:{kind}:{list(map(int, tensor.shape))}".encode())
        digest.update(tensor.data.data)
    weights = sum(types.values())
    size = path.stat().st_size
    return Inside(quantisation, size, weights, round(size * 8 / weights, 3), dict(types), dict(fell_back), digest.hexdigest())
