"""llama.cpp's own quantiser, prebuilt in cyllama, and a look at what is really inside a GGUF."""

import hashlib
import math
import mmap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lorikeet.engine.binding import tensors_of_file

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
    types: Counter[str] = Counter()
    fell_back: Counter[str] = Counter()
    digest = hashlib.sha256()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        for tensor in tensors_of_file(path):
            types[tensor.kind] += math.prod(tensor.shape)
            if "_K" in quantisation and len(tensor.shape) > 1 and tensor.shape[0] % _BLOCK and "_K" not in tensor.kind and tensor.kind != "F32":
                fell_back[tensor.kind] += 1
            digest.update(f"{tensor.name}:{tensor.kind}:{tensor.shape}".encode())
            with memoryview(raw)[tensor.start : tensor.end] as data:
                digest.update(data)
    weights = sum(types.values())
    size = path.stat().st_size
    return Inside(quantisation, size, weights, round(size * 8 / weights, 3), dict(types), dict(fell_back), digest.hexdigest())
