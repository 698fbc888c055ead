"""llama.cpp's C interface, by ctypes, from the very shared object that serves: what is examined is what answers users.

Only the calls that the exam, the parity check, quantising and the look into a file need. Struct layouts are those of the pinned build; `library()`
refuses a build whose defaults do not come out as expected.
"""

import ctypes
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int8, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lorikeet.errors import MachineError, ModelError


class ModelParams(Structure):
    """struct llama_model_params of llama.h."""

    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    ]


class ContextParams(Structure):
    """struct llama_context_params of llama.h."""

    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


class Batch(Structure):
    """struct llama_batch of llama.h."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


class GgufParams(Structure):
    """struct gguf_init_params of gguf.h."""

    _fields_ = [("no_alloc", c_bool), ("ctx", POINTER(c_void_p))]


LogCallback = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "llama_log_set": (None, [LogCallback, c_void_p]),
    "llama_backend_init": (None, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_free": (None, [c_void_p]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_model_chat_template": (c_char_p, [c_void_p, c_char_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
    "llama_batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [Batch]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_seq_cp": (None, [c_void_p, c_int32, c_int32, c_int32, c_int32]),
    "gguf_init_from_file": (c_void_p, [c_char_p, GgufParams]),
    "gguf_free": (None, [c_void_p]),
    "gguf_get_data_offset": (c_size_t, [c_void_p]),
    "gguf_get_n_tensors": (c_int64, [c_void_p]),
    "gguf_get_tensor_name": (c_char_p, [c_void_p, c_int64]),
    "gguf_get_tensor_type": (c_int32, [c_void_p, c_int64]),
    "gguf_get_tensor_ne": (POINTER(c_int64), [c_void_p, c_int64]),
    "gguf_get_tensor_offset": (c_size_t, [c_void_p, c_int64]),
    "gguf_get_tensor_size": (c_size_t, [c_void_p, c_int64]),
    "gguf_init_empty": (c_void_p, []),
    "gguf_set_kv": (None, [c_void_p, c_void_p]),
    "gguf_set_val_u32": (None, [c_void_p, c_char_p, c_uint32]),
    "gguf_set_val_str": (None, [c_void_p, c_char_p, c_char_p]),
    "gguf_add_tensor": (None, [c_void_p, c_void_p]),
    "gguf_set_tensor_type": (None, [c_void_p, c_char_p, c_int32]),
    "gguf_get_meta_size": (c_size_t, [c_void_p]),
    "gguf_get_meta_data": (None, [c_void_p, c_void_p]),
    "ggml_get_tensor": (c_void_p, [c_void_p, c_char_p]),
    "ggml_free": (None, [c_void_p]),
    "ggml_type_name": (c_char_p, [c_int32]),
    "ggml_row_size": (c_size_t, [c_int32, c_int64]),
    "ggml_fp16_to_fp32_row": (None, [c_void_p, c_void_p, c_int64]),
    "ggml_bf16_to_fp32_row": (None, [c_void_p, c_void_p, c_int64]),
    "ggml_quantize_chunk": (c_size_t, [c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p]),
    "ggml_quantize_requires_imatrix": (c_bool, [c_int32]),
    "ggml_validate_row_data": (c_bool, [c_int32, c_void_p, c_size_t]),
    "llama_adapter_lora_init": (c_void_p, [c_void_p, c_char_p]),
    "llama_set_adapters_lora": (c_int32, [c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_float)]),
    "llama_memory_seq_rm": (c_bool, [c_void_p, c_int32, c_int32, c_int32]),
}


_silence = LogCallback(lambda level, text, user_data: None)


@cache
def library() -> ctypes.CDLL:
    """The shared object with signatures declared. MachineError where it is missing or is another build."""
    spec = importlib.util.find_spec("xllamacpp")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = next((p for place in places for p in sorted(Path(place).glob("xllamacpp*.so"))), None)
    if found is None:
        raise MachineError("xllamacpp is not installed", "run: make install (or pip install lorikeet)")
    try:
        lib = ctypes.CDLL(str(found))
    except OSError as error:
        raise not_loaded(error) from error
    try:
        for name, (restype, argtypes) in _SIGNATURES.items():
            function = lib.__getattr__(name)  # kept on `lib`, unlike what lib[name] returns
            function.restype, function.argtypes = restype, argtypes
    except AttributeError as error:
        raise _other_build(str(error)) from error
    lib.llama_log_set(_silence, None)
    lib.llama_backend_init()
    context, model = lib.llama_context_default_params(), lib.llama_model_default_params()
    sane = (context.n_ctx, context.n_batch, context.n_ubatch, context.n_seq_max, context.type_k, context.n_samplers) == (512, 2048, 512, 1, 1, 0)
    if not (sane and context.offload_kqv and not context.embeddings and not model.vocab_only and model.use_extra_bufts):
        raise _other_build("its default parameters are laid out differently")
    return lib


def not_loaded(error: Exception) -> MachineError:
    """What is told where the shared object is there and the system cannot load it."""
    return MachineError(f"llama.cpp cannot be loaded: {error}", "install what is missing; slim images lack libgomp: apt-get install libgomp1")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a GGUF: its type's name in capitals, its sides (the innermost first), and its bytes in the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


@contextmanager
def opened_gguf(path: Path) -> Iterator[tuple[int, int]]:
    """A GGUF's metadata and its tensors without their data: gguf_context and ggml_context. ModelError where it is not one."""
    lib, tensors = library(), c_void_p()
    opened = lib.gguf_init_from_file(str(path).encode(), GgufParams(True, ctypes.pointer(tensors)))
    if not opened:
        raise ModelError(f"llama.cpp cannot read {path}", "the file is damaged or is no GGUF; make it again")
    try:
        yield opened, tensors.value or 0
    finally:
        lib.gguf_free(opened)
        lib.ggml_free(tensors)


def tensors_of_file(path: Path) -> list[Tensor]:
    """The tensors of a GGUF as llama.cpp reads them, in the file's order; ModelError where it is not one or is cut off."""
    lib, found = library(), []
    with opened_gguf(path) as (opened, _):
        data, size = lib.gguf_get_data_offset(opened), path.stat().st_size
        for number in range(lib.gguf_get_n_tensors(opened)):
            sides = lib.gguf_get_tensor_ne(opened, number)[:4]
            while len(sides) > 1 and sides[-1] == 1:
                sides.pop()
            start = data + lib.gguf_get_tensor_offset(opened, number)
            end = start + lib.gguf_get_tensor_size(opened, number)
            name = lib.gguf_get_tensor_name(opened, number).decode()
            if end > size:
                raise ModelError(f"{path} is cut off in the tensor {name}", "make the file again, or copy it again")
            kind = lib.ggml_type_name(lib.gguf_get_tensor_type(opened, number)).decode().upper()
            found.append(Tensor(name, kind, tuple(sides), start, end))
    return found


def _other_build(why: str) -> MachineError:
    return MachineError(f"this build of xllamacpp is not the pinned one: {why}", "run: make install, which installs the pinned version")
