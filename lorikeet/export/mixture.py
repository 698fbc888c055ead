"""Which type every tensor of a quantisation is stored as: llama.cpp's own quantiser is asked, on a dry run, so that no rule of its is kept here.

cyllama's object for the quantiser's settings hands out neither the importance matrix nor overrides; they are set in the C struct inside it.
"""

import ctypes
import re
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int32, c_size_t, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

from lorikeet.errors import MachineError, ModelError

Importance = Mapping[str, NDArray[np.float32]]
"""What every column of a tensor counts when it is rounded, by the tensor's name: mean squares of what goes in, of shape (columns,)."""


class Placed(NamedTuple):
    """A tensor, its type in the source and its type in the quantised file, by their names in capitals."""

    name: str
    before: str
    after: str


class Mixture(NamedTuple):
    """The tensors in the order in which llama.cpp writes them, and those that could not have the type meant for them: name, type meant, type given."""

    tensors: list[Placed]
    fell_back: list[Placed]


class _Importance(Structure):
    """struct llama_model_imatrix_data of llama.h."""

    _fields_ = [("name", c_char_p), ("data", POINTER(c_float)), ("size", c_size_t)]


class _Override(Structure):
    """struct llama_model_tensor_override of llama.h."""

    _fields_ = [("pattern", c_char_p), ("type", c_int32)]


class _Params(Structure):
    """struct llama_model_quantize_params of llama.h."""

    _fields_ = [
        ("nthread", c_int32),
        ("ftype", c_int32),
        ("output_tensor_type", c_int32),
        ("token_embedding_type", c_int32),
        ("allow_requantize", c_bool),
        ("quantize_output_tensor", c_bool),
        ("only_copy", c_bool),
        ("pure", c_bool),
        ("keep_split", c_bool),
        ("dry_run", c_bool),
        ("imatrix", POINTER(_Importance)),
        ("kv_overrides", c_void_p),
        ("tt_overrides", POINTER(_Override)),
        ("prune_layers", c_void_p),
    ]


class QuantizerError(Exception):
    """llama.cpp's quantiser refused; its last words."""


_TENSOR = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\w+), size = [^\n]*?(?:\((\w+)\))?\n")
_FALLBACK = re.compile(r"warning: (\S+) +- ncols +\d+ not divisible by +\d+ \(required for type +(\w+)\) [^\n]*-> falling back to +(\w+)")
_MARK = 0x5EED


def file_type(quantisation: str) -> int:
    """llama.cpp's number of a kind of file (llama_ftype of llama.h)."""
    return int(LlamaFileType[f"MOSTLY_{quantisation}"])


def tensor_type(name: str) -> int:
    """The number that ggml gives a type of tensor (ggml_type of ggml.h)."""
    return int(GGMLQuantizationType[name])


def mixture(source: Path, quantisation: str, *, importance: bool = False, overrides: Mapping[str, str] | None = None) -> Mixture:
    """What the quantiser would make of every tensor of a GGUF.

    importance: whether there is an importance matrix, which changes what some tensors get. overrides: a type by a regular expression over tensor names,
    the first that matches counts. ModelError where the quantiser refuses, where tensors need an importance matrix that is not there, and where an override
    matches no tensor.
    """
    entries = {"": np.zeros(0, np.float32)} if importance else None
    try:
        said = run_quantizer(source, source.with_suffix(".none"), quantisation, threads=1, importance=entries, overrides=overrides, dry_run=True)
    except QuantizerError as error:
        raise ModelError(f"llama.cpp cannot make {quantisation} of {source.name}: {error}", "leave this quantisation out of export.quantisations") from error
    if "will require an imatrix" in said:
        raise ModelError(f"{quantisation} needs an importance matrix", "write export.imatrix: low or all, or leave this quantisation out")
    found = [Placed(name, before.upper(), (after or before).upper()) for name, before, after in _TENSOR.findall(said)]
    if not found:
        raise MachineError("this build of cyllama tells of its quantising in other words than the pinned one", "run: make install")
    for pattern in overrides or {}:
        if not any(re.search(pattern, placed.name) for placed in found):
            raise ModelError(f"export.tensor_types: {pattern!r} is in the name of no tensor of {source.name}",
                             f"its tensors are called like {found[-1].name}; correct the pattern, or leave it out")  # fmt: skip
    return Mixture(found, [Placed(name, meant.upper(), given.upper()) for name, meant, given in _FALLBACK.findall(said)])


def run_quantizer(
    source: Path, target: Path, quantisation: str, *, threads: int, importance: Importance | None = None, overrides: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> str:  # fmt: skip
    """Run llama.cpp's quantiser as it comes, which holds whole tensors in memory several times, and return what it said. QuantizerError where it refuses."""
    from cyllama.llama import llama_cpp

    params, said = llama_cpp.LlamaModelQuantizeParams(), list[str]()
    params.nthread, params.ftype, params.dry_run = _MARK, file_type(quantisation), dry_run
    inside = _struct_of(params)
    inside.nthread = threads
    kept: list[Any] = []  # what the struct points to has to outlive the call
    if importance is not None:
        kept = [np.ascontiguousarray(values, np.float32) for values in importance.values()]
        listed = [_Importance(name.encode(), values.ctypes.data_as(POINTER(c_float)), values.size) for name, values in zip(importance, kept, strict=True)]
        inside.imatrix = (_Importance * (len(listed) + 1))(*listed)
    if overrides:
        patterns = [_Override(pattern.encode(), tensor_type(kind)) for pattern, kind in overrides.items()]
        inside.tt_overrides = (_Override * (len(patterns) + 1))(*patterns)
    llama_cpp.set_log_callback(lambda level, text: said.append(text))
    try:
        llama_cpp.model_quantize(str(source), str(target), params)
    except RuntimeError as error:
        raise QuantizerError(_last_words(said)) from error
    finally:
        llama_cpp.disable_logging()
    return "".join(said)


def _struct_of(params: Any) -> _Params:
    """The C struct inside cyllama's object, found by the values just put there; MachineError where it is laid out differently."""
    room = type(params).__basicsize__ - ctypes.sizeof(_Params)
    for offset in range(16, room + 1, 8):
        inside = _Params.from_address(id(params) + offset)
        if (inside.nthread, inside.ftype, inside.dry_run) == (_MARK, params.ftype, params.dry_run):
            empty = not (inside.imatrix or inside.kv_overrides or inside.tt_overrides or inside.prune_layers)
            if empty and (inside.output_tensor_type, inside.quantize_output_tensor, inside.pure) == (params.output_tensor_type, True, False):
                return inside
    raise MachineError("this build of cyllama is not the pinned one: its quantiser's settings are laid out differently", "run: make install")


def _last_words(said: Sequence[str]) -> str:
    lines = [line.strip() for line in "".join(said).splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
