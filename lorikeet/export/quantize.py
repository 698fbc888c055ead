"""A quantisation of a GGUF, written block of rows by block of rows: llama.cpp's own types, header and rounding, in the memory of a few rows.

llama.cpp's quantiser holds a tensor several times over. The file is the same to the byte. And a look at what is really inside a GGUF.
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import byref, create_string_buffer
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lorikeet.engine.binding import Tensor, library, opened_gguf, tensors_of_file
from lorikeet.errors import ModelError
from lorikeet.export.mixture import Importance, Placed, file_type, mixture, tensor_type

_WEIGHTS = 1 << 18
"""Weights that a thread holds at a time, as float32 and quantised: a megabyte of floats stays in a core's cache."""
_COPIED = 1 << 24
"""Bytes that are read at a time where nothing is rounded."""
_QUANTISATION_VERSION = 2
"""GGML_QNT_VERSION of ggml.h."""
_ALIGNMENT = 32
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")


@dataclass(frozen=True)
class Inside:
    """What a GGUF holds. bits_a_weight is the whole file's; types counts weights; fell_back counts tensors by the type they got instead of the one meant."""

    quantisation: str
    bytes: int
    weights: int
    bits_a_weight: float
    types: dict[str, int]
    fell_back: dict[str, int]
    tensors_sha256: str
    imatrix: bool = False


@dataclass(frozen=True)
class How:
    """How a file is quantised beside its kind: what each tensor's columns count, a type by a regular expression over names, notes for its metadata."""

    importance: Importance = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str | int] = field(default_factory=dict)


def quantize(source: Path, target: Path, quantisation: str, threads: int, how: How | None = None) -> dict[str, int]:
    """Quantise an F16, BF16 or F32 GGUF; returns how many tensors fell back to each type, since their rows do not divide by what the one meant needs.

    ModelError where a tensor holds what is not a number, and where a type needs an importance that the tensor has not.
    """
    how = how or How()
    planned, fell_back = mixture(source, quantisation, importance=bool(how.importance), overrides=how.overrides)
    there = {tensor.name: tensor for tensor in tensors_of_file(source)}
    for placed in planned:
        _require_importance(placed, there[placed.name], how.importance, quantisation)
    with source.open("rb") as read, target.open("wb") as out, ThreadPoolExecutor(threads) as pool:
        out.write(_header(source, quantisation, planned, how.notes))
        for placed in planned:
            tensor = there[placed.name]
            written = _copy(read, out, tensor) if placed.before == placed.after else _round(read, out, tensor, placed, how.importance, pool, threads)
            out.write(bytes(-written % _ALIGNMENT))
    return dict(Counter(placed.after for placed in fell_back))


def _require_importance(placed: Placed, tensor: Tensor, importance: Importance, quantisation: str) -> None:
    """llama.cpp's lowest types round blindly without an importance, and its library ends the process: ModelError before."""
    values = importance.get(placed.name)
    if values is not None and values.size != tensor.shape[0] * math.prod(tensor.shape[2:]):
        raise ModelError(f"the importance matrix has {values.size} columns for {placed.name}, which has {tensor.shape[0]}", "make it of the same model")
    if (
        values is None
        and placed.name not in _EMBEDDINGS
        and placed.before != placed.after
        and library().ggml_quantize_requires_imatrix(tensor_type(placed.after))
    ):
        raise ModelError(f"{quantisation} stores {placed.name} as {placed.after}, for which its importance has to be known",
                         "leave this quantisation out, or give the tensor another type in export.tensor_types")  # fmt: skip


def _header(source: Path, quantisation: str, planned: Sequence[Placed], notes: Mapping[str, str | int]) -> bytes:
    """Everything before the data, by llama.cpp's own writer."""
    lib = library()
    with opened_gguf(source) as (opened, tensors):
        made = lib.gguf_init_empty()
        try:
            lib.gguf_set_kv(made, opened)
            lib.gguf_set_val_u32(made, b"general.quantization_version", _QUANTISATION_VERSION)
            lib.gguf_set_val_u32(made, b"general.file_type", file_type(quantisation))
            for key, value in notes.items():
                if isinstance(value, int):
                    lib.gguf_set_val_u32(made, key.encode(), value)
                else:
                    lib.gguf_set_val_str(made, key.encode(), value.encode())
            for placed in planned:
                lib.gguf_add_tensor(made, lib.ggml_get_tensor(tensors, placed.name.encode()))
                lib.gguf_set_tensor_type(made, placed.name.encode(), tensor_type(placed.after))
            data = create_string_buffer(lib.gguf_get_meta_size(made))
            lib.gguf_get_meta_data(made, byref(data))
            return data.raw
        finally:
            lib.gguf_free(made)


def _require_numbers(name: str, kind: str, raw: bytes | memoryview) -> None:
    """ModelError where rows hold what is not a number or is infinite, in the judgement of llama.cpp."""
    start = np.frombuffer(raw, np.uint8).ctypes.data
    if not library().ggml_validate_row_data(tensor_type(kind), start, len(raw)):
        raise ModelError(f"{name} holds what is not a number", "the weights are damaged, or training ran away: see lorikeet diagnose")


def _copy(read: BinaryIO, out: BinaryIO, tensor: Tensor) -> int:
    read.seek(tensor.start)
    left = tensor.end - tensor.start
    while left:
        block = read.read(min(left, _COPIED))
        _require_numbers(tensor.name, tensor.kind, block)
        out.write(block)
        left -= len(block)
    return tensor.end - tensor.start


def _round(read: BinaryIO, out: BinaryIO, tensor: Tensor, placed: Placed, importance: Importance, pool: ThreadPoolExecutor, threads: int) -> int:
    """Write a tensor in another type. One of experts has an importance for each of them."""
    columns, rows, matrices = tensor.shape[0], tensor.shape[1], math.prod(tensor.shape[2:])
    counts, written = importance.get(placed.name), 0
    width = (tensor.end - tensor.start) // (rows * matrices)
    part = max(1, _WEIGHTS // columns)
    read.seek(tensor.start)
    under_way: deque[Future[memoryview]] = deque()
    for matrix in range(matrices):
        own = None if counts is None else np.ascontiguousarray(counts.reshape(matrices, columns)[matrix], np.float32)
        for first in range(0, rows, part):
            under_way.append(pool.submit(_quantized, read.read(min(part, rows - first) * width), columns, placed, own))
            while len(under_way) > 2 * threads:
                written += out.write(under_way.popleft().result())
    while under_way:
        written += out.write(under_way.popleft().result())
    return written


def _quantized(raw: bytes, columns: int, placed: Placed, counts: NDArray[np.float32] | None) -> memoryview:
    """Some rows in a type of ggml's; the calls do not hold Python's lock."""
    _require_numbers(placed.name, placed.before, raw)
    lib, kind = library(), tensor_type(placed.after)
    values = _as_float(raw, placed.before)
    rows = values.size // columns
    made = np.empty(rows * lib.ggml_row_size(kind, columns), np.uint8)
    lib.ggml_quantize_chunk(kind, values.ctypes.data, made.ctypes.data, 0, rows, columns, None if counts is None else counts.ctypes.data)
    _require_numbers(placed.name, placed.after, made.data)
    return made.data


def _as_float(raw: bytes, kind: str) -> NDArray[np.float32]:
    if kind == "F32":
        return np.frombuffer(raw, np.float32)
    if kind not in ("F16", "BF16"):
        raise ModelError(f"a tensor of type {kind} is quantised already", "quantise the F16 file it was made from")
    values = np.empty(len(raw) // 2, np.float32)
    convert = library().ggml_fp16_to_fp32_row if kind == "F16" else library().ggml_bf16_to_fp32_row
    convert(raw, values.ctypes.data, values.size)
    return values


def look_inside(path: Path, quantisation: str, fell_back: Mapping[str, int] | None = None, *, imatrix: bool = False) -> Inside:
    """Read a GGUF's tensors: types, real bits a weight, and a hash over types and data alone.

    Two files of one tensors_sha256 are the same model, whatever they are called.
    """
    types: Counter[str] = Counter()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for tensor in tensors_of_file(path):
            types[tensor.kind] += math.prod(tensor.shape)
            digest.update(f"{tensor.name}:{tensor.kind}:{tensor.shape}".encode())
            file.seek(tensor.start)
            left = tensor.end - tensor.start
            while left:
                block = file.read(min(left, _COPIED))
                digest.update(block)
                left -= len(block)
    weights = sum(types.values())
    size = path.stat().st_size
    return Inside(quantisation, size, weights, round(size * 8 / weights, 3), dict(types), dict(fell_back or {}), digest.hexdigest(), imatrix)
